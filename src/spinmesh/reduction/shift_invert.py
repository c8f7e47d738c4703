"""(S + Q + R + sigma M)^-1: sparse factors where they are cheap, conjugate gradients beyond.

A span needs directions, not digits: residuals solved to a few digits serve as well as exact ones,
and the error estimate judges whatever basis comes out (docs/decisions/0003).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Inexact, Int
from numpy import ndarray
from scipy.sparse.csgraph import reverse_cuthill_mckee
from scipy.sparse.linalg import LinearOperator

from spinmesh.errors import ReductionError
from spinmesh.fem import Matrices, Space
from spinmesh.mesh import TET_EDGES
from spinmesh.reduction.span import factorise

Solve = Callable[[ndarray], ndarray]

# Numbers of a band-like factor from which on conjugate gradients are quicker: a ball of 6,000
# unknowns has 2e6, a neuron of 13,000 has 1.5e6.
MOST_DIRECT = 2_000_000
# Relative accuracy of the iterative solve, in the norm of its preconditioner.
RELATIVE = 1e-2
# Vertices of 10-node tets beyond which a third level is quicker than factors: of 32,000 these take
# 4 s, of 60,000 a minute.
MOST_FACTORED = 40_000
# Dofs per cube of the coarse space of straight tets.
CLUSTER = 40
MOST_ITERATIONS = 2_000
# Columns that conjugate gradients work on at once; of more the arrays would be the most of memory.
TOGETHER = 16


def shift_inverse(matrices: Matrices, shift: float) -> Solve:
    """x -> (S + Q + R + shift M)^-1 x; a shift (1/ms) > 0 keeps a sealed cell's matrix regular.

    Exact where factors are small; beyond, to RELATIVE by conjugate gradients, preconditioned by
    multigrid: below 10-node tets the straight elements on the same tets, below 4-node tets clusters
    of nodes.
    """
    operator = (matrices.decay + shift * matrices.mass).tocsr()
    if envelope(operator) <= MOST_DIRECT:
        solve: Solve = factorise(operator).solve
        return solve
    precondition = multigrid(operator, matrices)

    def solve_in_parts(right: ndarray) -> ndarray:
        parts = np.array_split(right, -(-right.shape[1] // TOGETHER), axis=1)
        return np.hstack([_to_few_digits(operator, part, precondition) for part in parts])

    return solve_in_parts


def envelope(operator: sp.csr_matrix) -> int:
    """Numbers that a Cholesky factor has at most, by reverse Cuthill-McKee's order of unknowns."""
    order = reverse_cuthill_mckee(operator, symmetric_mode=True)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    first = np.minimum.reduceat(place[operator.indices], operator.indptr[:-1])
    return int((place - first + 1).sum())


def _linear_functions(space: Space) -> sp.csr_matrix:
    """Coefficients of the 4-node shape functions in the 10-node ones, (dof, vertex)."""
    dofs = space.tet_dofs.numpy()
    vertices, corner = np.unique(dofs[:, :4], return_inverse=True)
    corner = corner.reshape(-1, 4)
    middles, first = np.unique(dofs[:, 4:], return_index=True)
    ends = corner[:, np.array(TET_EDGES)].reshape(-1, 2)[first]
    rows = np.concatenate([vertices, np.repeat(middles, 2)])
    columns = np.concatenate([np.arange(len(vertices)), ends.ravel()])
    values = np.concatenate([np.ones(len(vertices)), np.full(2 * len(middles), 0.5)])
    return sp.csr_matrix((values, (rows, columns)), shape=(len(space), len(vertices)))


def _clusters(
    operator: sp.csr_matrix,
    mass: Float[ndarray, " dof"],
    moments: Float[ndarray, "3 dof"],
    compartment: Int[ndarray, " dof"],
) -> sp.csr_matrix:
    """One smoothed indicator per cube of about CLUSTER dofs and compartment, (dof, cluster).

    Smoothed aggregation (Vanek, Mandel & Brezina 1996) with cubes for aggregates.
    """
    side = (mass.sum() * CLUSTER / len(mass)) ** (1 / 3)
    cubes = np.floor(moments / mass / side).astype(np.int64)
    number = np.unique(np.vstack([compartment, cubes]), axis=1, return_inverse=True)[1].ravel()
    rows = np.arange(len(mass))
    indicator = sp.csr_matrix((np.ones(len(mass)), (rows, number)))
    inverse = 1 / operator.diagonal()
    damping = 4 / 3 / _largest_eigenvalue(operator, inverse)
    return indicator - sp.diags(damping * inverse) @ (operator @ indicator)


def _largest_eigenvalue(operator: sp.csr_matrix, inverse: Float[ndarray, " dof"]) -> float:
    """Of D^-1 A, by 15 power steps and a tenth more: they approach it from below."""
    vector = np.random.default_rng(0).standard_normal(len(inverse))
    for _ in range(15):
        vector = inverse * (operator @ (vector / np.linalg.norm(vector)))
    return 1.1 * float(np.linalg.norm(vector))


def multigrid(operator: sp.csr_matrix, matrices: Matrices) -> Solve:
    """One cycle for a positive combination of decay and mass, in single precision.

    Complex columns are taken as pairs of real ones.
    """
    cycle = _levels(operator.astype(np.float32), matrices)

    def precondition(right: ndarray) -> ndarray:
        real = np.ascontiguousarray(right).view(np.float64)
        return cycle(real.astype(np.float32)).astype(np.float64).view(right.dtype)

    return precondition


def _levels(operator: sp.csr_matrix, matrices: Matrices) -> Solve:
    """Of 10-node tets the 4-node ones, then clusters; the last is factorised."""
    mass = matrices.mass.sum(1).A1
    moments = np.stack([moment.sum(1).A1 for moment in matrices.moments])
    compartment = matrices.space.dof_compartment.numpy()
    if matrices.space.tet_dofs.shape[1] == 4:
        clusters = _clusters(operator, mass, moments, compartment)
        return _cycle(operator, clusters, factorise(clusters.T @ operator @ clusters).solve)
    linear = _linear_functions(matrices.space)
    coarse = (linear.T @ operator @ linear).tocsr()
    if coarse.shape[0] <= MOST_FACTORED:
        solve = factorise(coarse).solve
    else:
        vertices = np.unique(matrices.space.tet_dofs[:, :4])
        clusters = _clusters(coarse, linear.T @ mass, moments @ linear, compartment[vertices])
        solve = _cycle(coarse, clusters, factorise(clusters.T @ coarse @ clusters).solve)
    return _cycle(operator, linear, solve)


def _cycle(operator: sp.csr_matrix, coarse: sp.csr_matrix, solve: Solve) -> Solve:
    """Symmetric multigrid cycle: smooth, correct on the level below by `solve`, smooth."""
    smooth = _chebyshev(operator)

    coarse = coarse.astype(operator.dtype)

    def cycle(right: ndarray) -> ndarray:
        x = smooth(right)
        x += coarse @ solve(coarse.T @ (right - operator @ x))
        x += smooth(right - operator @ x)
        return x

    return cycle


def _chebyshev(operator: sp.csr_matrix) -> Solve:
    """Two Chebyshev steps on the upper four fifths of the spectrum of D^-1 A, D the diagonal."""
    inverse = 1 / operator.diagonal()
    high = _largest_eigenvalue(operator, inverse)
    middle, half = high * 0.6, high * 0.4
    ratio = 1 / (2 * middle / half - half / middle)
    first, second = inverse[:, None] / middle, inverse[:, None] * 2 * ratio / half

    # What is large is changed in place: these arrays are what solves wait for.
    def smooth(right: ndarray) -> ndarray:
        x = first * right
        left = right - operator @ x
        left *= second
        x *= 1 + ratio * half / middle
        x += left
        return np.asarray(x)

    return smooth


def _to_few_digits(operator: sp.csr_matrix, right: ndarray, precondition: Solve) -> ndarray:
    """To RELATIVE, in the norm of the preconditioner."""
    start = _products(right, precondition(right))
    return conjugate_gradients(
        operator, right, precondition, lambda _, energy: bool((energy <= RELATIVE**2 * start).all())
    )


def conjugate_gradients(
    operator: sp.csr_matrix | LinearOperator,
    right: Inexact[ndarray, "dof column"],
    precondition: Solve,
    done: Callable[[ndarray, ndarray], bool],
) -> Inexact[ndarray, "dof column"]:
    """All columns at once, each with its own step lengths, for an operator that is symmetric.

    It may be complex, and one of its own for each column (van der Vorst & Melissen, IEEE Trans.
    Magn. 26, 1990). `done` is asked with residuals, and with their products with what the
    preconditioner makes of them. ReductionError if it never says yes.
    """
    x, residual = np.zeros_like(right), right.copy()
    direction = precondition(residual)
    energy = _products(residual, direction)
    for _ in range(MOST_ITERATIONS):
        if done(residual, energy):
            return x
        image = operator @ direction
        length = _ratio(energy, _products(direction, image))
        x += length * direction
        image *= length
        residual -= image
        preconditioned = precondition(residual)
        before, energy = energy, _products(residual, preconditioned)
        direction *= _ratio(energy, before)
        direction += preconditioned
    raise ReductionError(
        f"conjugate gradients: {MOST_ITERATIONS} steps do not solve {len(right):,} unknowns. "
        "Improve the flattest tets of the mesh."
    )


def _products(first: ndarray, second: ndarray) -> Inexact[ndarray, " column"]:
    """Of the columns of one with those of the other."""
    return np.asarray(np.einsum("ij,ij->j", first, second))


def _ratio(above: ndarray, below: ndarray) -> ndarray:
    """above/below, zero for columns that are already solved exactly."""
    return np.divide(above, below, out=np.zeros_like(above), where=below != 0)
