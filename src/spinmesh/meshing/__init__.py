"""What people have of tissue (surfaces, skeletons, label volumes) to tetrahedra that conform to it.

Import from its modules; the extra `mesher` has the programs that it drives.
"""
