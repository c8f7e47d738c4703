"""Features of a sound: mel spectrogram, MFCC, chroma, roll-off and zero crossings, over time.

Windows are periodic Hann's around every `hop` samples, the sound going on as zeros. Definitions are
librosa's (McFee et al. 2015), with whose numbers a test compares.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.fft import dct
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann

from spinmesh.settings.respiratory import SoundFeatures
from spinmesh.sounds.recording import RATE, Recording
from spinmesh.sounds.sources import Samples

Power = Float[ndarray, "bin frame"]
Mel = Float[ndarray, "band frame"]

# Samples at 4 kHz: 32 ms, in which a crackle stands out, and 128 ms, in which a pitch does.
SHORT, LONG, HOP = 128, 512, 32
# Frames that make one column of an image: 32 ms.
POOL = 4
# Limits of the mel bands (Hz); dynamic range of a spectrogram (dB); energy below the roll-off.
BAND, RANGE, ROLL_OFF = (50.0, 2000.0), 80.0, 0.85
PITCH_CLASSES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
# Slaney's mel scale: linear to 1 kHz, where 15 mels are reached, then 27 to a factor of 6.4.
LINEAR, CORNER, LOG_STEP = 200 / 3, 1000.0, np.log(6.4) / 27
STATISTICS = ("mean", "deviation", "10 %", "90 %", "99 %")


def power(samples: Samples, window: int, hop: int = HOP) -> Power:
    """Squared magnitude of the short-time Fourier transform, from 0 to half the rate."""
    transform = ShortTimeFFT(hann(window, sym=False), hop, fs=RATE)
    spectrum = transform.stft(samples, p0=0, p1=len(samples) // hop + 1)
    return spectrum.real**2 + spectrum.imag**2


@cache
def mel_filters(count: int, window: int) -> Float[ndarray, "band bin"]:
    """Triangles, equally wide in mels and of equal area in Hz."""
    corners = _corners(count)
    frequency = np.fft.rfftfreq(window, 1 / RATE)
    rising = (frequency - corners[:-2, None]) / np.diff(corners)[:-1, None]
    falling = (corners[2:, None] - frequency) / np.diff(corners)[1:, None]
    triangles = np.maximum(np.minimum(rising, falling), 0)
    filters: ndarray = triangles * 2 / (corners[2:] - corners[:-2])[:, None]
    return filters


def band_centres(count: int) -> Float[ndarray, " band"]:
    """Of the mel bands (Hz)."""
    return _corners(count)[1:-1]


def _corners(count: int) -> Float[ndarray, " corner"]:
    low, high = _mels(np.array(BAND)).tolist()
    return _hertz(np.linspace(low, high, count + 2))


def _mels(hertz: ndarray) -> ndarray:
    above = 15 + np.log(np.maximum(hertz, CORNER) / CORNER) / LOG_STEP
    return np.where(hertz < CORNER, hertz / LINEAR, above)


def _hertz(mels: ndarray) -> ndarray:
    return np.where(mels < 15, mels * LINEAR, CORNER * np.exp(LOG_STEP * (mels - 15)))


def decibels(power: Mel) -> Mel:
    """10 log10, not more than 80 dB below the highest."""
    level = 10 * np.log10(np.maximum(power, 1e-10))
    return np.maximum(level, level.max() - RANGE)


def mel_spectrogram(spectrum: Power, count: int) -> Mel:
    """Power in each band (dB)."""
    return decibels(mel_filters(count, 2 * (len(spectrum) - 1)) @ spectrum)


def mfcc(mel: Mel, count: int) -> Float[ndarray, "coefficient frame"]:
    """The first cosine coefficients of the columns of a mel spectrogram."""
    return dct(mel, axis=0, norm="ortho")[:count]


@cache
def chroma_filters(window: int) -> Float[ndarray, "pitch_class bin"]:
    """How much of each frequency belongs to each pitch class, most around 440 Hz (Ellis 2007)."""
    frequency = np.arange(1, window) * RATE / window
    tones = 12 * np.log2(frequency / 27.5)
    tones = np.concatenate([[tones[0] - 18], tones])
    widths = np.concatenate([np.maximum(np.diff(tones), 1), [1]])
    apart = (tones - np.arange(12)[:, None] + 6) % 12 - 6
    weights = np.exp(-2 * (apart / widths) ** 2)
    weights /= np.linalg.norm(weights, axis=0)
    weights *= np.exp(-(((tones / 12 - 5) / 2) ** 2) / 2)
    filters: ndarray = np.roll(weights, -3, axis=0)[:, : window // 2 + 1]
    return filters


def chroma(spectrum: Power) -> Float[ndarray, "pitch_class frame"]:
    """Power of the twelve pitch classes, the largest of each frame being 1."""
    classes = chroma_filters(2 * (len(spectrum) - 1)) @ spectrum
    highest = classes.max(0)
    return classes / np.where(highest > 0, highest, 1)


def roll_off(spectrum: Power) -> Float[ndarray, " frame"]:
    """Frequency (Hz) below which 85 % of a frame's magnitude lie."""
    below = np.sqrt(spectrum).cumsum(0)
    first = (below >= ROLL_OFF * below[-1]).argmax(0)
    return first * RATE / (2 * (len(spectrum) - 1))


def zero_crossing_rate(samples: Samples, window: int = SHORT) -> Float[ndarray, " frame"]:
    """Share of a frame's samples that differ in sign from the one before."""
    padded = np.pad(samples, window // 2, mode="edge")
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::HOP]
    crossings: ndarray = np.diff(np.signbit(frames), axis=1).sum(1) / window
    return crossings


def image(recording: Recording, settings: SoundFeatures) -> Float[ndarray, "2 row column"]:
    """All features over time, of four frames each the mean and the highest; RMS of the sound 1.

    Rows: mel bands (dB), MFCC, pitch classes, roll-off (kHz), zero-crossing rate.
    """
    samples = recording.samples - recording.samples.mean()
    samples = samples / samples.std()
    short, long = power(samples, SHORT), power(samples, LONG)
    mel = mel_spectrogram(short, settings.mel_bands)
    rows = [mel, mfcc(mel, settings.cepstral), chroma(long), roll_off(short)[None] / 1e3]
    frames = np.concatenate([*rows, zero_crossing_rate(samples)[None]])
    frames = frames[:, : frames.shape[1] // POOL * POOL].reshape(len(frames), -1, POOL)
    return np.stack([frames.mean(2), frames.max(2)]).astype(np.float32)


def kinds(settings: SoundFeatures) -> tuple[int, ...]:
    """How many rows of an image are mel bands, MFCC, pitch classes, and numbers of their own."""
    return settings.mel_bands, settings.cepstral, len(PITCH_CLASSES), 2


def row_names(settings: SoundFeatures) -> list[tuple[str, str]]:
    """Name and unit of every row of an image."""
    return [
        *((f"mel {centre:.0f} Hz", "dB") for centre in band_centres(settings.mel_bands)),
        *((f"MFCC {order}", "dB") for order in range(settings.cepstral)),
        *((f"chroma {name}", "1") for name in PITCH_CLASSES),
        ("roll-off", "kHz"),
        ("zero-crossing rate", "1"),
    ]


def statistics(image: Float[ndarray, "2 row column"]) -> Float[ndarray, "2 statistic row"]:
    """Mean, deviation and three percentiles of every row over time."""
    percentiles = np.percentile(image, (10, 90, 99), axis=2)
    return np.stack([image.mean(2), image.std(2), *percentiles], 1).astype(np.float32)


def sequence(recording: Recording, settings: SoundFeatures) -> Float[ndarray, "step input"]:
    """The sound in `steps` equal parts: of each mel band the mean, then the highest frame (dB)."""
    samples = recording.samples - recording.samples.mean()
    mel = mel_spectrogram(power(samples / samples.std(), SHORT), settings.channels)
    edges = np.linspace(0, mel.shape[1], settings.steps + 1).round().astype(int)[:-1]
    counts = np.diff(edges, append=mel.shape[1])
    mean = np.add.reduceat(mel, edges, axis=1) / counts
    highest = np.maximum.reduceat(mel, edges, axis=1)
    return np.concatenate([mean, highest]).T.astype(np.float32)
