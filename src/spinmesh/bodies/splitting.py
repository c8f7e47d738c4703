"""Signals of small reduced models, by splitting each step and extrapolating to steps of no length.

A step of length h has a rest and a phase along each axis, each diagonal in a basis of its own:

    exp(-h(L + i gamma g.J)) ~ R X Y Z Z Y X R,   R = exp(-h L / 2), X = exp(-i h gamma g_x J_x / 2)

(Strang, SIAM J. Numer. Anal. 5, 1968). What leads from one basis to the next is real, and the same
for all measurements: few large products, where one polynomial for each direction (`exponential`)
needs an eigen-decomposition each. The step is symmetric in time, so that the error of n steps is a
series in 1/n^2, of which extrapolation removes term after term (Bulirsch & Stoer, Numer. Math. 8,
1966). A few digits cost little so; for ten of them `Signals.of` is the way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

from spinmesh.bloch_torrey import Signals
from spinmesh.bloch_torrey.program import Run, Stage, runs
from spinmesh.reduction import ReducedModel
from spinmesh.sequence import Acquisition
from spinmesh.units import GAMMA

# Steps of a stage, one number after the other until the extrapolated signal has settled.
STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
# Of fewer numbers two may agree by chance.
FEWEST = 2
# Complex numbers of the states of models worked on together on a CPU (1 MB): fewer cost calls.
CACHED = 2**16


@dataclass(frozen=True, eq=False)
class Bases:
    """Eigenbases of L and of the three moments of a batch of models, and what is seen from L's."""

    rates: Float[Tensor, "shape mode 1"]  # 1/ms
    positions: Float[Tensor, "3 shape mode 1"]  # um
    turns: tuple[Tensor, Tensor, Tensor]  # (shape, mode, mode): L to x, x to y, y to z
    initial: Float[Tensor, "shape mode 1"]
    core: Float[Tensor, "shape mode mode"]

    @classmethod
    def of(cls, models: ReducedModel) -> Bases:
        """Of models with a core each."""
        L, J, _, core = models.operators
        rates, Q = torch.linalg.eigh(L)
        positions, axes = torch.linalg.eigh(J)
        x, y, z = axes.unbind(1)
        turns = x.mT @ Q, y.mT @ x, z.mT @ y
        initial = Q.mT @ models.initial[..., None]
        return cls(
            rates[..., None], positions.movedim(1, 0)[..., None], turns, initial, Q.mT @ core @ Q
        )

    def unweighted(self, time: float) -> Float[Tensor, " shape"]:
        """Signals after `time` (ms) without gradient."""
        left = torch.exp(-time / 2 * self.rates) * self.initial
        return (left.mT @ self.core @ left)[:, 0, 0]

    def signal(self, run: Run, steps: int) -> Complex[Tensor, "shape measurement"]:
        """Of all measurements of a run, each of its stages in so many steps."""
        program, half = run.program, torch.exp(-self.rates * run.rest / 2)
        ket = half * self._through(program.ket, run.vectors, steps)
        if program.mirror is None:
            bra = half * self._through(program.bra, run.vectors, steps)
        else:
            bra = ket.conj() if program.mirror == -1 else ket
        return (bra * _turned(self.core, ket)).sum(1)

    def _through(
        self, stages: tuple[Stage, ...], vectors: Float[Tensor, "measurement 3 axis"], steps: int
    ) -> Complex[Tensor, "shape mode measurement"]:
        """The excited states after all stages."""
        state = self.initial.to(torch.complex128).expand(-1, -1, len(vectors)).contiguous()
        for stage in stages:
            if stage.strength == 0:
                state = torch.exp(-stage.duration * self.rates) * state
            else:
                gradient = vectors @ vectors.new_tensor(stage.level)
                state = self._pulse(state, gradient, stage.duration / steps, steps)
        return state

    def _pulse(
        self, state: Tensor, gradient: Float[Tensor, "measurement 3"], step: float, count: int
    ) -> Tensor:
        """`count` steps of length `step` (ms)."""
        angle = -GAMMA * step / 2 * self.positions * gradient.T[:, None, None]
        x, y, z = torch.complex(angle.cos(), angle.sin())
        z = z * z
        to_x, to_y, to_z = self.turns
        half = torch.exp(-step / 2 * self.rates)
        rest = (to_x * half.mT**2) @ to_x.mT
        state = _turned(to_x, half * state)
        for number in range(count):
            state = _turned(rest, state) if number else state
            state = _turned(to_y, state.mul_(x)).mul_(y)
            state = _turned(to_z.mT, _turned(to_z, state).mul_(z)).mul_(y)
            state = _turned(to_y.mT, state).mul_(x)
        return half * _turned(to_x.mT, state)


def _turned(matrix: Float[Tensor, "shape mode mode"], state: Tensor) -> Tensor:
    """Real matrices times complex columns."""
    flat = matrix @ torch.view_as_real(state).flatten(2)
    return torch.view_as_complex(flat.view(*state.shape, 2))


def extrapolated(
    models: ReducedModel, acquisition: Acquisition, tolerance: float
) -> tuple[Signals, Float[Tensor, " shape"]]:
    """Signals of a batch with cores, and the last change of each by extrapolation, of its S0.

    A measurement stops as soon as that is below the tolerance; what does not settle is computed by
    `Signals.of`. Not differentiable.
    """
    cpu, (count, size) = models.mean.device.type == "cpu", models.laplacian.shape[:2]
    together = max(1, CACHED // (size * len(acquisition))) if cpu else count
    there = runs(acquisition.to(str(models.mean.device)))
    signal = models.mean.new_zeros(count, len(acquisition), dtype=torch.complex128)
    unweighted, missed = signal.real.clone(), models.mean.new_zeros(count)
    with torch.no_grad():
        for first in range(0, count, together):
            some = slice(first, first + together)
            few = ReducedModel(*(part[some] for part in models.operators))
            bases = Bases.of(few)
            times = [bases.unweighted(sequence.echo_time) for sequence in acquisition.sequences]
            unweighted[some] = torch.stack(times, 1)[:, acquisition.timing]
            for run in there:
                most = tolerance * unweighted[some][:, run.rows]
                values, change, settled = _settled(bases, run, most)
                if not bool(settled.all()):
                    rows = run.rows[~settled].cpu()
                    exact = Signals.of(few, acquisition.select(rows)).signal
                    values[:, ~settled] = exact.to(values.device)
                signal[some, run.rows] = values
                relative = change / unweighted[some][:, run.rows]
                missed[some] = torch.maximum(missed[some], relative.amax(1))
    return Signals(acquisition, signal.cpu(), unweighted.cpu()), missed.cpu()


def _settled(
    bases: Bases, run: Run, most: Float[Tensor, "shape measurement"]
) -> tuple[Complex[Tensor, "shape measurement"], Tensor, Bool[Tensor, " measurement"]]:
    """Signals, their last changes, and which measurements have changed by no more than `most`."""
    values = torch.zeros(most.shape, dtype=torch.complex128, device=most.device)
    change, left = torch.zeros_like(most), torch.arange(most.shape[1], device=most.device)
    column = list[Tensor]()
    for number, steps in enumerate(STEPS):
        some = replace(run, rows=run.rows[left], rest=run.rest[left], vectors=run.vectors[left])
        before, column = column, _next_column(column, bases.signal(some, steps), number)
        if number < FEWEST:
            continue
        # How far the extrapolation before was off; a column's own last two differ by less.
        last = (column[-1] - before[-1]).abs()
        done = (last <= most[:, left]).all(0)
        values[:, left[done]], change[:, left[done]] = column[-1][:, done], last[:, done]
        left, column = left[~done], [row[:, ~done] for row in column]
        if not len(left):
            break
    settled = torch.ones(most.shape[1], dtype=torch.bool, device=most.device)
    settled[left] = False
    return values, change, settled


def _next_column(before: list[Tensor], plain: Tensor, number: int) -> list[Tensor]:
    """Signals of one more number of steps, and extrapolated with one, two, ... of those before."""
    column = [plain]
    for back, value in enumerate(before, 1):
        ratio = (STEPS[number] / STEPS[number - back]) ** 2
        column.append(column[-1] + (column[-1] - value) / (ratio - 1))
    return column
