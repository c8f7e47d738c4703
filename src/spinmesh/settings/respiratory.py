"""Settings of lung sounds, their features, and the classifiers that are trained on them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from spinmesh.settings.setting import Range, Setting


class LungSounds(Setting):
    """The sounds: a folder in the layout of ICBHI 2017, or our own generator's."""

    folder: str | None = None
    """Of *.wav with their cycle tables and the diagnosis file; null: sounds are generated."""
    diagnoses: tuple[str, ...] | None = None
    """Recordings of other diagnoses are left out; null: none is."""
    patients: int = Field(240, ge=16)
    """Generated; a diagnosis has its share of them, three at least."""
    recordings: PositiveInt = 3
    """Of each generated patient, each at a place of its own on the chest."""
    seconds: float = Field(12.0, ge=3.0)
    """Length of a generated recording."""
    snr_db: Range = (3.0, 25.0)
    """Breath noise over the noise of room and sensor; drawn for each recording."""
    severity: Range = (0.4, 1.0)
    """How many of the sounds typical of the diagnosis a patient has; 1: as in the table."""
    event_db: Range = (-6.0, 12.0)
    """Peak of a crackle over three times the breath's RMS, RMS of a wheeze over the breath's."""


class SoundFeatures(Setting):
    """What is computed of a sound, at 4 kHz, where every recording is brought."""

    seconds: float = Field(12.0, ge=1.0)
    """Of a window: a recording is cut into so many as it holds; a shorter one is refused."""
    mel_bands: int = Field(32, ge=8)
    """Between 50 and 2,000 Hz, in the image and in the mel cepstrum."""
    cepstral: int = Field(13, ge=2)
    """MFCC that are taken."""
    steps: int = Field(48, ge=8)
    """Equal parts of a respiratory cycle in a sequence."""
    channels: int = Field(12, ge=4)
    """Mel bands of a sequence; each gives its mean and its highest frame in a step."""


class Afen(Setting):
    """Training of the network with attention, of the trees, and of their vote."""

    width: int = Field(32, ge=8, multiple_of=8)
    """Channels of a branch of the network."""
    iterations: PositiveInt = 400
    """Updates of its weights."""
    batch: PositiveInt = 32
    """Windows of one update."""
    learning_rate: PositiveFloat = 2e-3
    """Highest of the one-cycle schedule of AdamW."""
    weight_decay: NonNegativeFloat = 0.05
    """Of AdamW."""
    trees: PositiveInt = 400
    """At most; fewer where validation patients say so."""
    depth: PositiveInt = 3
    """Of a tree."""
    tree_learning_rate: PositiveFloat = 0.07
    """Part of a tree's answer that is added."""
    test_fraction: float = Field(0.25, gt=0, le=0.5)
    """Of the patients, on whom everything is judged."""
    validation_fraction: float = Field(0.25, gt=0, le=0.5)
    """Of the others: they choose the number of trees and the weights of the vote."""
    repeats: PositiveInt = 5
    """Splits, each with a seed of its own."""


class Spiking(Setting):
    """Recurrent networks of spiking neurons, and how many bits their numbers are given."""

    units: PositiveInt = 64
    """Neurons of the recurrent layer."""
    decay: float = Field(0.9, ge=0, lt=1)
    """Part of a membrane potential that is left after a step."""
    epochs: PositiveInt = 30
    """Times that each training example is shown."""
    batch: PositiveInt = 64
    """Examples of one update of the weights."""
    learning_rate: PositiveFloat = 0.02
    """Highest of the one-cycle schedule."""
    tuning_epochs: PositiveInt = 12
    """The same at few bits, which begins with the weights of full precision."""
    tuning_learning_rate: PositiveFloat = 0.005
    """The same at few bits."""
    networks: PositiveInt = 3
    """Of every kind, each from a seed of its own: the tables show their mean and spread."""
    bits: tuple[Annotated[int, Field(ge=1, le=8)], ...] = (8, 4, 2)
    """Bit widths that are compared with full precision."""
    limits: tuple[tuple[NonNegativeFloat, NonNegativeFloat], ...] = (
        (0.0, 1.0),
        (1.0, 1.0),
        (1.0, 3.0),
        (7.0, 7.0),
    )
    """(lower, upper) that are tried: states lie in -(1 + lower) to 1 + upper thresholds."""
    rate_steps: PositiveInt = 15
    """Steps for which a digit is shown: its pixels send spikes at a rate."""
    step_db: PositiveFloat = 4.0
    """A band of a lung sound sends a spike when it has risen or fallen by so much."""
