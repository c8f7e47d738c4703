"""The whole finite-element system through time, to a tolerance: the judge of the reduced model.

No basis and no projection. Where the profile is constant, exp(-t M^-1 (A + i gamma g.J)) is a
polynomial in one sparse resolvent, the same fit as in `exponential`: its error is bounded whatever
the matrix, so that the tolerance tells how many terms and how many steps to take
(docs/decisions/0011).
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
from torch import Tensor

from spinmesh.bloch_torrey.basis import check_memory
from spinmesh.bloch_torrey.exponential import steps_and_polynomial
from spinmesh.bloch_torrey.program import Program, Run, Stage, runs
from spinmesh.bloch_torrey.signal import Signals
from spinmesh.errors import ReductionError
from spinmesh.fem import Matrices, assemble
from spinmesh.mesh import TetMesh
from spinmesh.progress import progress
from spinmesh.reduction import factorise
from spinmesh.sequence import Acquisition
from spinmesh.tissue import Tissue
from spinmesh.units import GAMMA

Solve = Callable[[ndarray], ndarray]

# Crouzeix & Palencia (2017): error of a matrix function over that of the scalar fit on its strip.
MATRIX = 1 + 2**0.5
# A fit is no better than rounding.
LEAST_FIT = 1e-13
# Pairs of steps on a curved piece of a profile: at first, and at most.
FIRST_PAIRS, MOST_PAIRS = 4, 128
# The profile's steps are of order 4: twice as many divide their error by 16. Less is relied on.
BETTER = 4
# A curved element's point lies this much farther out, at most, than its nodes.
BULGE = {1: 1.0, 2: 1.125}
# States of so many measurements live at once.
TOGETHER = 64
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
    steps that a varying profile is divided into; these are doubled until it is met. One complex
    factorisation per gradient vector and pulse length. Raises ReductionError if memory or digits do
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
        ends = [self._propagated(start, t, np.zeros(3), LEAST_FIT, {}) for t in times.tolist()]
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
        ket = np.stack([self._through(program.ket, v, fit) for v in vectors], 1)[:, which.ravel()]
        bra = ket.conj() if program.mirror == -1 else ket
        if program.mirror is None:
            bra = np.stack([self._through(program.bra, v, fit) for v in vectors], 1)
            bra = bra[:, which.ravel()]
        after = ket.copy()
        rest = run.rest.numpy()
        for time in np.unique(rest[rest > 0]):
            same = rest == time
            after[:, same] = self._propagated(ket[:, same], float(time), np.zeros(3), fit, solvers)
        return np.asarray((bra * (self.matrices.mass @ after)).sum(0))

    def _through(
        self, stages: Iterable[Stage], vectors: Float[ndarray, "3 axis"], fit: float
    ) -> Complex[ndarray, " dof"]:
        """The uniform state after all stages; equal and opposite ones share their factors."""
        state = np.ones((len(self.matrices.space), 1), dtype=complex)
        solvers: dict[tuple[float, ...], Solve] = {}
        for stage in stages:
            gradient = vectors @ np.array(stage.level)
            state = self._propagated(state, stage.duration, gradient, fit, solvers)
        return state[:, 0]

    def _propagated(
        self,
        state: Complex[ndarray, "dof column"],
        time: float,
        gradient: Float[ndarray, " 3"],
        fit: float,
        solvers: dict[tuple[float, ...], Solve],
    ) -> Complex[ndarray, "dof column"]:
        """exp(-time K) of the states, in steps whose fits err by `fit` at most."""
        height = GAMMA * time * float(np.abs(self._positions @ gradient).max())
        steps, polynomial = steps_and_polynomial(height, fit)
        shift = polynomial.pole * steps / time
        key = (round(shift, 9), *(gradient.round(9) + 0.0))
        opposite = (round(shift, 9), *(-gradient.round(9) + 0.0))
        turned = key != opposite and opposite in solvers
        if turned:
            state = state.conj()
        elif key not in solvers:
            while len(solvers) * len(state) > KEPT:
                del solvers[next(iter(solvers))]
            solvers[key] = self._solver(shift, gradient)
        for _ in range(steps):
            state = polynomial.of(solvers[opposite if turned else key], state)
        return state.conj() if turned else state

    def _solver(self, shift: float, gradient: Float[ndarray, " 3"]) -> Solve:
        """x -> (1 + K/shift)^-1 x, for complex x whatever the matrix."""
        mass = self.matrices.mass
        phases = (
            1j * GAMMA * g / shift * J for g, J in zip(gradient, self._moments, strict=True) if g
        )
        factor = factorise(sum(phases, mass + self.matrices.decay / shift))
        if gradient.any():
            return lambda x: np.asarray(factor.solve(mass @ x))

        def real(x: ndarray) -> ndarray:
            image = mass @ x
            both = factor.solve(np.concatenate([image.real, image.imag], 1))
            return np.asarray(both[:, : x.shape[1]] + 1j * both[:, x.shape[1] :])

        return real
