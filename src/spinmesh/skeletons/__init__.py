"""Skeletons with radii (neurons, glia, axons, chains of spheres) to tetrahedra and surfaces.

Import from its modules; the extra `mesher` has the programs that it drives.
"""
