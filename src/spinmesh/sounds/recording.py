"""A recording of a chest: its samples, whose they are, what was heard; and which are unusable."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.signal import resample_poly

from spinmesh.errors import SoundWarning, StoreError

# The rate at which sounds are looked at (Hz): the lowest of ICBHI 2017's, and what lungs fill.
RATE = 4000.0
# A clipped recording has this share of its samples at its extremes, in runs of three and more.
CLIPPED_SHARE = 1e-3
# Nine tenths of a chest's sound energy lie below a frequency between these (Hz): 208 to 856 of our
# recordings; 2,300 and more if 4 kHz are called 44.1, 63 and less the other way.
PLAUSIBLE = (70.0, 1800.0)
# RMS relative to full scale below which a 16-bit file holds its rounding alone.
SILENCE = 2.0**-15


@dataclass(frozen=True)
class Cycle:
    """A respiratory cycle from `start` to `end` (s), and what was heard in it."""

    start: float
    end: float
    crackles: bool
    wheezes: bool

    @property
    def label(self) -> str:
        """One of neither, crackle, wheeze, both."""
        heard = (self.crackles, self.wheezes)
        return {(0, 0): "neither", (1, 0): "crackle", (0, 1): "wheeze"}.get(heard, "both")


@dataclass(frozen=True, eq=False)
class Recording:
    """One sound, full scale being 1, and what is known of it.

    `rate` in Hz; `name` is the file's without .wav: patient_recording_site_mode_device.
    """

    name: str
    samples: Float[ndarray, " sample"]
    rate: float
    cycles: tuple[Cycle, ...] = ()
    diagnosis: str | None = None

    @property
    def patient(self) -> int:
        """The number that begins the name."""
        return int(self.name.split("_")[0])

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.samples) / self.rate

    def between(self, start: float, end: float) -> Recording:
        """The part from `start` to `end` (s), which must lie inside; without cycles."""
        first, last = round(start * self.rate), round(end * self.rate)
        return replace(self, samples=self.samples[first:last], cycles=())

    def windows(self, seconds: float) -> Iterator[Recording]:
        """As many parts of this length as it holds, side by side around its middle."""
        count = int(self.seconds / seconds + 1e-9)
        before = (self.seconds - count * seconds) / 2
        for number in range(count):
            yield self.between(before + number * seconds, before + (number + 1) * seconds)


def at_rate(recording: Recording, rate: float = RATE) -> Recording:
    """The same sound with another number of samples a second, low-pass filtered before."""
    if recording.rate == rate:
        return recording
    ratio = Fraction(rate / recording.rate).limit_denominator(10_000)
    samples = resample_poly(recording.samples, ratio.numerator, ratio.denominator)
    return replace(recording, samples=samples, rate=rate)


def refuse_unusable(recording: Recording, seconds: float) -> None:
    """StoreError for a sound that is shorter than `seconds`, silent, not finite, or too coarse."""
    name, samples = f"{recording.name}.wav", recording.samples
    if recording.rate < RATE:
        raise StoreError(
            f"{name}: {recording.rate:g} samples a second; {RATE:g} are needed, as wheezes reach "
            "1,600 Hz. Record at a higher rate; resampling the file cannot bring back what is lost."
        )
    if recording.seconds < seconds - 0.5 / recording.rate:
        raise StoreError(
            f"{name}: too short: {recording.seconds:.2f} s of at least {seconds:g} s. Leave it "
            "out, or lower `features.seconds` and train again."
        )
    if not np.isfinite(samples).all():
        wrong = int((~np.isfinite(samples)).sum())
        raise StoreError(f"{name}: {wrong} samples are not finite numbers. Export it again.")
    if samples.std() < SILENCE:
        raise StoreError(f"{name}: silent: no sample differs from the others. Record it again.")


def prepared(recording: Recording, seconds: float) -> Recording:
    """At 4 kHz, fit to be looked at; warns of `doubts`. Raises as `refuse_unusable` does."""
    refuse_unusable(recording, seconds)
    for doubt in doubts(recording):
        warnings.warn(doubt, SoundWarning, stacklevel=2)
    return at_rate(recording)


def doubts(recording: Recording) -> list[str]:
    """What makes an answer from this sound doubtful: clipping, and an implausible rate."""
    samples, name = recording.samples, f"{recording.name}.wav"
    reasons = []
    extreme = np.abs(samples) >= 0.999 * np.abs(samples).max()
    runs = np.convolve(extreme, np.ones(3), "valid") == 3
    if runs.mean() > CLIPPED_SHARE:
        reasons.append(
            f"{name}: clipped: {extreme.mean():.1%} of its samples stand at its extremes, which "
            "sounds like crackles. Record it again at a lower gain."
        )
    power = np.abs(np.fft.rfft(samples - samples.mean())) ** 2
    highest = np.searchsorted(power.cumsum(), 0.9 * power.sum()) / recording.seconds
    if not PLAUSIBLE[0] <= highest <= PLAUSIBLE[1]:
        reasons.append(
            f"{name}: nine tenths of its energy lie below {highest:.0f} Hz, as of no chest: the "
            f"{recording.rate:g} samples a second in its header are not those it was recorded with."
            " Correct the rate."
        )
    return reasons
