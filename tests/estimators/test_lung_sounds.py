"""Recordings become examples: windows with a diagnosis, cycles with what was heard in them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from spinmesh.errors import ConfigError, StoreError
from spinmesh.estimators.lung_sounds import EVENTS, cycle_examples, window_examples
from spinmesh.settings.respiratory import LungSounds, SoundFeatures
from spinmesh.sounds import Cycle, Recording, generate

SETTINGS = SoundFeatures(seconds=2.0, mel_bands=8, cepstral=3, steps=8, channels=4)


@pytest.fixture(scope="module")
def recordings() -> list[Recording]:
    return list(generate(LungSounds(patients=20, recordings=1, seconds=5.0), 2))


def test_every_window_is_an_example_of_its_patient(recordings: list[Recording]) -> None:
    """5 s hold two windows of 2 s; table, image, label and names fit."""
    examples = window_examples(recordings, SETTINGS)
    assert len(examples) == 2 * len(recordings)
    assert examples.group.tolist() == [r.patient for r in recordings for _ in range(2)]
    told = [examples.names.classes[k] for k in examples.label.tolist()]
    assert told == [r.diagnosis for r in recordings for _ in range(2)]
    # The table's first columns are the means over time of the image's rows.
    rows = examples.image.shape[2]
    torch.testing.assert_close(examples.table[:, :rows], examples.image[:, 0].mean(2))
    assert "mel" in examples.names.features[0] and examples.names.feature_units[0] == "dB"


def test_windows_stand_side_by_side_around_the_middle() -> None:
    samples = np.arange(20_000.0)
    parts = list(Recording("1_1_Al_sc_Meditron", samples, 4000.0).windows(2.0))
    assert [(part.samples[0], part.samples[-1]) for part in parts] == [(2000, 9999), (10000, 17999)]


def test_without_a_diagnosis_there_is_no_label(recordings: list[Recording]) -> None:
    sounds = [replace(each, diagnosis=None) for each in recordings[:2]]
    assert window_examples(sounds, SETTINGS).label is None


def test_every_cycle_is_a_sequence_with_what_was_heard(recordings: list[Recording]) -> None:
    examples = cycle_examples(recordings, SETTINGS)
    cycles = [cycle for recording in recordings for cycle in recording.cycles]
    assert examples.sequence.shape == (len(cycles), 8, 8)
    assert [EVENTS[k] for k in examples.label.tolist()] == [cycle.label for cycle in cycles]


def test_unusable_sounds_and_absent_cycles_are_refused(recordings: list[Recording]) -> None:
    first = recordings[0]
    with pytest.raises(StoreError, match=rf"{first.name}\.wav: too short"):
        window_examples([first], SETTINGS.replace(seconds=6.0))
    beyond = replace(first, cycles=(Cycle(3.0, 5.5, False, False),))
    with pytest.raises(StoreError, match=rf"{first.name}.*cycle.*5\.5 s"):
        cycle_examples([beyond], SETTINGS)
    with pytest.raises(ConfigError, match="no recording has a respiratory cycle"):
        cycle_examples([replace(first, cycles=())], SETTINGS)
    with pytest.raises(ConfigError, match="no recording"):
        window_examples([], SETTINGS)
