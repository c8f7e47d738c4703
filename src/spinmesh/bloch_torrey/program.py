"""How a sequence is propagated, from both ends to a rest in its middle, and what goes together."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from spinmesh.bloch_torrey.exponential import Frame, half_height_on_grid, steps_and_polynomial
from spinmesh.sequence import Acquisition, Sequence
from spinmesh.sequence.waveform import PAIRS
from spinmesh.units import GAMMA

# Durations (ms) and levels are rounded to 1e-12 by Sequence.steps.
EQUAL = 1e-11
# Measurements worked on together on a CPU: their states stay in the L2 cache of one core.
CHUNK = 64
# Complex numbers that a sweep may keep for its derivative (1 GB).
SWEEP_SIZE = 2**26
TERMS = 64
# Directions closer than this are one: the phase they differ by is below the propagation's error.
SAME_DIRECTION = 1e-11


@dataclass(frozen=True)
class Stage:
    """A stretch of `duration` (ms) with the profile at `level`, one number per axis."""

    duration: float
    level: tuple[float, ...]

    @property
    def strength(self) -> float:
        """Length of the level; zero for a rest."""
        return math.hypot(*self.level)


@dataclass(frozen=True)
class Program:
    """The signal as bra' exp(-t L) ket, every operator being complex symmetric.

    The ket is the initial state carried through the stages before the middle rest, the bra the
    read-out carried backwards through those after it. `mirror` = -1 or 1 says that the profile's
    second half is that multiple of the first one, read backwards: the bra of the total signal is
    then the ket's complex conjugate (-1) or the ket itself (1). Sequences that differ in the
    middle rest t alone, as PGSE of one delta do, share a program. Where a model has a core X, the
    signal is bra' exp(-t/2 L) X exp(-t/2 L) ket, of spins that are there in the middle of the rest.
    """

    ket: tuple[Stage, ...]
    bra: tuple[Stage, ...]
    mirror: int | None

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All but the middle rest."""
        return self.ket + self.bra

    @property
    def after(self) -> tuple[Stage, ...]:
        """Those after the middle rest, in the order of time."""
        if self.mirror is None:
            return self.bra[::-1]
        sign = self.mirror
        back = self.ket[::-1]
        return tuple(Stage(s.duration, tuple(sign * x for x in s.level)) for s in back)


# What a signal without gradient runs through: nothing but the rest.
AT_REST = Program((), (), 1)


@dataclass(frozen=True, eq=False)
class Run:
    """The measurements of an acquisition that one program serves."""

    program: Program
    rows: Int[Tensor, " measurement"]
    rest: Float[Tensor, " measurement"]  # ms
    vectors: Float[Tensor, "measurement 3 axis"]  # mT/m


def runs(acquisition: Acquisition, pairs: int = PAIRS) -> list[Run]:
    """The acquisition's programs with their measurements, from `pairs` as `Sequence.steps`."""
    both = [halves(sequence, pairs) for sequence in acquisition.sequences]
    result = []
    for program in dict.fromkeys(program for program, _ in both):
        numbers = [number for number, half in enumerate(both) if half[0] == program]
        member = torch.isin(acquisition.timing, torch.tensor(numbers).to(acquisition.timing))
        rows = member.nonzero()[:, 0]
        if len(rows):
            rest = torch.tensor([half[1] for half in both], dtype=torch.float64)
            rest = rest.to(acquisition.gradient.device)[acquisition.timing[rows]]
            result.append(Run(program, rows, rest, acquisition.vectors(rows)))
    return result


def halves(sequence: Sequence, pairs: int = PAIRS) -> tuple[Program, float]:
    """The sequence's program and its middle rest (ms)."""
    durations, levels = sequence.steps(pairs)
    stages = [
        Stage(duration, tuple(level))
        for duration, level in zip(durations.tolist(), levels.tolist(), strict=True)
    ]
    mirror = mirrored(durations, levels)
    middle = len(stages) // 2
    if mirror is not None and len(stages) % 2 == 0:
        return Program(tuple(stages[:middle]), (), mirror), 0.0
    if mirror is not None and stages[middle].strength > 0:
        half = Stage(stages[middle].duration / 2, stages[middle].level)
        return Program((*stages[:middle], half), (), mirror), 0.0
    if mirror is not None:
        return Program(tuple(stages[:middle]), (), mirror), stages[middle].duration
    rests = [i for i, stage in enumerate(stages) if stage.strength == 0]
    if not rests:
        return Program(tuple(stages[:middle]), tuple(stages[: middle - 1 : -1]), None), 0.0
    at = min(rests, key=lambda i: abs(i - middle))
    ket, bra = tuple(stages[:at]), tuple(stages[:at:-1])
    return Program(ket, bra, None), stages[at].duration


def longest_half(acquisition: Acquisition) -> float:
    """Longest time (ms) from excitation to the middle of the rest, or from there to the echo."""
    times = [0.0]
    for number in torch.unique(acquisition.timing).tolist():
        program, rest = halves(acquisition.sequences[number])
        sides = program.ket, program.after
        times += [sum(stage.duration for stage in side) + rest / 2 for side in sides]
    return max(times)


def mirrored(durations: np.ndarray, levels: np.ndarray) -> int | None:
    """-1 or 1 if the profile read backwards is that multiple of itself."""
    if not np.allclose(durations, durations[::-1], rtol=0, atol=EQUAL):
        return None
    signs = [s for s in (-1, 1) if np.allclose(levels, s * levels[::-1], rtol=0, atol=EQUAL)]
    return signs[0] if signs else None


@dataclass(frozen=True, eq=False)
class Chunk:
    """Directions and the measurements along each, padded by repetition to equal numbers."""

    index: Int[Tensor, "direction measurement"]
    measured: Bool[Tensor, "direction measurement"]  # False where padded
    vectors: Float[Tensor, "direction measurement 3 axis"]  # mT/m
    rest: Float[Tensor, "direction measurement"]  # ms, in the middle
    rate: float  # bound on |K - L| at level 1, rad/ms


def chunks_of(frame: Frame, vectors: Tensor, rest: Tensor, program: Program) -> list[Chunk]:
    """Directions of about equal phase together, as many as the cache or the memory takes."""
    rates = _phase_rates(frame, vectors.detach())
    shapes, size = frame.rates.shape
    areas = [stage.duration * stage.strength for stage in program.stages]
    steps = sum(steps_and_polynomial(area * float(rates.max()))[0] for area in areas)
    most = max(1, SWEEP_SIZE // (shapes * size * (size + TERMS * steps)))
    if vectors.device.type == "cpu":
        most = min(most, CHUNK)
    longest = max(areas, default=0.0)
    # Measurements along one direction, by the half-height of the strip that holds their phases.
    lines = [
        (half_height_on_grid(longest * float(rates[rows].max())), rows)
        for group in _directions(vectors.detach())
        for rows in group.split(most)
    ]
    together: list[list[Tensor]] = []
    last_strip = None
    for strip, rows in sorted(lines, key=lambda line: (line[0], len(line[1]))):
        if strip == last_strip and (len(together[-1]) + 1) * len(rows) <= most:
            together[-1].append(rows)
        else:
            together.append([rows])
        last_strip = strip
    return [_chunk(rows, rates, vectors, rest) for rows in together]


def _chunk(rows: list[Tensor], rates: Tensor, vectors: Tensor, rest: Tensor) -> Chunk:
    """Pad the rows of each direction to one length."""
    most = max(map(len, rows))
    index = torch.stack([torch.cat([r, r[:1].expand(most - len(r))]) for r in rows])
    measured = torch.stack([torch.arange(most, device=index.device) < len(r) for r in rows])
    return Chunk(index, measured, vectors[index], rest[index], float(rates[index].max()))


def _directions(vectors: Tensor) -> list[Int[Tensor, " measurement"]]:
    """Measurements whose vectors are multiples of each other, together."""
    flat = vectors.flatten(1)
    length = flat.norm(dim=1, keepdim=True)
    unit = (torch.where(length > 0, flat / length, 0.0) / SAME_DIRECTION).round()
    first = unit.gather(1, (unit != 0).to(torch.int8).argmax(1, keepdim=True))
    number = torch.unique(unit * torch.where(first < 0, -1, 1), dim=0, return_inverse=True)[1]
    order = number.argsort(stable=True)
    return list(order.split(torch.bincount(number).tolist()))


def _phase_rates(frame: Frame, vectors: Tensor) -> Float[Tensor, " measurement"]:
    """Bound on |gamma g.J| at level 1 (rad/ms): by the extents along x, y, z, and by their root."""
    squares = frame.moments @ frame.moments
    whole = torch.linalg.eigvalsh(squares.sum(1))[:, -1].max().clamp_min(0).sqrt()
    # The columns of a vector profile's frame have equal length.
    bound = whole * vectors[..., 0].norm(dim=1)
    if vectors.shape[-1] == 1:
        each = torch.linalg.eigvalsh(frame.moments).abs().amax((0, 2))
        bound = torch.minimum(bound, vectors[..., 0].abs() @ each)
    return GAMMA * bound
