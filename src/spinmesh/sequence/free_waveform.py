"""Gradient waveforms g(t) in three dimensions, given by their samples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from spinmesh.errors import SequenceError
from spinmesh.sequence.waveform import Sequence
from spinmesh.stored import quantity


@dataclass(frozen=True, eq=False)
class FreeWaveform(Sequence):
    """`levels[i]` (relative to the amplitude) for `durations[i]` ms, after one another.

    Piecewise constant, hence exact. The sign after each refocusing pulse is turned already. The
    echo is at the end: state dead times as levels of zero.
    """

    axes: ClassVar[int] = 3

    durations: Float[ndarray, " step"] = quantity("ms")
    levels: Float[ndarray, "step 3"] = quantity()

    def __post_init__(self) -> None:
        if len(self.durations) == 0 or len(self.durations) != len(self.levels):
            raise SequenceError(
                f"FreeWaveform: {len(self.durations)} durations for {len(self.levels)} levels. "
                "Give one of each per step."
            )
        for name, values in (("durations", self.durations), ("levels", self.levels)):
            if not np.isfinite(values).all():
                raise SequenceError(f"FreeWaveform: {name} are not all finite.")
        if not (self.durations > 0).all():
            first = int((~(self.durations > 0)).argmax())
            raise SequenceError(
                f"FreeWaveform: step {first} lasts {self.durations[first]} ms; give more than 0."
            )

    @classmethod
    def of(cls, durations, gradient) -> tuple[FreeWaveform, float]:
        """The waveform with levels of norm <= 1 and its amplitude, from g(t) in mT/m (step, 3).

        `durations` (ms) is one number for all samples or one for each. Raises SequenceError if a
        gradient is not finite.
        """
        gradient = np.asarray(gradient, dtype=float)
        if not np.isfinite(gradient).all():
            raise SequenceError("FreeWaveform: levels are not all finite.")
        peak = float(np.linalg.norm(gradient, axis=1).max(initial=0.0))
        durations = np.broadcast_to(np.asarray(durations, dtype=float), len(gradient)).copy()
        return cls(durations, gradient / (peak or 1.0)), peak

    @property
    def echo_time(self) -> float:
        """End of the last step (ms)."""
        return float(self._ends[-1])

    def breakpoints(self) -> tuple[float, ...]:
        """The ends of the steps."""
        return (0.0, *self._ends.tolist())

    def profile(self, t: Float[ndarray, " time"]) -> Float[ndarray, "time 3"]:
        """The level of the step that t falls in."""
        step = np.searchsorted(self._ends, t, side="right")
        return self.levels[np.minimum(step, len(self.levels) - 1)]

    @cached_property
    def _ends(self) -> Float[ndarray, " step"]:
        return np.cumsum(self.durations)
