"""The Laplace eigenfunctions: the basis of the matrix formalism."""

from __future__ import annotations

import numpy as np
import torch
from numpy import ndarray
from scipy.linalg import eigh
from scipy.sparse.linalg import LinearOperator, eigsh

from spinmesh.errors import ReductionError
from spinmesh.fem import Matrices, assemble
from spinmesh.mesh import TetMesh
from spinmesh.reduction.span import Span, factorise, slowest_rate
from spinmesh.tissue import Tissue

# Below this many dofs a dense eigen-solve is faster and finds degenerate modes without fail.
DENSE = 600
# Relative accuracy asked of Lanczos: a span needs no rounding error, and a fifth less time.
LANCZOS = 1e-8
# Neighbouring eigenvalues closer than this (relative) stay together.
GAP = 1e-3


def laplace_span(mesh: TetMesh, tissue: Tissue, count: int) -> Span:
    """The lowest `count` Laplace modes, (S + Q) phi = lambda M phi, cut at a spectral gap.

    The count is lowered to the nearest gap so that no degenerate group is torn apart. This is the
    basis of the matrix formalism (Callaghan 1997; Li et al. 2019 for finite elements).
    """
    matrices = assemble(mesh, tissue)
    modes = laplace_modes(matrices, slowest_rate(mesh, tissue), count)
    return Span(torch.from_numpy(modes), matrices.space, mesh)


def laplace_modes(matrices: Matrices, shift: float, count: int) -> ndarray:
    """The modes themselves, (dof, mode), lowest first; found around -shift (1/ms)."""
    operator = matrices.stiffness + matrices.flux
    size = len(matrices.space)
    if not 0 < count < size:
        raise ReductionError(
            f"laplace basis: {count} modes of {size} unknowns. Ask for 1 to {size - 1}, or refine."
        )
    # Half of the spectrum or more is no task for Lanczos.
    if size <= DENSE or 2 * count > size:
        values, vectors = eigh(
            operator.toarray(), matrices.mass.toarray(), subset_by_index=[0, count]
        )
    else:
        solve = factorise(operator + shift * matrices.mass).solve
        values, vectors = eigsh(
            operator,
            count + 1,
            M=matrices.mass,
            sigma=-shift,
            OPinv=LinearOperator((size, size), matvec=solve),
            v0=np.random.default_rng(0).standard_normal(size),
            tol=LANCZOS,
        )
    order = np.argsort(values)
    values, vectors = values[order], vectors[:, order]
    return np.ascontiguousarray(vectors[:, : _gap(values, count)])


def _gap(values: ndarray, count: int) -> int:
    """Largest number <= count that ends at a gap."""
    for keep in range(min(count, len(values) - 1), 0, -1):
        if values[keep] - values[keep - 1] > GAP * values[keep]:
            return keep
    return min(count, len(values))
