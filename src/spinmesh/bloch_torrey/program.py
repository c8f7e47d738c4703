"""How a sequence is propagated: from both ends to a rest in its middle."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from spinmesh.sequence import Acquisition, Sequence

# Durations (ms) and levels are rounded to 1e-12 by Sequence.steps.
EQUAL = 1e-11


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
    middle rest t alone, as PGSE of one delta do, share a program.
    """

    ket: tuple[Stage, ...]
    bra: tuple[Stage, ...]
    mirror: int | None

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All but the middle rest."""
        return self.ket + self.bra


# What a signal without gradient runs through: nothing but the rest.
AT_REST = Program((), (), 1)


@dataclass(frozen=True, eq=False)
class Run:
    """The measurements of an acquisition that one program serves."""

    program: Program
    rows: Int[Tensor, " measurement"]
    rest: Float[Tensor, " measurement"]  # ms
    vectors: Float[Tensor, "measurement 3 axis"]  # mT/m


def runs(acquisition: Acquisition) -> list[Run]:
    """The acquisition's programs with their measurements."""
    halves = [_halves(sequence) for sequence in acquisition.sequences]
    result = []
    for program in dict.fromkeys(program for program, _ in halves):
        own = [number for number, half in enumerate(halves) if half[0] == program]
        member = torch.isin(acquisition.timing, torch.tensor(own).to(acquisition.timing))
        rows = member.nonzero()[:, 0]
        if len(rows):
            rest = torch.tensor([half[1] for half in halves], dtype=torch.float64)
            rest = rest.to(acquisition.gradient.device)[acquisition.timing[rows]]
            vectors = torch.cat([_vectors(acquisition, number) for number in own])
            order = torch.cat([(acquisition.timing == number).nonzero()[:, 0] for number in own])
            result.append(Run(program, rows, rest, vectors[order.argsort()]))
    return result


def _vectors(acquisition: Acquisition, number: int) -> Tensor:
    rows = (acquisition.timing == number).nonzero()[:, 0]
    if len(rows) == 0:
        return acquisition.gradient.new_zeros(0, 3, acquisition.sequences[number].axes)
    return acquisition.vectors(rows)


def _halves(sequence: Sequence) -> tuple[Program, float]:
    """The sequence's program and its middle rest (ms)."""
    durations, levels = sequence.steps()
    stages = [
        Stage(duration, tuple(level))
        for duration, level in zip(durations.tolist(), levels.tolist(), strict=True)
    ]
    mirror = _mirror(durations, levels)
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


def _mirror(durations: np.ndarray, levels: np.ndarray) -> int | None:
    """-1 or 1 if the profile read backwards is that multiple of itself."""
    if not np.allclose(durations, durations[::-1], rtol=0, atol=EQUAL):
        return None
    signs = [s for s in (-1, 1) if np.allclose(levels, s * levels[::-1], rtol=0, atol=EQUAL)]
    return signs[0] if signs else None
