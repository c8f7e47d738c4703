"""Single sounds of a chest: crackles, wheezes and rhonchi, breath noise, heart sounds.

Times in s, frequencies in Hz. Sources of the models and of their numbers: docs/methods/sounds.md.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from numpy.random import Generator
from scipy.signal import butter, sosfilt
from scipy.signal.windows import tukey

Samples = Float[ndarray, " sample"]

# Sound amplitude grows with flow to this power (Gavriely & Cugell 1996).
FLOW_POWER = 1.66
# Below, breath noise is flat (Hz).
BREATH_FLOOR = 75.0
# S1 and S2: when in the beat (s), frequency (Hz), half-width (s), height.
HEART_SOUNDS = ((0.05, 45.0, 0.040, 1.0), (0.36, 60.0, 0.030, 0.7))


def crackle(rate: float, pitch: float, duration: float, polarity: int = 1) -> Samples:
    """A damped sinusoid that starts within a quarter of its period (Mori et al. 1980).

    Its envelope has its peak, 1, after that quarter, and a tenth of it at `duration`.
    """
    start = 0.25 / pitch
    t = np.arange(round(2 * duration * rate)) / rate
    rise = np.sin(np.pi / 2 * np.minimum(t / start, 1)) ** 2
    decay = 10 ** -(np.maximum(t - start, 0) / (duration - start))
    envelope: Samples = rise * decay
    return polarity * envelope * np.sin(2 * np.pi * pitch * t)


def tone(
    rate: float, pitch: float, duration: float, glide: float, steepness: float, phase: float
) -> Samples:
    """A wheeze (few harmonics: steep) or a rhonchus (many: flat), of RMS 1 before its fading.

    `glide` is how far the pitch falls from begin to end, relative to its mean `pitch`; harmonic k
    has the amplitude k^-steepness. What would lie beyond half the rate is left out.
    """
    t = np.arange(round(duration * rate)) / rate
    turns = pitch * t * (1 + glide / 2 * (1 - t / duration))
    highest = int(0.45 * rate / (pitch * (1 + abs(glide) / 2)))
    orders = np.arange(1, max(2, min(highest, 12) + 1))
    heights = orders**-steepness
    waves = heights @ np.sin(orders[:, None] * (2 * np.pi * turns + phase))
    return waves * tukey(len(t), 0.3) * np.sqrt(2 / (heights**2).sum())


def breath(flow: Samples, rate: float, corner: float, slope: float, random: Generator) -> Samples:
    """Noise of a given flow (1 at its highest): flat to `corner`, then `slope` dB an octave down.

    RMS 1 where the flow is 1.
    """
    frequency = np.fft.rfftfreq(len(flow), 1 / rate)
    gain = np.maximum(frequency / corner, 1) ** (slope / -20 / np.log10(2))
    gain *= np.minimum(frequency / BREATH_FLOOR, 1)
    noise = np.fft.irfft(np.fft.rfft(random.standard_normal(len(flow))) * gain, len(flow))
    return noise / noise.std() * flow**FLOW_POWER


def heart(rate: float, seconds: float, beat: float, random: Generator) -> Samples:
    """First and second sounds of a heart with a beat every `beat` s; the highest peak is near 1."""
    t = np.arange(round(seconds * rate)) / rate
    beats = np.cumsum(beat * (1 + 0.03 * random.standard_normal(int(1.5 * seconds / beat) + 3)))
    sound = np.zeros_like(t)
    for begun in beats - beats[0] - beat * random.random():
        for after, pitch, width, height in HEART_SOUNDS:
            nearby = slice(*np.searchsorted(t, begun + after + np.array([-4, 4]) * width))
            s = t[nearby] - begun - after
            sound[nearby] += height * np.exp(-((s / width) ** 2)) * np.cos(2 * np.pi * pitch * s)
    return sound


def stethoscope(samples: Samples, rate: float, low: float, high: float) -> Samples:
    """What a membrane of this pass band (Hz) lets through, second order at both ends."""
    passed: Samples = sosfilt(butter(2, low, "highpass", fs=rate, output="sos"), samples)
    if high < 0.45 * rate:
        passed = sosfilt(butter(2, high, "lowpass", fs=rate, output="sos"), passed)
    return passed
