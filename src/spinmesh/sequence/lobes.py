"""A gradient lobe on either side of one refocusing pulse: what PGSE and OGSE have in common."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from spinmesh.errors import SequenceError
from spinmesh.sequence.waveform import Sequence, refuse_early_echo


class LobePair(Sequence):
    """A lobe, and its negative `Delta` later (onset to onset).

    With an echo time `TE` beyond the lobes' end the rest is shared between before and after them,
    as in a spin echo whose refocusing pulse at TE/2 is midway between the lobes.
    """

    Delta: float
    TE: float | None

    @abstractmethod
    def lobe(self, t: Float[ndarray, " time"]) -> Float[ndarray, " time"]:
        """The first lobe at times t (ms) since its onset, within its duration."""

    @abstractmethod
    def lobe_breakpoints(self) -> tuple[float, ...]:
        """Times (ms) since its onset between which the lobe is smooth, ends included."""

    @property
    def lobe_duration(self) -> float:
        """Length of one lobe, ramps included (ms)."""
        return self.lobe_breakpoints()[-1]

    @property
    def echo_time(self) -> float:
        """Time from the excitation to the echo (ms); by default the lobes fill it."""
        end = self.Delta + self.lobe_duration
        return end if self.TE is None else max(end, self.TE)

    @property
    def onset(self) -> float:
        """Onset of the first lobe (ms)."""
        return max(0.0, (self.echo_time - self.Delta - self.lobe_duration) / 2)

    def breakpoints(self) -> tuple[float, ...]:
        """Those of both lobes, after 0 and before the echo."""
        lobe = [self.onset + t for t in self.lobe_breakpoints()]
        return (0.0, *lobe, *(t + self.Delta for t in lobe), self.echo_time)

    def profile(self, t: Float[ndarray, " time"]) -> Float[ndarray, "time 1"]:
        """The first lobe, then the second with its sign turned by the refocusing pulse."""
        since = np.asarray(t, dtype=float) - self.onset
        result = np.zeros_like(since)
        for start, sign in ((0.0, 1.0), (self.Delta, -1.0)):
            inside = (since >= start) & (since < start + self.lobe_duration)
            result[inside] = sign * self.lobe(since[inside] - start)
        return result[:, None]


def refuse_wrong_timing(sequence: LobePair, delta: float) -> None:
    """SequenceError unless 0 < delta, the lobes do not overlap and the echo comes after them."""
    name, Delta, last = type(sequence).__name__, sequence.Delta, sequence.lobe_duration
    if not delta > 0:
        raise SequenceError(f"{name}: delta is {delta} ms; give a pulse longer than 0.")
    if delta > Delta:
        raise SequenceError(
            f"{name}: delta {delta} ms exceeds Delta {Delta} ms, so the pulses "
            "overlap. Delta is measured from onset to onset; were the two swapped?"
        )
    if last > Delta:
        raise SequenceError(
            f"{name}: with its ramp a pulse lasts {last:g} ms, longer than Delta {Delta} ms. "
            "Shorten the ramp."
        )
    if not np.isfinite(Delta + last):
        raise SequenceError(f"{name}: delta {delta}, Delta {Delta} ms; give finite times.")
    refuse_early_echo(sequence, sequence.TE, Delta + last)
