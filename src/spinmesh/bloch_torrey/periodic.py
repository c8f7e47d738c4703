"""Signals of a periodic cell: endless tissue, whose water meets no wall at the cell's faces.

In w, the magnetisation without the gradient's phase (fem/periodic.py), the operator is Hermitian,
K(q) = L + i q.C + sum_k (q.D_k.q) N_k, and depends on time through q. It is reduced to a real basis
that grows by residuals of its own states, as in `basis`, and taken through time, where q changes,
by commutator-free steps of order 4 (Blanes & Moan 2006).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import torch
from jaxtyping import Complex, Float
from numpy import ndarray
from torch import Tensor

from spinmesh.bloch_torrey.basis import COLUMNS, GROWTH, check_memory, grown
from spinmesh.bloch_torrey.discretisation import finer_rates, looked_at
from spinmesh.bloch_torrey.error_estimate import largest_change, representatives
from spinmesh.bloch_torrey.exponential import cayley_polynomial
from spinmesh.bloch_torrey.program import mirrored
from spinmesh.bloch_torrey.signal import Signals
from spinmesh.errors import ReductionError
from spinmesh.fem import PeriodicMatrices, assemble_periodic, periodic_cells
from spinmesh.mesh import TetMesh
from spinmesh.reduction import Span, Subspace, restricted, shift_inverse, slowest_rate
from spinmesh.sequence import Acquisition, Sequence
from spinmesh.tissue import Tissue
from spinmesh.units import GAMMA

Steps = list[tuple[float, Float[ndarray, " axis"]]]

# Parts of a change from q = 0 to the largest, and pairs of steps of a curved profile: at first and
# at most; of fewer, the states' own.
FIRST_PARTS, MOST_PARTS, OF_STATES = 8, 256, 4
# Twice as many parts divide their error by 16 in the limit. Less is relied on.
BETTER = 4
# Gauss nodes of a step, and the shares of both in its two exponentials.
NODES = 0.5 + 3**0.5 / 6 * np.array([-1, 1])
SHARES = 0.5 + 3**0.5 / 3 * np.array([[1, -1], [-1, 1]])
# Complex entries of the operators that are worked on at once.
ENTRIES = 2**22


@dataclass(frozen=True, eq=False)
class Periodic:
    """Signals of a cell, their estimated error as a fraction of the unweighted one, and how."""

    signals: Signals
    error: float
    span: Span
    cell: Cell
    parts: int  # of a change of q as large as its largest value
    spins: float  # of the cell at the excitation

    def discretisation_error(self, tissue: Tissue, acquisition: Acquisition) -> float:
        """Estimated error that the elements cause (docs/decisions/0004), not facets of walls."""
        some = looked_at(acquisition)
        finer = replace(self.cell, decay=finer_rates(self.span, self.cell.decay, tissue))
        return largest_change(*(each.signals(some, self.parts) for each in (self.cell, finer)))


def simulate_periodic(
    mesh: TetMesh, tissue: Tissue, acquisition: Acquisition, tolerance: float
) -> Periodic:
    """Signals (um^3 times spin density) of all water of one cell of a mesh with `periods`.

    Basis and time steps may each err by half of `tolerance`. Raises MeshError or ConfigError as
    `assemble`, ReductionError if the tolerance cannot be reached. `signal_of_cell` differentiates.
    """
    check_memory(mesh, "periodic")
    system = assemble_periodic(mesh, tissue)
    longest = max(sequence.echo_time for sequence in acquisition.sequences)
    shift = max(slowest_rate(mesh, tissue), 1 / longest)
    solve = shift_inverse(system.matrices, shift)
    few = representatives(acquisition)

    def enriched(smaller: CellBasis) -> CellBasis:
        return smaller.extended(solve(smaller.residuals(few, max(COLUMNS, smaller.size // GROWTH))))

    signs = [1] + [-1] * len(system.drift) + [1] * len(system.spread)
    empty = CellBasis(system, Subspace.empty(system.matrices.mass, system.operators, signs))
    start = empty.extended(system.matrices.space.inside.numpy().T)
    basis, _, error = grown(
        start, enriched, lambda b: b.cell.signals(few, FIRST_PARTS), tolerance / 2
    )
    parts, signals, change = FIRST_PARTS, basis.cell.signals(few, FIRST_PARTS), np.inf
    while change > BETTER * tolerance / 2:
        parts *= 2
        if parts > MOST_PARTS:
            raise ReductionError(
                f"{mesh.name}: {parts // 2} time steps of a pulse leave an error of "
                f"{change / BETTER:.1g} of the unweighted signal. Raise the tolerance."
            )
        finer = basis.cell.signals(few, parts)
        change, signals = largest_change(signals, finer), finer
    spins = float(system.matrices.mass.sum())
    signals = basis.cell.signals(acquisition, parts)
    span = Span(torch.from_numpy(basis.subspace.vectors), system.matrices.space, mesh)
    return Periodic(signals, error + change / BETTER, span, basis.cell, parts, spins)


def signal_of_cell(
    span: Span,
    points: Float[Tensor, "point 3"],
    tissue: Tissue,
    acquisition: Acquisition,
    parts: int,
) -> Complex[Tensor, " measurement"]:
    """Signal (um^3 times spin density) of a periodic cell at `points` (um) on a frozen span.

    Differentiable in points (images of one node move alike), tissue and gradients, as `project` is;
    span and parts are those of `simulate_periodic`.
    """
    cells, others = periodic_cells(span.mesh.with_points(points), span.space, tissue)
    sign = torch.ones(others.shape[1], 1, 1)
    sign[:3] = -1
    operators, mean = restricted(span, cells, others, sign)
    cell = Cell(operators[0], operators[1:4], operators[4:], tissue.diffusivity, mean.sum(0))
    return cell.signals(acquisition, parts).signal[0]


@dataclass(frozen=True, eq=False)
class Cell:
    """Operators of a periodic cell in a mass-orthonormal real basis."""

    decay: Float[Tensor, "mode mode"]  # L, 1/ms
    drift: Float[Tensor, "3 mode mode"]  # C, um/ms
    spread: Float[Tensor, "kind mode mode"]  # N, relative density
    diffusivity: Float[Tensor, "kind 3 3"]  # um^2/ms
    initial: Float[Tensor, " mode"]

    def squares(self, q: Float[Tensor, "measurement 3"]) -> Float[Tensor, "measurement kind"]:
        """q.D.q of each diffusivity, 1/ms."""
        return torch.einsum("ma,kab,mb->mk", q, self.diffusivity, q)

    def exponential(
        self,
        state: Complex[Tensor, "measurement mode"],
        time: float,
        first: Float[Tensor, "measurement 3"],
        second: Float[Tensor, "measurement kind"],
    ) -> Complex[Tensor, "measurement mode"]:
        """exp(-time (L + i first.C + second.N)) of the states."""
        real = self.decay + torch.tensordot(second, self.spread, 1)
        operator = torch.complex(real, torch.tensordot(first, self.drift, 1))
        polynomial = cayley_polynomial(0.0)
        unit = torch.eye(len(self.decay), dtype=operator.dtype)
        inverse = torch.linalg.inv(unit + time / polynomial.pole * operator)
        return polynomial.of(partial(torch.matmul, inverse), state[..., None])[..., 0]

    def along(
        self, steps: Steps, vectors: Float[Tensor, "measurement 3 axis"], parts: int, rests: int = 1
    ) -> Iterator[tuple[Complex[Tensor, "measurement mode"], Float[Tensor, "measurement 3"]]]:
        """States and q (rad/um), from the excitation, after each of the parts of all steps.

        A change of q as large as its largest value has `parts`, others in proportion, a rest
        `rests`.
        """
        q = vectors.new_zeros(len(vectors), 3)
        state = self.initial.to(torch.complex128).expand(len(vectors), -1)
        values = np.cumsum([time * level for time, level in steps], 0)
        most = float(np.linalg.norm(values, axis=1).max())
        yield state, q
        for time, level in steps:
            slope = GAMMA * vectors @ torch.from_numpy(level)
            strength = time * float(np.linalg.norm(level))
            count = max(1, int(np.ceil(parts * strength / most))) if strength else rests
            for _ in range(count):
                if strength:
                    at = [q + slope * (time / count * node) for node in NODES]
                    squares = [self.squares(x) for x in at]
                    for one, other in SHARES:
                        first = one * at[0] + other * at[1]
                        second = one * squares[0] + other * squares[1]
                        state = self.exponential(state, time / count / 2, first, second)
                    q = q + slope * (time / count)
                else:
                    state = self.exponential(state, time / count, q, self.squares(q))
                yield state, q

    def signals(self, acquisition: Acquisition, parts: int) -> Signals:
        """Of all measurements, with `parts` as in `along`."""
        signal = torch.zeros(len(acquisition), dtype=torch.complex128)
        left = torch.zeros(len(acquisition), dtype=torch.float64)
        rates, modes = torch.linalg.eigh(self.decay)
        weights = (modes.T @ self.initial).square()
        together = max(1, ENTRIES // len(self.decay) ** 2)
        for number, sequence in enumerate(acquisition.sequences):
            rows = (acquisition.timing == number).nonzero()[:, 0]
            steps, mirror = _until_mirror(sequence, parts)
            left[rows] = (weights * torch.exp(-sequence.echo_time * rates)).sum()
            for some in rows.split(together) if len(rows) else ():
                *_, (state, _) = self.along(steps, acquisition.vectors(some), parts)
                # K is Hermitian, and conjugate for -q: the second half is the first one's adjoint
                # or its transpose.
                other = {-1: state.conj(), 1: state, None: self.initial}[mirror]
                signal[some] = (other * state).sum(-1)
        return Signals(acquisition, signal[None], left[None])


def _until_mirror(sequence: Sequence, pairs: int) -> tuple[Steps, int | None]:
    """The steps to the middle of a sequence that mirrors itself, up to the sign; else all."""
    durations, levels = sequence.steps(pairs)
    mirror = mirrored(durations, levels)
    steps = list(zip(durations.tolist(), levels, strict=True))
    if mirror is None:
        return steps, None
    middle, odd = divmod(len(steps), 2)
    half = [(steps[middle][0] / 2, steps[middle][1])] if odd else []
    return steps[:middle] + half, mirror


@dataclass(frozen=True, eq=False)
class CellBasis:
    """A basis of a periodic cell's functions."""

    system: PeriodicMatrices
    subspace: Subspace

    @property
    def size(self) -> int:
        """Number of modes."""
        return self.subspace.size

    def extended(self, block: Float[ndarray, "dof column"]) -> CellBasis:
        """With what of `block` is not spanned yet."""
        return replace(self, subspace=self.subspace.extended(block))

    @cached_property
    def cell(self) -> Cell:
        """The operators in the basis."""
        decay, drift, spread = torch.from_numpy(self.subspace.products).split(
            [1, len(self.system.drift), len(self.system.spread)]
        )
        spins = self.system.matrices.mass.sum(1).A1
        initial = torch.from_numpy(self.subspace.vectors.T @ spins)
        return Cell(decay[0], drift, spread, self.system.diffusivity, initial)

    def residuals(self, acquisition: Acquisition, columns: int) -> Float[ndarray, "dof column"]:
        """Random combinations of what K(q) does to states and the basis cannot follow."""
        states, q = self._states(acquisition)
        factors = torch.cat([torch.ones(1, len(q)), 1j * q.T, self.cell.squares(q).T])
        mixture = np.random.default_rng(self.size).standard_normal((2 * len(states), columns))
        return self.subspace.residual([*(factors[:, None] * states.T).numpy()], mixture)

    def _states(self, acquisition: Acquisition) -> tuple[Tensor, Tensor]:
        """Along all sequences, and backwards where that is another way."""
        pairs = list[tuple[Tensor, Tensor]]()
        for number, sequence in enumerate(acquisition.sequences):
            rows = (acquisition.timing == number).nonzero()[:, 0]
            if len(rows):
                steps, mirror = _until_mirror(sequence, OF_STATES)
                back = [] if mirror else [[(time, -level) for time, level in reversed(steps)]]
                for way in (steps, *back):
                    vectors = acquisition.vectors(rows)
                    pairs += self.cell.along(way, vectors, OF_STATES, rests=OF_STATES)
        states, q = zip(*pairs, strict=True)
        return torch.cat(states), torch.cat(q)
