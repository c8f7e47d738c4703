"""Features of sounds whose features are known, and librosa's where it is installed."""

import numpy as np
import pytest

from spinmesh.settings.respiratory import SoundFeatures
from spinmesh.sounds import RATE, Recording
from spinmesh.sounds import features as f

TIME = np.arange(round(2 * RATE)) / RATE
INNER = slice(20, -20)  # frames that lie wholly inside


def sine(pitch: float) -> np.ndarray:
    return np.sin(2 * np.pi * pitch * TIME)


def sounding() -> np.ndarray:
    """Noise, a tone and clicks."""
    random = np.random.default_rng(5)
    clicks = 3.0 * (random.random(len(TIME)) < 0.003)
    return 0.3 * random.standard_normal(len(TIME)) + sine(440.0) + clicks


def test_power_of_a_sine_stands_at_its_pitch() -> None:
    """Hann's window: (sum of the window / 2)^2 for a sine on a line of the transform."""
    power = f.power(sine(500.0), f.SHORT)
    line = round(500 / RATE * f.SHORT)
    assert (power[:, INNER].argmax(0) == line).all()
    np.testing.assert_allclose(power[line, INNER], (f.SHORT / 4) ** 2, rtol=1e-9)


def test_mel_bands_have_equal_area_and_the_band_of_a_sine_is_the_highest() -> None:
    """Half of a triangle's base times its height is 1; sampled at lines of 1/8 Hz to 1 %."""
    filters = f.mel_filters(32, 32_000)
    np.testing.assert_allclose(filters.sum(1) * RATE / 32_000, 1, rtol=0.01)
    centres = f.band_centres(32)
    for band in (3, 15, 30):
        mel = f.mel_spectrogram(f.power(sine(float(centres[band])), f.LONG), 32)
        assert (mel[:, INNER].argmax(0) == band).all()


def test_mfcc_of_a_flat_spectrum_are_its_level_alone() -> None:
    """An orthonormal cosine transform of a constant c of n bands: c sqrt(n), then zeros."""
    coefficients = f.mfcc(np.full((32, 4), -20.0), 13)
    np.testing.assert_allclose(coefficients[0], -20 * 32**0.5)
    np.testing.assert_allclose(coefficients[1:], 0, atol=1e-12)


@pytest.mark.parametrize(("pitch", "name"), [(440.0, "A"), (523.25, "C"), (880.0, "A")])
def test_a_pitch_belongs_to_its_class_in_every_octave(pitch: float, name: str) -> None:
    classes = f.chroma(f.power(sine(pitch), f.LONG))[:, INNER]
    assert (classes.argmax(0) == f.PITCH_CLASSES.index(name)).all()


def test_roll_off_and_zero_crossings_of_a_sine_are_its_pitch() -> None:
    """To the line of the transform; two crossings in a period, give or take one in a frame."""
    sound = sine(1000.0)
    assert (f.roll_off(f.power(sound, f.SHORT))[INNER] == 1000 + RATE / f.SHORT).all()
    rate = f.zero_crossing_rate(sound + 1e-9)[INNER]
    np.testing.assert_allclose(rate, 2 * 1000 / RATE, atol=1 / f.SHORT)


def test_image_is_named_row_by_row_and_knows_no_loudness() -> None:
    """The same sound ten times louder, on a constant, has the same features."""
    settings = SoundFeatures(mel_bands=20, cepstral=5)
    quiet, loud = (
        f.image(Recording("1_1_Al_sc_Meditron", x, RATE), settings)
        for x in (sounding(), 10 * sounding() + 3)
    )
    assert quiet.shape[1] == len(f.row_names(settings)) == sum(f.kinds(settings))
    # Numbers are float32, of up to 100 dB.
    np.testing.assert_allclose(quiet, loud, rtol=1e-5, atol=1e-3)
    assert (quiet[1] >= quiet[0] - 1e-6).all()


def test_sequence_shows_when_something_happens() -> None:
    """A click amid the sixth of eight parts raises its highest frame there, and there alone."""
    sound = 0.01 * np.random.default_rng(1).standard_normal(len(TIME))
    sound[11 * len(sound) // 16] = 5.0
    parts = f.sequence(
        Recording("1_1_Al_sc_Meditron", sound, RATE), SoundFeatures(steps=8, channels=6)
    )
    assert parts.shape == (8, 12)
    assert (parts[:, 6:].argmax(0) == 5).all()


def test_statistics_are_those_of_every_row() -> None:
    image = np.stack([np.arange(101.0), np.zeros(101)])[:, None]
    numbers = f.statistics(image)
    np.testing.assert_allclose(numbers[0, :, 0], [50, 850**0.5, 10, 90, 99], rtol=1e-6)
    np.testing.assert_allclose(numbers[1], 0)


def test_features_agree_with_librosa() -> None:
    """All five, on noise with a tone and clicks; librosa rounds some of them to float32."""
    librosa = pytest.importorskip("librosa")
    sound, common = sounding(), {"sr": RATE, "hop_length": f.HOP}
    short, long = f.power(sound, f.SHORT), f.power(sound, f.LONG)
    expected = np.abs(librosa.stft(sound, n_fft=f.SHORT, hop_length=f.HOP)) ** 2
    np.testing.assert_allclose(short, expected, rtol=1e-4, atol=1e-6)
    band = {"n_mels": 32, "fmin": f.BAND[0], "fmax": f.BAND[1]}
    mel = librosa.feature.melspectrogram(y=sound, n_fft=f.SHORT, **common, **band)
    mel = librosa.power_to_db(mel)
    np.testing.assert_allclose(f.mel_spectrogram(short, 32), mel, atol=1e-3)
    cepstrum = librosa.feature.mfcc(S=mel, n_mfcc=13)
    np.testing.assert_allclose(f.mfcc(mel, 13), cepstrum, atol=1e-3)
    chroma = librosa.feature.chroma_stft(S=long, sr=RATE, n_fft=f.LONG, tuning=0.0)
    np.testing.assert_allclose(f.chroma(long), chroma, atol=1e-4)
    roll = librosa.feature.spectral_rolloff(S=np.sqrt(short), sr=RATE, n_fft=f.SHORT)
    np.testing.assert_allclose(f.roll_off(short), roll[0])
    rate = librosa.feature.zero_crossing_rate(sound, frame_length=f.SHORT, hop_length=f.HOP)
    np.testing.assert_allclose(f.zero_crossing_rate(sound), rate[0], atol=1e-12)
