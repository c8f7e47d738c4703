"""The two bases: a polynomial-seeded Krylov space, and the matrix formalism's eigenfunctions."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float
from numpy import ndarray
from scipy.linalg import eigh
from scipy.sparse.linalg import LinearOperator, eigsh

from spinmesh.errors import ReductionError
from spinmesh.fem import Matrices, assemble
from spinmesh.mesh import TetMesh
from spinmesh.reduction.projection import Projection
from spinmesh.reduction.shift_invert import Solve, shift_inverse
from spinmesh.reduction.span import Span, factorise, monomials, slowest_rate
from spinmesh.tissue import Tissue

# Below this many unknowns, or for more than this part of all modes, a dense eigen-solve is faster
# (2,000 unknowns: 500 modes 1.1 s against 1.5 s, 200 modes 0.9 s against 0.3 s) and finds
# degenerate modes without fail.
DENSE, DENSE_PART = 600, 0.25
# Relative accuracy asked of Lanczos: a span needs no rounding error, and a fifth less time.
LANCZOS = 1e-8
# Neighbouring eigenvalues closer than this (relative) stay together.
GAP = 1e-3


def krylov_span(mesh: TetMesh, tissue: Tissue, degree: int = 2, blocks: int = 3) -> Span:
    """Polynomials up to `degree` per compartment, and `blocks` shift-inverted images of them.

    Polynomials are what a gradient does to a uniform magnetisation; (S + Q + R + sigma M)^-1 M is
    what diffusion does to it. One factorisation; orthonormal in the mass inner product.
    """
    matrices = assemble(mesh, tissue)
    solve = shift_inverse(matrices, slowest_rate(mesh, tissue))
    return krylov_projection(Projection.empty(mesh, matrices), solve, degree, blocks).span


def krylov_projection(empty: Projection, solve: Solve, degree: int, blocks: int) -> Projection:
    """The polynomials and `blocks` images `solve(M V)`, each of the block before it."""
    mesh, space = empty.mesh, empty.matrices.space
    seed = monomials(mesh.points.detach()[space.dof_point], space.inside, degree).numpy()
    projection = empty.extended(seed)
    last = projection.vectors
    for _ in range(blocks):
        larger = projection.extended(solve(empty.matrices.mass @ last))
        last = larger.vectors[:, projection.size :]
        if last.shape[1] == 0:
            break
        projection = larger
    return projection


def laplace_span(mesh: TetMesh, tissue: Tissue, count: int) -> Span:
    """The lowest `count` Laplace modes, (S + Q) phi = lambda M phi, cut at a spectral gap.

    The count is lowered to the nearest gap so that no degenerate group is torn apart. This is the
    basis of the matrix formalism (Callaghan 1997; Li et al. 2019 for finite elements). Raises
    ReductionError unless 0 < count < number of unknowns.
    """
    matrices = assemble(mesh, tissue)
    modes = laplace_modes(matrices, slowest_rate(mesh, tissue), count)
    return Span(torch.from_numpy(modes), matrices.space, mesh)


def laplace_modes(matrices: Matrices, shift: float, count: int) -> ndarray:
    """The modes themselves, (dof, mode), lowest first; found around -shift (1/ms).

    Raises ReductionError unless 0 < count < number of unknowns.
    """
    size = len(matrices.space)
    if not 0 < count < size:
        raise ReductionError(
            f"laplace basis: {count} modes of {size} unknowns. Ask for 1 to {size - 1}, or refine."
        )
    stiffness = matrices.stiffness + matrices.flux
    values, vectors = lowest_modes(stiffness, matrices.mass, count + 1, shift, LANCZOS)
    return np.ascontiguousarray(vectors[:, : _gap(values, count)])


def lowest_modes(
    stiffness: sp.spmatrix, mass: sp.spmatrix, count: int, shift: float, tolerance: float = 0.0
) -> tuple[Float[ndarray, " mode"], Float[ndarray, "dof mode"]]:
    """Eigenvalues, ascending, and mass-orthonormal modes of stiffness phi = lambda mass phi.

    Found around -shift (units of lambda, > 0), which keeps a singular stiffness regular;
    `tolerance` is Lanczos' (0: rounding).
    """
    size = stiffness.shape[0]
    if size <= DENSE or count > DENSE_PART * size:
        dense: tuple[ndarray, ndarray] = eigh(
            stiffness.toarray(), mass.toarray(), subset_by_index=[0, count - 1]
        )
        return dense
    values, vectors = eigsh(
        stiffness,
        count,
        M=mass,
        sigma=-shift,
        OPinv=LinearOperator((size, size), matvec=factorise(stiffness + shift * mass).solve),
        v0=np.random.default_rng(0).standard_normal(size),
        tol=tolerance,
    )
    order = np.argsort(values)
    return values[order], vectors[:, order]


def _gap(values: ndarray, count: int) -> int:
    """Largest number <= count that ends at a gap."""
    for keep in range(min(count, len(values) - 1), 0, -1):
        if values[keep] - values[keep - 1] > GAP * values[keep]:
            return keep
    return min(count, len(values))
