"""The whole finite-element system through time, to a tolerance: the judge of the reduced model.

No basis and no projection. Where the profile is constant, exp(-t M^-1 (A + i gamma g.J)) is a
polynomial in one sparse resolvent, the same fit as in `exponential`: its error is bounded whatever
the matrix, and so is that of a solve that leaves a residual, so that the tolerance tells how many
terms and steps to take, and how well to solve (docs/decisions/0011).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Complex, Float
from numpy import ndarray
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from spinmesh.bloch_torrey.basis import check_memory
from spinmesh.bloch_torrey.exponential import CayleyPolynomial, steps_and_polynomial
from spinmesh.bloch_torrey.program import Program, Run, Stage, runs
from spinmesh.bloch_torrey.signal import Signals
from spinmesh.errors import ReductionError
from spinmesh.fem import Matrices, assemble
from spinmesh.mesh import TetMesh
from spinmesh.progress import progress
from spinmesh.reduction import conjugate_gradients, envelope, factorise, multigrid
from spinmesh.sequence import Acquisition
from spinmesh.tissue import Tissue
from spinmesh.units import GAMMA

Solve = Callable[[ndarray, float], ndarray]

# Crouzeix & Palencia (2017): error of a matrix function over that of the scalar fit on its strip;
# once more what its solves may miss.
MATRIX = 1 + 2**0.5 + 1
# A fit is no better than rounding.
LEAST_FIT = 1e-13
# Pairs of steps on a curved piece of a profile: at first, and at most.
FIRST_PAIRS, MOST_PAIRS = 4, 128
# The profile's steps are of order 4: twice as many divide their error by 16. Less is relied on.
BETTER = 4
# A curved element's point lies this much farther out, at most, than its nodes.
BULGE = {1: 1.0, 2: 1.125}
# Numbers for each unknown of a band-like factor up to which factors are quicker than conjugate
# gradients.
WIDEST = 250
# Least eigenvalue of an element's mass matrix over its diagonal: 0.5, and 0.246 of curved tets of
# balls and tubes (less is relied on).
LEAST_MASS = {1: 0.5, 2: 0.2}
# States of so many measurements live at once.
TOGETHER = 16
# Factors are kept for later stages while they have so many unknowns together.
KEPT = 100_000


@dataclass(frozen=True, eq=False)
class Stepped:
    """Signals, and what they may err by."""

    signals: Signals
    error: float  # of the unweighted signal; a bound where the profile is piecewise constant


def step_signal(
    mesh: TetMesh, tissue: Tissue, acquisition: Acquisition, tolerance: float = 1e-6
) -> Stepped:
    """Signals (um^3 times spin density) of M w' = -(S + Q + R + i gamma f g.J) w.

    Half of `tolerance`, a fraction of the unweighted signal, is for the exponentials, half for the
    steps that a varying profile is divided into; these are doubled until it is met. Thin bodies
    have one complex factorisation per gradient vector and pulse length, others conjugate gradients
    with multigrid, for some measurements at a time. Raises ReductionError if memory or digits do
    not suffice, MeshError or ConfigError as `assemble`.
    """
    check_memory(mesh, "stepping")
    system = System(assemble(mesh, tissue), mesh)
    left = torch.from_numpy(system.unweighted(acquisition))
    share = tolerance / 2 * float(left.min()) / system.spins
    if not share > LEAST_FIT:
        raise _out_of_reach(mesh, tolerance * LEAST_FIT / max(share, LEAST_FIT**2), tolerance)
    signal, missed = system.signals(acquisition, FIRST_PAIRS, share)
    # Straight pieces have a third of the pairs.
    varying = [len(s.steps(1)[0]) != len(s.steps(6)[0]) for s in acquisition.sequences]
    rows = torch.tensor(varying)[acquisition.timing].nonzero()[:, 0]
    pairs, change = FIRST_PAIRS, np.inf if len(rows) else 0.0
    while change > BETTER * tolerance / 2:
        pairs *= 2
        if pairs > MOST_PAIRS:
            raise _out_of_reach(mesh, change / BETTER, tolerance)
        finer = system.signals(acquisition.select(rows), pairs, share)[0]
        change = float(((finer - signal[rows]).abs() / left[rows]).max())
        signal[rows] = finer
    error = missed * system.spins / float(left.min()) + change / BETTER
    if not (error <= tolerance and bool(torch.isfinite(torch.view_as_real(signal)).all())):
        raise _out_of_reach(mesh, error, tolerance)
    return Stepped(Signals(acquisition, signal[None], left[None]), float(error))


def _out_of_reach(mesh: TetMesh, error: float, tolerance: float) -> ReductionError:
    return ReductionError(
        f"{mesh.name}: time stepping leaves an error of {error:.1g} of the unweighted signal; "
        f"{tolerance:g} was asked for. Raise the tolerance or the tissue's T2, or lower the walls' "
        "permeability."
    )


@dataclass(frozen=True, eq=False)
class System:
    """The sparse system of a body, with positions from the middle of its box."""

    matrices: Matrices
    mesh: TetMesh

    @cached_property
    def _moments(self) -> tuple[sp.csr_matrix, ...]:
        return self.matrices.moments_about(self.mesh.bounding_box.mean(0).tolist())

    @cached_property
    def _positions(self) -> Float[ndarray, "point 3"]:
        """Of the nodes (um)."""
        points = self.mesh.points.detach() - self.mesh.bounding_box.mean(0)
        return points.numpy() * BULGE[self.mesh.order]

    @cached_property
    def spins(self) -> float:
        """At the excitation (um^3 times spin density)."""
        return float(self.matrices.mass.sum())

    def unweighted(self, acquisition: Acquisition) -> Float[ndarray, " measurement"]:
        """Spins left at each measurement's echo without any gradient."""
        echo = np.array([s.echo_time for s in acquisition.sequences])[acquisition.timing.numpy()]
        times, which = np.unique(echo, return_inverse=True)
        start = np.ones((len(self.matrices.space), 1), dtype=complex)
        mass = np.asarray(self.matrices.mass.sum(0))[0]
        ends = [self._propagated(start, t, np.zeros((1, 3)), LEAST_FIT, {}) for t in times.tolist()]
        return np.array([mass @ end[:, 0].real for end in ends])[which]

    def signals(
        self, acquisition: Acquisition, pairs: int, tolerance: float
    ) -> tuple[Complex[Tensor, " measurement"], float]:
        """Signals, and a bound of what the exponentials miss as a fraction of all spins."""
        signal = torch.zeros(len(acquisition), dtype=torch.complex128)
        missed = 0.0
        for run in runs(acquisition, pairs):
            count = self._count(run)
            fit = max(10.0 ** np.floor(np.log10(tolerance / (MATRIX * count))), LEAST_FIT)
            # Equal gradients together, so that most share their states.
            order = np.lexsort(run.vectors.flatten(1).T.numpy())
            blocks = torch.from_numpy(order).split(TOGETHER)
            solvers: dict[tuple[float, ...], Solve] = {}
            for rows in progress(blocks, f"{self.mesh.name}, whole"):
                part = Run(run.program, run.rows[rows], run.rest[rows], run.vectors[rows])
                signal[part.rows] = torch.from_numpy(self._of(part, fit, solvers))
            missed = max(missed, MATRIX * count * fit)
        return signal, missed

    def _count(self, run: Run) -> int:
        """Exponentials between excitation and echo, at most."""
        farthest = np.linalg.norm(self._positions, axis=1).max()
        rate = GAMMA * farthest * float(run.vectors[..., 0].norm(dim=1).max())
        stages = run.program.stages if run.program.mirror is None else 2 * run.program.ket
        heights = (rate * stage.duration * stage.strength for stage in stages)
        return 1 + sum(steps_and_polynomial(height)[0] for height in heights)

    def _of(
        self, run: Run, fit: float, solvers: dict[tuple[float, ...], Solve]
    ) -> Complex[ndarray, " measurement"]:
        """bra' M exp(-t A) ket of each measurement."""
        vectors, which = np.unique(run.vectors.numpy(), axis=0, return_inverse=True)
        program: Program = run.program
        ket = self._through(program.ket, vectors, fit)[:, which.ravel()]
        bra = ket.conj() if program.mirror == -1 else ket
        if program.mirror is None:
            bra = self._through(program.bra, vectors, fit)[:, which.ravel()]
        after = ket.copy()
        rest = run.rest.numpy()
        for time in np.unique(rest[rest > 0]):
            same = rest == time
            still = np.zeros((1, 3))
            after[:, same] = self._propagated(ket[:, same], float(time), still, fit, solvers)
        return np.asarray((bra * (self.matrices.mass @ after)).sum(0))

    def _through(
        self, stages: Iterable[Stage], vectors: Float[ndarray, "vector 3 axis"], fit: float
    ) -> Complex[ndarray, "dof vector"]:
        """The uniform state after all stages, of each vector.

        Factors are of one vector, and shared by stages that are equal or opposite; conjugate
        gradients take all vectors at once.
        """
        columns = []
        for some in np.split(vectors, len(vectors)) if self._thin else (vectors,):
            state = np.ones((len(self.matrices.space), len(some)), dtype=complex)
            solvers: dict[tuple[float, ...], Solve] = {}
            for stage in stages:
                gradient = some @ np.array(stage.level)
                state = self._propagated(state, stage.duration, gradient, fit, solvers)
            columns.append(state)
        return np.concatenate(columns, 1)

    def _propagated(
        self,
        state: Complex[ndarray, "dof column"],
        time: float,
        gradient: Float[ndarray, "one_or_column 3"],
        fit: float,
        solvers: dict[tuple[float, ...], Solve],
    ) -> Complex[ndarray, "dof column"]:
        """exp(-time K) of the states, in steps whose fits err by `fit` at most."""
        height = GAMMA * time * float(np.abs(self._positions @ gradient.T).max())
        steps, polynomial = steps_and_polynomial(height, fit)
        shift = polynomial.pole * steps / time
        key, opposite = (
            (round(shift, 9), *(g.ravel() + 0.0)) for g in (gradient.round(9), -gradient.round(9))
        )
        turned = key != opposite and opposite in solvers
        if turned:
            state = state.conj()
        elif key not in solvers:
            while len(solvers) * len(state) > KEPT:
                del solvers[next(iter(solvers))]
            solvers[key] = self._solver(shift, gradient)
        for _ in range(steps):
            state = exponential(polynomial, solvers[opposite if turned else key], state, fit)
        return state.conj() if turned else state

    @cached_property
    def _thin(self) -> bool:
        """Whether factors are small."""
        return envelope(self.matrices.decay + self.matrices.mass) <= WIDEST * len(self._weight)

    @cached_property
    def _weight(self) -> Float[ndarray, " dof"]:
        """Of squares of a residual, whose sum is then no less than its square in M^-1."""
        return 1 / (LEAST_MASS[self.mesh.order] * self.matrices.mass.diagonal())

    def _solver(self, shift: float, gradient: Float[ndarray, "one_or_column 3"]) -> Solve:
        """(x, missed) -> (1 + K/shift)^-1 x of complex columns.

        What each misses is at most `missed` of the uniform state, in the norm of M: exact in bodies
        whose factors are small.
        """
        mass, size = self.matrices.mass, len(self._weight)
        real = (mass + self.matrices.decay / shift).tocsr()
        turns = [(GAMMA / shift * g, J) for g, J in zip(gradient.T, self._moments, strict=True)]
        turns = [(rate, J) for rate, J in turns if rate.any()]

        if self._thin:
            factor = factorise(sum((1j * rate[0] * J for rate, J in turns), real))
            kind = complex if turns else float
            return lambda x, _: _columns(factor.solve(_columns(mass @ x, kind)), complex)

        def product(x: ndarray) -> ndarray:
            image = _columns(real @ _columns(x, float), complex)
            for rate, J in turns:
                image += 1j * rate * _columns(J @ _columns(x, float), complex)
            return image

        operator = LinearOperator((size, size), product, matmat=product, dtype=complex)
        precondition = multigrid(real, self.matrices)

        def solve(x: ndarray, missed: float) -> ndarray:
            def done(residual: ndarray, _: ndarray) -> bool:
                squares = self._weight @ (residual.real**2 + residual.imag**2)
                return bool((squares <= missed**2 * self.spins).all())

            # Where nothing turns or moves, x is the answer.
            return x + conjugate_gradients(operator, mass @ x - operator @ x, precondition, done)

        return solve


def _columns(x: ndarray, kind: type) -> ndarray:
    """Complex columns as pairs of real ones, or back."""
    return np.ascontiguousarray(x).view(kind)


def exponential(
    polynomial: CayleyPolynomial, solve: Solve, state: Complex[ndarray, "dof column"], missed: float
) -> Complex[ndarray, "dof column"]:
    """The polynomial of a state, with solves that together miss `missed`.

    No power of the Cayley transform makes a state larger, so that what one solve misses has twice
    the weight of the coefficients that are left.
    """
    size = np.abs(polynomial.coefficients)
    left = np.cumsum(size[::-1])[::-1]
    result = polynomial.coefficients[0] * state
    for coefficient, weight in zip(polynomial.coefficients[1:], left[1:], strict=True):
        state = 2 * solve(state, missed / (2 * weight * (len(size) - 1))) - state
        result += coefficient * state
    return result
