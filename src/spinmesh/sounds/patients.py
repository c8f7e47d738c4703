"""Patients with a diagnosis, and the recordings that a stethoscope makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from numpy.random import Generator

from spinmesh.settings.respiratory import LungSounds
from spinmesh.sounds.recording import Cycle, Recording
from spinmesh.sounds.sources import Samples, breath, crackle, heart, stethoscope, tone


@dataclass(frozen=True)
class Signs:
    """How a diagnosis sounds at severity 1.

    `share`: of all patients. `fine` and `coarse`: crackles in an inspiration. `when`: their mean
    time and its spread, 0 at the begin and 1 at the end of the inspiration. `wheeze`, `rhonchus`:
    chance in an expiration. `loudness`: of the breath (dB). `bronchial`: harsh, as loud out as in.
    `places`: chance that a place on the chest has these sounds.
    """

    share: float
    fine: float = 0.0
    coarse: float = 0.0
    when: tuple[float, float] = (0.5, 0.25)
    wheeze: float = 0.0
    rhonchus: float = 0.0
    loudness: float = 0.0
    bronchial: bool = False
    places: float = 1.0


DIAGNOSES: Mapping[str, Signs] = {
    "healthy": Signs(0.25, coarse=0.1, wheeze=0.02),
    "asthma": Signs(0.2, coarse=0.3, wheeze=0.8, rhonchus=0.15, places=0.95),
    "COPD": Signs(0.25, coarse=5.0, when=(0.25, 0.12), wheeze=0.35, rhonchus=0.4, loudness=-6.0,
                  places=0.9),
    "fibrosis": Signs(0.15, fine=10.0, when=(0.7, 0.17), wheeze=0.03, places=0.9),
    "pneumonia": Signs(0.15, coarse=6.0, when=(0.5, 0.15), wheeze=0.08, rhonchus=0.1,
                       bronchial=True, places=0.8),
}  # fmt: skip
# Rate (Hz) and pass band (Hz) of the stethoscopes of ICBHI 2017, the bands being ours.
DEVICES: Mapping[str, tuple[float, float, float]] = {
    "Litt3200": (4000.0, 40.0, 900.0),
    "Meditron": (44100.0, 25.0, 1500.0),
    "AKGC417L": (44100.0, 40.0, 1800.0),
}
DEVICE_SHARES = (0.8, 0.1, 0.1)
PLACES = ("Tc", "Al", "Ar", "Pl", "Pr", "Ll", "Lr")
# Pitch (Hz) and duration (s) of crackles; their spread between patients, and within one.
FINE, COARSE = (650.0, 0.005), (350.0, 0.015)
BETWEEN, WITHIN = 0.2, 0.1
# Harmonic k of a tone has the height k^-steepness: a wheeze is nearly a sine, a rhonchus rattles.
WHEEZE_STEEPNESS, RHONCHUS_STEEPNESS = 2.0, 0.7
# Most inspiratory crackles begin downwards (Vyshedskiy et al. 2009).
NEGATIVE = 0.76
# The same flow is so much louder on its way in (Gavriely & Cugell 1996).
IN_OVER_OUT = 2.2


@dataclass(frozen=True)
class Patient:
    """What stays the same in all recordings of a patient; times in s, pitches in Hz."""

    number: int
    diagnosis: str
    severity: float
    period: float
    inspiration: float
    beat: float
    corner: float
    slopes: tuple[float, float]
    spread: float
    wheeze: float
    rhonchus: float
    device: str

    @property
    def signs(self) -> Signs:
        """Of the diagnosis."""
        return DIAGNOSES[self.diagnosis]


def generate(settings: LungSounds, seed: int) -> Iterator[Recording]:
    """All recordings of all patients, one after the other; patient k follows from seed and k."""
    for number, diagnosis in enumerate(_diagnoses(settings.patients)):
        random = np.random.default_rng([seed, number])
        patient = draw_patient(101 + number, diagnosis, settings, random)
        places = random.permutation(PLACES)
        for index in range(settings.recordings):
            place = places[index % len(places)]
            name = f"{patient.number}_{index + 1}b1_{place}_sc_{patient.device}"
            yield record(patient, name, settings, random)


def _diagnoses(patients: int) -> list[str]:
    """Every diagnosis by its share, three patients at least; the first takes what is left."""
    counts = {name: max(3, round(signs.share * patients)) for name, signs in DIAGNOSES.items()}
    first = next(iter(DIAGNOSES))
    counts[first] += patients - sum(counts.values())
    return [name for name, count in counts.items() for _ in range(count)]


def draw_patient(number: int, diagnosis: str, settings: LungSounds, random: Generator) -> Patient:
    """A patient, who breathes 12 to 22 times a minute, and the stethoscope that is used."""
    return Patient(
        number,
        diagnosis,
        severity=random.uniform(*settings.severity),
        period=60 / random.uniform(12, 22),
        inspiration=random.uniform(0.35, 0.48),
        beat=60 / random.uniform(58, 100),
        corner=random.uniform(150, 300),
        slopes=(random.uniform(12.7, 15.2), random.uniform(13.4, 20.3)),
        spread=float(np.exp(BETWEEN * random.standard_normal())),
        wheeze=float(np.exp(random.uniform(np.log(200), np.log(900)))),
        rhonchus=random.uniform(80, 250),
        device=str(random.choice(list(DEVICES), p=DEVICE_SHARES)),
    )


def record(patient: Patient, name: str, settings: LungSounds, random: Generator) -> Recording:
    """One recording: breath, what the diagnosis adds to it, heart, rubbing, noise, stethoscope."""
    rate, low, high = DEVICES[patient.device]
    size = round(settings.seconds * rate)
    ill = random.random() < patient.signs.places
    bronchial = patient.signs.bronchial and ill
    corner = patient.corner * (2 if bronchial else 1)
    inward, outward, phases = _flows(patient, size, rate, random)
    loudness = 10 ** (patient.signs.loudness * patient.severity * ill / 20)
    sound = loudness * breath(inward, rate, corner, patient.slopes[0], random)
    part = loudness / (1 if bronchial else IN_OVER_OUT)
    sound += part * breath(outward, rate, corner, patient.slopes[1 - bronchial], random)
    level = 10 ** (random.uniform(*settings.event_db) / 20)
    cycles = []
    for start, turn, end in phases:
        events = _add_events(sound, rate, patient, ill, level, (start, turn, end), random)
        if start >= 0 and end <= settings.seconds:
            cycles.append(Cycle(start, end, *events))
    sound += 10 ** (random.uniform(-10, 8) / 20) * heart(rate, size / rate, patient.beat, random)
    for _ in range(random.poisson(1.0)):
        _add(sound, _rub(rate, random), int(random.integers(size)))
    noise = 10 ** (-random.uniform(*settings.snr_db) / 20)
    room = breath(np.ones(size), rate, 100.0, 6.0, random)
    sound += noise * (0.7 * room + 0.7 * random.standard_normal(size))
    sound = stethoscope(sound, rate, low, high)
    sound *= random.uniform(0.1, 0.9) / np.abs(sound).max()
    return Recording(name, sound, rate, tuple(cycles), patient.diagnosis)


def _flows(
    patient: Patient, size: int, rate: float, random: Generator
) -> tuple[Samples, Samples, list[tuple[float, float, float]]]:
    """Flow in and flow out, and begin, turn and end of every breath; as much goes out as in."""
    inward, outward, phases = np.zeros(size), np.zeros(size), []
    t = np.arange(size) / rate
    start = -patient.period * random.random()
    while start < size / rate:
        period = patient.period * (1 + 0.07 * random.standard_normal())
        share = patient.inspiration
        turn, end = start + share * period, start + period
        i, o = (t >= start) & (t < turn), (t >= turn) & (t < end)
        inward[i] = np.sin(np.pi * (t[i] - start) / (turn - start))
        outward[o] = share / (1 - share) * np.sin(np.pi * (t[o] - turn) / (end - turn))
        phases.append((start, turn, end))
        start = end
    return inward, outward, phases


def _add_events(
    sound: Float[ndarray, " sample"],
    rate: float,
    patient: Patient,
    ill: bool,
    level: float,
    phases: tuple[float, float, float],
    random: Generator,
) -> tuple[bool, bool]:
    """Add crackles to an inspiration and wheezes to an expiration; whether there are any."""
    (start, turn, end), signs = phases, patient.signs if ill else DIAGNOSES["healthy"]
    crackles = wheezes = 0
    for mean, (pitch, duration) in ((signs.fine, FINE), (signs.coarse, COARSE)):
        for _ in range(random.poisson(patient.severity * mean)):
            stretch = patient.spread * np.exp(WITHIN * random.standard_normal())
            when = np.clip(random.normal(*signs.when), 0, 0.95)
            height = 3 * level * 10 ** (random.normal(0, 3) / 20)
            sign = -1 if random.random() < NEGATIVE else 1
            wave = height * crackle(rate, pitch / stretch, duration * stretch, sign)
            crackles += _add(sound, wave, round((start + when * (turn - start)) * rate))
    for chance, pitch, steepness in (
        (signs.wheeze, patient.wheeze, WHEEZE_STEEPNESS),
        (signs.rhonchus, patient.rhonchus, RHONCHUS_STEEPNESS),
    ):
        if random.random() < patient.severity**0.5 * chance:
            duration = max(0.1, random.uniform(0.15, 0.8) * (end - turn))
            pitch *= np.exp(WITHIN * random.standard_normal())
            glide, phase = random.uniform(-0.1, 0.25), random.uniform(0, 2 * np.pi)
            wave = 0.7 * level * tone(rate, pitch, duration, glide, steepness, phase)
            begun = turn + random.random() * max(end - turn - duration, 0)
            wheezes += _add(sound, wave, round(begun * rate))
    return crackles > 0, wheezes > 0


def _rub(rate: float, random: Generator) -> Samples:
    """The membrane moving on the skin: a short burst of noise."""
    size = round(random.uniform(0.01, 0.08) * rate)
    return random.uniform(0.5, 3) * np.hanning(size) * random.standard_normal(size)


def _add(sound: Samples, wave: Float[ndarray, " part"], first: int) -> bool:
    """Add what of a wave falls into the sound; whether all of it does."""
    begin, end = max(first, 0), min(first + len(wave), len(sound))
    if begin < end:
        sound[begin:end] += wave[begin - first : end - first]
    return begin == first and end == first + len(wave)
