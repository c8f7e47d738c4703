"""The frozen basis, and what both kinds are built from: solves, polynomials, orthonormalisation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float
from scipy.sparse.linalg import SuperLU, splu
from torch import Tensor

from spinmesh.fem import Matrices, Space
from spinmesh.mesh import TetMesh
from spinmesh.tissue import Tissue

# Directions this much smaller than before orthogonalisation are rounding, not span: the Gram matrix
# of a hundred columns has eigenvalues of 1e-15 where there is nothing.
DEPENDENT = 1e-7


@dataclass(frozen=True, eq=False)
class Span:
    """A frozen, mass-orthonormal basis V of finite-element functions on one connectivity."""

    vectors: Float[Tensor, "dof mode"]
    space: Space
    mesh: TetMesh

    @property
    def size(self) -> int:
        """Number of modes k."""
        return self.vectors.shape[1]


def factorise(matrix: sp.spmatrix) -> SuperLU:
    """Sparse factorisation of a symmetric positive definite matrix (symmetric ordering)."""
    return splu(
        matrix.tocsc(),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )


def slowest_rate(mesh: TetMesh, tissue: Tissue) -> float:
    """D (pi/size)^2: the slowest diffusive rate of a cell as long as the mesh (1/ms)."""
    low, high = mesh.bounding_box
    diffusivity = tissue.diffusivity.detach().diagonal(dim1=-2, dim2=-1).mean()
    return float(diffusivity * (torch.pi / (high - low).max()) ** 2)


def monomials(mesh: TetMesh, matrices: Matrices, degree: int) -> np.ndarray:
    """x^i y^j z^k with i+j+k <= degree, centred and scaled, one set per compartment."""
    space = matrices.space
    points = mesh.points.detach()[space.dof_point]
    columns = []
    for label in mesh.labels:
        inside = space.dof_compartment == label
        own = points[inside]
        centre, scale = own.mean(0), (own - own.mean(0)).abs().amax(0)
        x = ((points - centre) / scale).numpy()
        for i, j, k in exponents(degree):
            values = x[:, 0] ** i * x[:, 1] ** j * x[:, 2] ** k
            columns.append(np.where(inside.numpy(), values, 0.0))
    return np.stack(columns, 1)


def exponents(degree: int) -> list[tuple[int, int, int]]:
    """(i, j, k) with i + j + k <= degree."""
    every = range(degree + 1)
    return [(i, j, k) for i in every for j in every for k in every if i + j + k <= degree]


def orthonormal(block: np.ndarray, basis: np.ndarray, mass: sp.spmatrix) -> np.ndarray:
    """M-orthonormal part of `block` outside `basis`; dependent directions are dropped.

    Projection and normalisation are done twice, which keeps V'MV = 1 to rounding.
    """
    block = block[:, block.any(0)]
    for _ in range(2):
        massed = mass @ block
        scale = 1 / np.sqrt(np.einsum("ij,ij->j", block, massed))
        block = scale * block - basis @ (basis.T @ (scale * massed))
        values, vectors = np.linalg.eigh(block.T @ (mass @ block))
        keep = values > DEPENDENT**2 * max(values.max(initial=0.0), 1.0)
        block = block @ (vectors[:, keep] / np.sqrt(values[keep]))
    return block
