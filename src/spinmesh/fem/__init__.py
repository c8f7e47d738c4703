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
)
from spinmesh.fem.elements import element_matrices, face_mass, quadrature
from spinmesh.fem.space import Space, function_space

__all__ = [
    "CellMatrices",
    "Matrices",
    "Pattern",
    "Patterns",
    "Space",
    "assemble",
    "cell_matrices",
    "check_tissue",
    "element_matrices",
    "face_mass",
    "function_space",
    "jumps",
    "quadrature",
]
