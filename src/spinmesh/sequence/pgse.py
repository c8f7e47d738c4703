"""Pulsed-gradient spin echo: two rectangular or trapezoidal pulses (Stejskal & Tanner 1965)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from spinmesh.errors import SequenceError
from spinmesh.sequence.lobes import LobePair, refuse_wrong_timing


@dataclass(frozen=True)
class PGSE(LobePair):
    """Pulses of duration `delta` whose onsets are `Delta` apart (ms), rising within `ramp`.

    `delta` runs from the start of the rise to the start of the fall, so that a pulse's area is
    amplitude times delta whatever its ramp. The echo is at `TE`, by default at the pulses' end.
    """

    delta: float
    Delta: float
    ramp: float = 0.0
    TE: float | None = None

    def __post_init__(self) -> None:
        refuse_wrong_timing(self, self.delta)
        if not 0 <= self.ramp <= self.delta:
            raise SequenceError(
                f"PGSE: ramp is {self.ramp} ms; it lies between 0 and delta, {self.delta} ms."
            )

    @property
    def lobe_duration(self) -> float:
        """delta and the fall (ms)."""
        return self.delta + self.ramp

    def lobe_breakpoints(self) -> tuple[float, ...]:
        """The corners of the trapezoid."""
        return (0.0, self.ramp, self.delta, self.delta + self.ramp)

    def lobe(self, t: Float[ndarray, " time"]) -> Float[ndarray, " time"]:
        """A trapezoid of height 1."""
        if self.ramp == 0:
            return np.ones_like(t)
        return np.minimum(1.0, np.minimum(t, self.delta + self.ramp - t) / self.ramp)
