"""Recordings of lungs as examples: windows with a diagnosis, cycles with what is heard in them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from spinmesh.errors import ConfigError, StoreError
from spinmesh.estimators.examples import Examples, Names
from spinmesh.progress import progress
from spinmesh.settings.respiratory import SoundFeatures
from spinmesh.sounds import Recording, prepared
from spinmesh.sounds.features import STATISTICS, image, row_names, sequence, statistics

# A cycle may end so much after the sound (s): tables are rounded.
LATEST = 0.05
EVENTS = ("neither", "crackle", "wheeze", "both")


def window_examples(
    recordings: Iterable[Recording], settings: SoundFeatures, classes: tuple[str, ...] | None = None
) -> Examples:
    """Image and table of every window of the recordings, labelled by diagnosis, by patient.

    `classes` are in alphabetical order if not given; without a diagnosis there is no label. Raises
    StoreError for an unusable sound, ConfigError if there is none at all.
    """
    pictures, patients, diagnoses = [], [], []
    for recording in progress(recordings, "features of windows"):
        for window in prepared(recording, settings.seconds).windows(settings.seconds):
            pictures.append(image(window, settings))
            patients.append(recording.patient)
            diagnoses.append(recording.diagnosis)
    if not pictures:
        raise ConfigError("sounds: no recording. Correct `sounds.folder` or `sounds.diagnoses`.")
    named = [diagnosis for diagnosis in diagnoses if diagnosis is not None]
    classes = classes or tuple(sorted(set(named)))
    label = [classes.index(diagnosis) for diagnosis in named]
    columns = [
        (f"{name}, {pooled} of 32 ms, {statistic}", unit)
        for pooled in ("mean", "highest")
        for statistic in STATISTICS
        for name, unit in row_names(settings)
    ]
    return Examples(
        torch.tensor(patients),
        Names(
            tuple(name for name, _ in columns),
            tuple(unit for _, unit in columns),
            classes=classes,
        ),
        torch.tensor(label) if len(label) == len(patients) else None,
        table=torch.from_numpy(np.stack([statistics(each).ravel() for each in pictures])),
        image=torch.from_numpy(np.stack(pictures)),
    )


def cycle_examples(recordings: Iterable[Recording], settings: SoundFeatures) -> Examples:
    """A sequence of every respiratory cycle, labelled neither, crackle, wheeze or both.

    Raises StoreError for an unusable sound or a table that is not the recording's, ConfigError if
    there is no cycle at all.
    """
    sequences, patients, labels = [], [], []
    for recording in progress(recordings, "features of cycles"):
        sound = prepared(recording, 0.0)
        for cycle in recording.cycles:
            if cycle.end > sound.seconds + LATEST:
                raise StoreError(
                    f"{recording.name}.txt: a cycle ends at {cycle.end:g} s, the sound at "
                    f"{sound.seconds:g} s. Give the table of this recording."
                )
            sequences.append(sequence(sound.between(cycle.start, cycle.end), settings))
            patients.append(recording.patient)
            labels.append(EVENTS.index(cycle.label))
    if not sequences:
        raise ConfigError("sounds: no recording has a respiratory cycle. Give cycle tables.")
    return Examples(
        torch.tensor(patients),
        Names(classes=EVENTS),
        torch.tensor(labels),
        sequence=torch.from_numpy(np.stack(sequences)),
    )
