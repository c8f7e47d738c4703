"""Oscillating-gradient spin echo: cosine, sine and trapezoidal lobes.

Schachter et al., J. Magn. Reson. 147 (2000); Does, Parsons & Gore, Magn. Reson. Med. 49 (2003).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from spinmesh.errors import SequenceError
from spinmesh.sequence.lobes import LobePair, refuse_wrong_timing
from spinmesh.stored import quantity


@dataclass(frozen=True)
class HarmonicOGSE(LobePair):
    """Lobes of `periods` whole periods, f = periods/delta, onsets `Delta` apart (ms)."""

    delta: float = quantity("ms")
    Delta: float = quantity("ms")
    periods: int = 1
    TE: float | None = quantity("ms", default=None)

    def __post_init__(self) -> None:
        _refuse_no_period(self.periods)
        refuse_wrong_timing(self, self.delta)

    def lobe_breakpoints(self) -> tuple[float, ...]:
        """Every quarter period."""
        return tuple(np.linspace(0.0, self.delta, 4 * self.periods + 1).tolist())


class CosineOGSE(HarmonicOGSE):
    """b = gamma^2 g^2 delta / (4 pi^2 f^2)."""

    def lobe(self, t: Float[ndarray, " time"]) -> Float[ndarray, " time"]:
        """cos(2 pi f t)."""
        return np.cos(2 * np.pi * self.periods * t / self.delta)


class SineOGSE(HarmonicOGSE):
    """b = 3 gamma^2 g^2 delta / (4 pi^2 f^2).

    q does not change sign, so its spectrum keeps a peak at zero frequency besides the one at f.
    """

    def lobe(self, t: Float[ndarray, " time"]) -> Float[ndarray, " time"]:
        """sin(2 pi f t)."""
        return np.sin(2 * np.pi * self.periods * t / self.delta)


@dataclass(frozen=True)
class TrapezoidalOGSE(LobePair):
    """A cosine drawn with straight lines: plateaus of +1 and -1, `ramp` (ms) from 0 to either.

    A lobe of `delta` holds 2 `periods` - 1 whole trapezoids, each `half_period` between its zero
    crossings, and before and after them one of half their area, which starts and ends at zero.
    Ianus et al., J. Magn. Reson. 227 (2013).
    """

    delta: float = quantity("ms")
    Delta: float = quantity("ms")
    periods: int = 1
    ramp: float = quantity("ms", default=0.0)
    TE: float | None = quantity("ms", default=None)

    def __post_init__(self) -> None:
        _refuse_no_period(self.periods)
        refuse_wrong_timing(self, self.delta)
        most = self.delta / (6 * self.periods + 1)
        if not 0 <= self.ramp <= most:
            raise SequenceError(
                f"TrapezoidalOGSE: ramp is {self.ramp} ms; {self.periods} periods in "
                f"{self.delta} ms leave room for 0 to {most:.4g} ms."
            )

    @property
    def half_period(self) -> float:
        """Time between zero crossings (ms); the frequency is 1 / (2 half_period)."""
        return (self.delta - self.ramp) / (2 * self.periods)

    def lobe_breakpoints(self) -> tuple[float, ...]:
        """The corners and the zero crossings."""
        zeros = self._zeros()
        corners = [z + offset for z in zeros for offset in (-self.ramp, 0.0, self.ramp)]
        return (0.0, self.ramp, *corners, self.delta - self.ramp, self.delta)

    def lobe(self, t: Float[ndarray, " time"]) -> Float[ndarray, " time"]:
        """+1, -1, ..., +1, and straight lines between."""
        sign = (-1.0) ** np.searchsorted(self._zeros(), t)
        if self.ramp == 0:
            return sign
        ends = np.array([0.0, *self._zeros(), self.delta])
        distance = np.abs(t[:, None] - ends).min(1)
        return sign * np.minimum(1.0, distance / self.ramp)

    def _zeros(self) -> list[float]:
        """Zero crossings within the lobe: the first trapezoid lasts (half_period + ramp)/2."""
        first = (self.half_period + self.ramp) / 2
        return [first + k * self.half_period for k in range(2 * self.periods)]


def _refuse_no_period(periods: int) -> None:
    if periods < 1 or periods != int(periods):
        raise SequenceError(f"OGSE: {periods} periods per lobe; give a whole number >= 1.")
