"""The frozen basis, and what both kinds are built from: solves, polynomials, orthonormalisation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy.sparse.linalg import SuperLU, splu
from torch import Tensor

from spinmesh.fem import Space
from spinmesh.mesh import TetMesh
from spinmesh.tissue import Tissue

# Directions this much smaller than before orthogonalisation are rounding, not span: the Gram matrix
# of a hundred columns has eigenvalues of 1e-15 where there is nothing.
DEPENDENT = 1e-7


@dataclass(frozen=True, eq=False)
class Span:
    """A frozen, mass-orthonormal basis V of finite-element functions on one connectivity.

    `core` are the tets whose water is observed, as `ReducedModel.core` says; None: all of them.
    """

    vectors: Float[Tensor, "dof mode"]
    space: Space
    mesh: TetMesh
    core: Bool[Tensor, " tet"] | None = None

    @property
    def size(self) -> int:
        """Number of modes k."""
        return self.vectors.shape[1]


def integrals(
    space: Space, mass: Float[Tensor, "tet node node"]
) -> Float[Tensor, "compartment dof"]:
    """What each function of a space has in the integrals of `ReducedModel.mean`.

    Differentiable in the tets' mass matrices.
    """
    whole = mass.new_zeros(len(space))
    return space.inside.to(mass) * whole.index_add(
        0, space.tet_dofs.flatten(), mass.sum(1).flatten()
    )


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


def monomials(
    position: Float[Tensor, "*shape dof 3"], inside: Float[Tensor, "compartment dof"], degree: int
) -> Float[Tensor, "*shape dof column"]:
    """x^i y^j z^k with i+j+k <= degree, centred and scaled, one set per compartment.

    `inside` is 1 where an unknown belongs to the compartment, 0 elsewhere.
    """
    powers = range(degree + 1)
    exponents = [(i, j, k) for i in powers for j in powers for k in powers if i + j + k <= degree]
    columns = []
    for member in inside:
        points = position[..., member > 0, :]
        centre = points.mean(-2, keepdim=True)
        x, y, z = ((position - centre) / (points - centre).abs().amax(-2, keepdim=True)).unbind(-1)
        columns += [x**i * y**j * z**k * member for i, j, k in exponents]
    return torch.stack(columns, -1)


def orthonormal(
    block: Float[ndarray, "dof column"],
    basis: Float[ndarray, "dof mode"],
    mass: sp.spmatrix,
    dependent: float = DEPENDENT,
) -> Float[ndarray, "dof new"]:
    """M-orthonormal part of `block` outside the M-orthonormal `basis`; dependent ones are dropped.

    Projection and normalisation are done twice, which keeps V'MV = 1 to rounding.
    """
    block = block[:, block.any(0)]
    for _ in range(2):
        massed = mass @ block
        scale = 1 / np.sqrt(np.einsum("ij,ij->j", block, massed))
        block = scale * block - basis @ (basis.T @ (scale * massed))
        values, vectors = np.linalg.eigh(block.T @ (mass @ block))
        keep = values > dependent**2 * max(values.max(initial=0.0), 1.0)
        block = block @ (vectors[:, keep] / np.sqrt(values[keep]))
    return block
