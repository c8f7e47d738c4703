"""BIDS sidecars: the timing of a diffusion series in a JSON file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from spinmesh.errors import SequenceError
from spinmesh.io.text import text_of
from spinmesh.reading import reading
from spinmesh.units import ms_from_s

# Names in use, for BIDS has none; all in seconds. Compared without case.
NAMES = {
    "delta": (
        "DiffusionGradientDuration",
        "DiffusionPulseDuration",
        "GradientDuration",
        "SmallDelta",
    ),
    "Delta": (
        "DiffusionGradientSeparation",
        "DiffusionPulseSeparation",
        "GradientSeparation",
        "BigDelta",
        "LargeDelta",
    ),
    # The first that is there: BIDS has no echo time for each volume.
    "TE": ("EchoTimePerVolume", "EchoTime"),
}
# Pulses and echoes of a second do not exist in vivo: such a file holds ms.
MOST_SECONDS = 1.0


def read_sidecar(path: str | Path) -> dict[str, Float[ndarray, " time"]]:
    """delta, Delta and TE (ms) as far as the file names them: one value, or one per measurement.

    Raises SequenceError for a value that is no number of seconds, or for two that differ.
    """
    with reading(path, "BIDS sidecar (JSON)"):
        content = json.loads(text_of(path))
    if not isinstance(content, dict):
        raise SequenceError(f"{path}: no JSON object. Give the sidecar of the diffusion series.")
    values = {key.lower(): value for key, value in content.items()}
    timings = {}
    for name, keys in NAMES.items():
        given = {
            key: _seconds(path, key, values[key.lower()]) for key in keys if key.lower() in values
        }
        if name != "TE" and len(set(map(tuple, given.values()))) > 1:
            raise SequenceError(f"{path}: {', '.join(given)} differ. Leave one of them.")
        if given:
            timings[name] = ms_from_s(np.array(next(iter(given.values()))))
    return timings


def _seconds(path: str | Path, key: str, value: Any) -> list[float]:
    """One time, or one for each measurement."""
    times = value if isinstance(value, list) else [value]
    for time in times:
        number = isinstance(time, int | float) and not isinstance(time, bool)
        if not number or not 0 < time < MOST_SECONDS:
            raise SequenceError(
                f"{path}: `{key}` is {str(time)[:40]}; give seconds, between 0 and 1. Is it in ms?"
            )
    return times
