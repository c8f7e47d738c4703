"""What the generator was told is found again in the sound, by means that are none of its own."""

import collections

import numpy as np
import pytest
from scipy.signal import hilbert, welch

from spinmesh.settings.respiratory import LungSounds
from spinmesh.sounds import DIAGNOSES, Recording, at_rate, generate
from spinmesh.sounds.patients import COARSE, FINE, NEGATIVE, draw_patient
from spinmesh.sounds.sources import FLOW_POWER, breath, crackle, heart, stethoscope, tone

RATES = (4000.0, 44100.0)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def noise(size: int, rate: float, seed: int = 0) -> np.ndarray:
    """Breath at its loudest, RMS 1."""
    return breath(np.ones(size), rate, 200.0, 14.0, rng(seed))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(("pitch", "duration"), [FINE, COARSE, (900.0, 0.006), (250.0, 0.02)])
def test_duration_of_a_crackle_is_found_in_the_sound(
    rate: float, pitch: float, duration: float
) -> None:
    """How long its envelope is above a tenth of its peak: to 10 %, 30 dB above the breath."""
    at, size = round(0.2 * rate), round(0.5 * rate)
    found = []
    for seed in range(9):
        sound = 0.03 * noise(size, rate, seed)
        wave = crackle(rate, pitch, duration)
        sound[at : at + len(wave)] += wave
        envelope = np.abs(hilbert(sound))[at : at + len(wave)]
        peak = envelope.argmax()
        last = peak + np.argmax(envelope[peak:] < 0.1 * envelope.max())
        found.append(last / rate)
    # The envelope of a sampled sound ends between two samples.
    assert np.median(found) == pytest.approx(duration, rel=0.1, abs=0.5 / rate)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(("pitch", "steepness"), [(180.0, 0.7), (420.0, 2.0), (1500.0, 2.0)])
def test_pitch_of_a_wheeze_is_found_in_the_sound(
    rate: float, pitch: float, steepness: float
) -> None:
    """The highest line of its spectrum, to 2 %, in breath of the same power."""
    wave = tone(rate, pitch, 0.4, 0.0, steepness, 0.7)
    sound = wave + noise(len(wave), rate)
    power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 8 * len(sound))) ** 2
    frequency = np.fft.rfftfreq(8 * len(sound), 1 / rate)
    assert frequency[power.argmax()] == pytest.approx(pitch, rel=0.02)


def test_pitch_falls_as_it_was_told_to() -> None:
    """Rate of phase of a gliding sine: from 5 % above to 5 % below its mean."""
    wave = tone(4000.0, 500.0, 0.5, 0.1, 9.0, 0.0)
    pitch = np.diff(np.unwrap(np.angle(hilbert(wave)))) * 4000 / (2 * np.pi)
    begin, end = np.median(pitch[100:200]), np.median(pitch[-200:-100])
    # Linear: 150 samples from each end of 2000, of a fall by 50 Hz.
    assert begin == pytest.approx(525 - 3.75, abs=0.5)
    assert end == pytest.approx(475 + 3.75, abs=0.5)


def test_no_harmonic_lies_beyond_half_the_rate() -> None:
    """A line there would come back at another pitch."""
    power = np.abs(np.fft.rfft(tone(4000.0, 700.0, 1.0, 0.0, 0.5, 0.0))) ** 2
    lines = np.flatnonzero(power > 1e-3 * power.max())
    assert {round(line / 700) for line in lines} == {1, 2}


@pytest.mark.parametrize("slope", [12.7, 20.3])
def test_breath_falls_by_its_slope_and_grows_with_flow(slope: float) -> None:
    """Between one and two octaves above the corner; the power of half the flow is 2^-3.3."""
    rate = 4000.0
    sound = breath(np.ones(400_000), rate, 200.0, slope, rng())
    frequency, power = welch(sound, rate, nperseg=1024)
    octave = [np.interp(f, frequency, 10 * np.log10(power)) for f in (400, 800)]
    # The spectrum of 780 segments is known to 4 %, 0.3 dB at both ends.
    assert octave[0] - octave[1] == pytest.approx(slope, abs=0.5)
    half = breath(np.full(400_000, 0.5), rate, 200.0, slope, rng())
    assert half.std() / sound.std() == pytest.approx(0.5**FLOW_POWER, rel=1e-9)


def test_heart_beats_as_often_as_it_should() -> None:
    """Power comes back after a beat: 75 a minute is one each 0.8 s."""
    envelope = np.abs(hilbert(heart(1000.0, 60.0, 0.8, rng())))
    power = np.abs(np.fft.rfft(envelope - envelope.mean(), 2**17)) ** 2
    frequency = np.fft.rfftfreq(2**17, 1e-3)
    band = (frequency > 0.8) & (frequency < 2)
    assert frequency[band][power[band].argmax()] == pytest.approx(1.25, rel=0.03)


def test_stethoscope_passes_its_band_alone() -> None:
    """Second order at both ends: 12 dB an octave away, within the ripple of a Butterworth."""
    response = []
    for pitch in (10.0, 300.0, 1800.0):
        wave = np.sin(2 * np.pi * pitch * np.arange(44100) / 44100)
        response.append(stethoscope(wave, 44100.0, 40.0, 900.0)[20_000:].std() * 2**0.5)
    assert response[1] == pytest.approx(1, abs=0.03)
    assert 20 * np.log10(response[0]) == pytest.approx(-24, abs=0.5)
    assert 20 * np.log10(response[2]) == pytest.approx(-12.3, abs=0.5)


@pytest.fixture(scope="module")
def recordings() -> list[Recording]:
    settings = LungSounds(patients=24, recordings=1, seconds=6.0, severity=(1.0, 1.0))
    return list(generate(settings, 3))


def test_healthy_breath_has_the_spectrum_of_real_recordings(recordings: list[Recording]) -> None:
    """ICBHI 2017: up to 7 % of the energy lie between 600 and 1,200 Hz."""
    shares = []
    for recording in recordings:
        if recording.diagnosis == "healthy":
            sound = at_rate(recording)
            power = np.abs(np.fft.rfft(sound.samples)) ** 2
            frequency = np.fft.rfftfreq(len(sound.samples), 1 / sound.rate)
            band = (frequency > 600) & (frequency < 1200)
            shares.append(power[band].sum() / power[frequency > 20].sum())
    assert np.median(shares) < 0.07


def test_every_diagnosis_has_its_sounds(recordings: list[Recording]) -> None:
    """At full severity: crackles with fibrosis, wheezes with asthma, both with COPD."""
    heard = {name: collections.Counter[str]() for name in DIAGNOSES}
    for recording in recordings:
        heard[recording.diagnosis].update(cycle.label for cycle in recording.cycles)
    likeliest = {name: counter.most_common(1)[0][0] for name, counter in heard.items()}
    assert likeliest["healthy"] == "neither"
    assert likeliest["fibrosis"] == "crackle"
    assert likeliest["asthma"] == "wheeze"
    assert heard["COPD"]["both"] > 0
    assert len({recording.patient for recording in recordings}) == 24


def test_sounds_follow_from_seed_and_number_of_the_patient() -> None:
    """Another seed: another sound; the same twice: the same."""
    few = LungSounds(patients=20, recordings=1, seconds=3)
    first, again, other = (next(generate(few, seed)) for seed in (1, 1, 2))
    assert np.array_equal(first.samples, again.samples)
    assert first.samples.shape != other.samples.shape or not np.allclose(
        first.samples, other.samples
    )


def test_patients_of_one_diagnosis_differ() -> None:
    drawn = [draw_patient(k, "COPD", LungSounds(), rng(k)) for k in range(50)]
    for name in ("severity", "period", "corner", "spread", "wheeze"):
        values = np.array([getattr(patient, name) for patient in drawn])
        assert values.std() / values.mean() > 0.1, name


def test_most_crackles_begin_downwards() -> None:
    """The first half wave of each, as drawn for recordings: 76 %."""
    assert np.mean(rng().random(10_000) < NEGATIVE) == pytest.approx(0.76, abs=0.02)
    wave = crackle(44100.0, 650.0, 0.005, -1)
    assert wave[np.flatnonzero(np.abs(wave) > 0.1)[0]] < 0
