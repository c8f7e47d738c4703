"""Stores of acquisitions with sequences of any kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr

from spinmesh.errors import StoreError
from spinmesh.io.codec import register, text_codes, text_from
from spinmesh.sequence import (
    PGSE,
    Acquisition,
    CosineOGSE,
    FreeWaveform,
    MultiplePGSE,
    Sequence,
    SineOGSE,
    TrapezoidalOGSE,
)

KINDS: dict[str, type[Sequence]] = {
    kind.__name__: kind
    for kind in (PGSE, CosineOGSE, SineOGSE, TrapezoidalOGSE, MultiplePGSE, FreeWaveform)
}
# Numbers of a sequence, NaN where it has none; those with NaN take the class's default.
NUMBERS = {"delta": "ms", "Delta": "ms", "ramp": "ms", "TE": "ms", "periods": "1", "mixing": "ms"}


def acquisition_variables(acquisition: Acquisition) -> dict[str, xr.Variable]:
    """The variables that hold an acquisition inside any store.

    `sequence_rows` counts the rows of `sequence_levels` (directions of a MultiplePGSE, steps of a
    FreeWaveform) and `sequence_durations` that belong to each sequence, in order.
    """
    sequences = acquisition.sequences
    rows = [_rows(sequence) for sequence in sequences]
    per_measurement = {
        "gradient": (acquisition.gradient, "mT/m"),
        "timing": (acquisition.timing, "1"),
        "b_value": (acquisition.b_value, "ms/um^2"),
        "b_tensor": (acquisition.b_tensor, "ms/um^2"),
    }
    if acquisition.frame is not None:
        per_measurement["frame"] = (acquisition.frame, "1")
    axes = ("measurement", "axis", "axis_too")
    variables = {
        name: xr.Variable(axes[: values.ndim], values.numpy(), {"units": units})
        for name, (values, units) in per_measurement.items()
    }
    for name, units in NUMBERS.items():
        values = np.array([_number(sequence, name) for sequence in sequences])
        variables[name] = xr.Variable(("sequence",), values, {"units": units})
    counts = np.array([len(row) for row in rows])
    table = np.concatenate([np.zeros((0, 4)), *rows])
    return variables | {
        "sequence_kind": text_codes("sequence", tuple(type(s).__name__ for s in sequences)),
        "sequence_rows": xr.Variable(("sequence",), counts, {"units": "1"}),
        "sequence_durations": xr.Variable(("row",), table[:, 0], {"units": "ms"}),
        "sequence_levels": xr.Variable(("row", "axis"), table[:, 1:], {"units": "1"}),
    }


def acquisition_from(dataset: xr.Dataset) -> Acquisition:
    """The acquisition held by `acquisition_variables`."""
    kinds = text_from(dataset["sequence_kind"].variable)
    ends = np.cumsum(dataset["sequence_rows"].values)
    durations = np.split(dataset["sequence_durations"].values, ends[:-1])
    levels = np.split(dataset["sequence_levels"].values, ends[:-1])
    sequences = []
    for index, kind in enumerate(kinds):
        if kind not in KINDS:
            raise StoreError(f"store: unknown sequence {kind!r}. Known: {', '.join(KINDS)}.")
        numbers = {name: float(dataset[name].values[index]) for name in NUMBERS}
        sequences.append(_sequence(kind, numbers, durations[index], levels[index]))
    frame = torch.from_numpy(np.array(dataset["frame"])) if "frame" in dataset else None
    return Acquisition(
        tuple(sequences),
        torch.from_numpy(np.array(dataset["timing"])),
        torch.from_numpy(np.array(dataset["gradient"])),
        frame,
    )


def _number(sequence: Sequence, name: str) -> float:
    value = getattr(sequence, name, None)
    return float("nan") if value is None else float(value)


def _rows(sequence: Sequence) -> np.ndarray:
    """Duration and three levels per row; a direction has no duration."""
    if isinstance(sequence, FreeWaveform):
        return np.column_stack([sequence.durations, sequence.levels])
    if isinstance(sequence, MultiplePGSE):
        return np.column_stack([np.full(len(sequence.directions), np.nan), sequence.directions])
    return np.zeros((0, 4))


def _sequence(
    kind: str, numbers: dict[str, float], durations: np.ndarray, levels: np.ndarray
) -> Sequence:
    if kind == "FreeWaveform":
        return FreeWaveform(durations.copy(), levels.copy())
    given: dict[str, Any] = {name: x for name, x in numbers.items() if not np.isnan(x)}
    if "periods" in given:
        given["periods"] = int(given["periods"])
    if kind == "MultiplePGSE":
        given["directions"] = tuple(tuple(row) for row in levels.tolist())
    return KINDS[kind](**given)


register(Acquisition, acquisition_variables, acquisition_from)
