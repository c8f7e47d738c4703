"""Pulsed-gradient spin echo: two rectangular pulses (Stejskal & Tanner 1965)."""

from __future__ import annotations

from dataclasses import dataclass

from spinmesh.errors import SequenceError
from spinmesh.units import GAMMA


@dataclass(frozen=True)
class PGSE:
    """Pulses of duration `delta` whose onsets are `Delta` apart (ms); echo at `Delta + delta`."""

    delta: float
    Delta: float

    def __post_init__(self) -> None:
        if not self.delta > 0:
            raise SequenceError(f"PGSE: delta is {self.delta} ms; give a pulse longer than 0.")
        if self.delta > self.Delta:
            raise SequenceError(
                f"PGSE: delta {self.delta} ms exceeds Delta {self.Delta} ms, so the pulses "
                "overlap. Delta is measured from onset to onset; were the two swapped?"
            )

    @property
    def echo_time(self) -> float:
        """Time from the first pulse's onset to the read-out (ms)."""
        return self.Delta + self.delta

    def breakpoints(self) -> tuple[float, ...]:
        """Times (ms) between which the profile is constant."""
        if self.delta == self.Delta:
            return (0.0, self.delta, self.echo_time)
        return (0.0, self.delta, self.Delta, self.echo_time)

    def profile(self, t: float) -> float:
        """Effective gradient at time t relative to its amplitude: +1, 0, then -1."""
        if t < self.delta:
            return 1.0
        return 0.0 if t < self.Delta else -1.0

    def b_value(self, g: float) -> float:
        """b (ms/um^2) at gradient amplitude g (mT/m): (gamma g delta)^2 (Delta - delta/3)."""
        return (GAMMA * g * self.delta) ** 2 * (self.Delta - self.delta / 3)

    def gradient(self, b: float) -> float:
        """Gradient amplitude (mT/m) that gives b (ms/um^2)."""
        return (b / (self.Delta - self.delta / 3)) ** 0.5 / (GAMMA * self.delta)
