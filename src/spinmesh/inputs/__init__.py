"""What users bring: read, checked and questioned before anything is computed, and meshed.

Import from its modules, for meshing needs little of what checking a run does.
"""
