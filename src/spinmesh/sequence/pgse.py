"""Pulsed-gradient spin echo: two rectangular or trapezoidal pulses (Stejskal & Tanner 1965)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from spinmesh.errors import SequenceError
from spinmesh.sequence.lobes import LobePair, refuse_wrong_timing
from spinmesh.stored import quantity


@dataclass(frozen=True)
class PGSE(LobePair):
    """Pulses of duration `delta` whose onsets are `Delta` apart (ms), rising within `ramp`.

    `delta` runs from the start of the rise to the start of the fall, so that a pulse's area is
    amplitude times delta whatever its ramp. The echo is at `TE`, by default at the pulses' end.
    """

    delta: float = quantity("ms")
    Delta: float = quantity("ms")
    ramp: float = quantity("ms", default=0.0)
    TE: float | None = quantity("ms", default=None)

    def __post_init__(self) -> None:
        refuse_wrong_timing(self, self.delta)
        if not 0 <= self.ramp <= self.delta:
            raise SequenceError(
                f"PGSE: ramp is {self.ramp} ms; it lies between 0 and delta, {self.delta} ms."
            )

    def lobe_breakpoints(self) -> tuple[float, ...]:
        """The corners of the trapezoid."""
        return (0.0, self.ramp, self.delta, self.delta + self.ramp)

    def lobe(self, t: Float[ndarray, " time"]) -> Float[ndarray, " time"]:
        """A trapezoid of height 1."""
        if self.ramp == 0:
            return np.ones_like(t)
        return np.minimum(1.0, np.minimum(t, self.delta + self.ramp - t) / self.ramp)


def distinct_pgse(
    strength: Float[Tensor, " measurement"], **durations
) -> tuple[tuple[PGSE, ...], Int[Tensor, " measurement"]]:
    """The distinct PGSE of `delta`, `Delta`, `ramp`, `TE` (ms), and which each measurement uses.

    Raises SequenceError for impossible ones. A measurement of zero `strength` needs no pulses.
    """
    count, columns = len(strength), []
    for name, value in durations.items():
        # No echo time given: the pulses' end, which PGSE finds from 0.
        value = torch.as_tensor(0.0 if value is None else value, dtype=torch.float64).reshape(-1)
        if len(value) not in (1, count):
            raise SequenceError(
                f"acquisition: {len(value)} values of {name} for {count} measurements. "
                "Give one value, or one per measurement."
            )
        columns.append(value.expand(count))
    rows = _with_pulses(torch.stack(columns, 1), strength)
    unique, timing = torch.unique(rows, dim=0, return_inverse=True)
    sequences = []
    for number, (delta, Delta, ramp, TE) in enumerate(unique.tolist()):
        try:
            sequences.append(PGSE(delta, Delta, ramp, TE or None))
        except SequenceError as error:
            first = int((timing == number).nonzero()[0])
            raise SequenceError(f"acquisition: measurement {first}: {error}") from error
    return tuple(sequences), timing


def _with_pulses(
    rows: Float[Tensor, "measurement duration"], strength: Tensor
) -> Float[Tensor, "measurement duration"]:
    """Pulses for measurements without gradient that name none: of their echo time, if any has it.

    Columns are delta, Delta, ramp, TE (0: the pulses' end). No signal depends on these pulses.
    """
    pulses = (rows[:, :2] > 0).all(1)
    idle, active = (strength == 0) & ~pulses, rows[pulses]
    rows = rows.clone()
    for number in idle.nonzero()[:, 0].tolist():
        TE = float(rows[number, 3])
        alike = active[active[:, 3] == TE]
        if len(alike) and (TE > 0 or len(torch.unique(alike[:, :3].sum(1))) == 1):
            rows[number] = alike[0]
        elif TE > 0:
            rows[number] = torch.tensor([TE / 2, TE / 2, 0.0, TE])
        elif len(active):
            raise SequenceError(
                f"acquisition: measurement {number} has neither pulses nor an echo time, and the "
                "others have none or several. Give its echo time."
            )
    return rows
