"""Finite elements for Bloch-Torrey: straight P1 and curved P2 tets, one assembly."""

from spinmesh.fem.assembly import (
    CellMatrices,
    Matrices,
    Pattern,
    Patterns,
    assemble,
    cell_matrices,
    check_tissue,
    jumps,
    summed,
)
from spinmesh.fem.elements import element_matrices, face_mass, quadrature
from spinmesh.fem.periodic import PeriodicMatrices, assemble_periodic, periodic_cells
from spinmesh.fem.space import Part, Space, function_space
