"""Reduced bases: the Laplace eigenfunctions and the polynomial-seeded shift-invert Krylov space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float
from scipy.sparse.linalg import SuperLU, eigsh, splu
from torch import Tensor

from spinmesh.errors import ReductionError
from spinmesh.fem import Matrices, Space, assemble
from spinmesh.mesh import TetMesh
from spinmesh.tissue import Tissue

# Directions this much smaller than before orthogonalisation are rounding, not span.
DEPENDENT = 1e-10
# Below this many dofs a dense eigen-solve is faster and finds degenerate modes without fail.
DENSE = 600


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


def krylov_span(mesh: TetMesh, tissue: Tissue, degree: int = 2, blocks: int = 3) -> Span:
    """Polynomials up to `degree` per compartment, and `blocks` shift-inverted images of them.

    Polynomials are what a gradient does to a uniform magnetisation; (S + Q + R + sigma M)^-1 M is
    what diffusion does to it. One factorisation; orthonormal in the mass inner product.
    """
    matrices = assemble(mesh, tissue)
    operator = matrices.stiffness + matrices.flux + matrices.relaxation
    start = _monomials(mesh, matrices, degree)
    basis = np.empty((len(matrices.space), 0))
    block = _orthonormal(start, basis, matrices.mass)
    # sigma of the order of the slowest decay keeps the operator regular and the images distinct.
    solve = factorise(operator + _shift(mesh, tissue) * matrices.mass)
    for _ in range(blocks):
        basis = np.hstack([basis, block])
        block = _orthonormal(solve.solve(matrices.mass @ block), basis, matrices.mass)
        if block.shape[1] == 0:
            break
    return Span(torch.from_numpy(np.hstack([basis, block])), matrices.space, mesh)


def laplace_span(mesh: TetMesh, tissue: Tissue, count: int) -> Span:
    """The lowest `count` Laplace modes, (S + Q) phi = lambda M phi, cut at a spectral gap.

    The count is lowered to the nearest gap so that no degenerate group is torn apart. This is the
    basis of the matrix formalism (Callaghan 1997; Li et al. 2019 for finite elements).
    """
    matrices = assemble(mesh, tissue)
    operator = matrices.stiffness + matrices.flux
    size = len(matrices.space)
    if not 0 < count < size:
        raise ReductionError(
            f"laplace basis: {count} modes of {size} unknowns. Ask for 1 to {size - 1}, or refine."
        )
    wanted = min(count + 1, size)
    if size <= DENSE:
        values, vectors = _dense_modes(operator, matrices.mass, wanted)
    else:
        shift = _shift(mesh, tissue)
        rng = np.random.default_rng(0)
        values, vectors = eigsh(
            operator, wanted, M=matrices.mass, sigma=-shift, v0=rng.standard_normal(size)
        )
    order = np.argsort(values)
    values, vectors = values[order], vectors[:, order]
    keep = _gap(values, count)
    return Span(torch.from_numpy(np.ascontiguousarray(vectors[:, :keep])), matrices.space, mesh)


def factorise(matrix: sp.spmatrix) -> SuperLU:
    """Sparse factorisation of a symmetric positive definite matrix (symmetric ordering)."""
    return splu(
        matrix.tocsc(),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )


def _dense_modes(operator, mass, count: int) -> tuple[np.ndarray, np.ndarray]:
    from scipy.linalg import eigh

    return eigh(operator.toarray(), mass.toarray(), subset_by_index=[0, count - 1])


def _gap(values: np.ndarray, count: int) -> int:
    """Largest number <= count that ends at a gap: neighbours closer than 1e-3 stay together."""
    for keep in range(min(count, len(values) - 1), 0, -1):
        if values[keep] - values[keep - 1] > 1e-3 * values[keep]:
            return keep
    return min(count, len(values))


def _shift(mesh: TetMesh, tissue: Tissue) -> float:
    """D (pi/size)^2: the slowest diffusive rate of a cell as long as the mesh (1/ms)."""
    low, high = mesh.bounding_box
    diffusivity = tissue.diffusivity.detach().diagonal(dim1=-2, dim2=-1).mean()
    return float(diffusivity * (torch.pi / (high - low).max()) ** 2)


def _monomials(mesh: TetMesh, matrices: Matrices, degree: int) -> np.ndarray:
    """x^i y^j z^k with i+j+k <= degree, centred and scaled, one set per compartment."""
    space = matrices.space
    points = mesh.points.detach()[space.dof_point]
    columns = []
    for label in mesh.labels:
        inside = space.dof_compartment == label
        own = points[inside]
        centre, scale = own.mean(0), (own - own.mean(0)).abs().amax(0)
        x = ((points - centre) / scale).numpy()
        for i in range(degree + 1):
            for j in range(degree + 1 - i):
                for k in range(degree + 1 - i - j):
                    values = x[:, 0] ** i * x[:, 1] ** j * x[:, 2] ** k
                    columns.append(np.where(inside.numpy(), values, 0.0))
    return np.stack(columns, 1)


def _orthonormal(block: np.ndarray, basis: np.ndarray, mass: sp.spmatrix) -> np.ndarray:
    """M-orthonormal part of `block` outside `basis`; dependent directions are dropped.

    Projection and normalisation are done twice, which keeps V'MV = 1 to rounding.
    """
    for _ in range(2):
        block = block / np.sqrt(np.einsum("ij,ij->j", block, mass @ block))
        block = block - basis @ (basis.T @ (mass @ block))
        values, vectors = np.linalg.eigh(block.T @ (mass @ block))
        keep = values > DEPENDENT**2 * max(values.max(initial=0.0), 1.0)
        block = block @ (vectors[:, keep] / np.sqrt(values[keep]))
    return block
