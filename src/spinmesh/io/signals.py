"""Stores of simulated signals and the acquisition they belong to."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from spinmesh.bloch_torrey import Signals
from spinmesh.io.store import Codec
from spinmesh.sequence import PGSE, Acquisition


def acquisition_variables(acquisition: Acquisition) -> dict[str, xr.Variable]:
    """The variables that hold an acquisition inside any store."""
    timings = np.array([(s.delta, s.Delta) for s in acquisition.sequences])
    return {
        "gradient": xr.Variable(
            ("measurement", "axis"), acquisition.gradient.numpy(), {"units": "mT/m"}
        ),
        "timing": xr.Variable(("measurement",), acquisition.timing.numpy(), {"units": "1"}),
        "delta": xr.Variable(("sequence",), timings[:, 0], {"units": "ms"}),
        "Delta": xr.Variable(("sequence",), timings[:, 1], {"units": "ms"}),
        "b_value": xr.Variable(("measurement",), acquisition.b_value.numpy(), {"units": "ms/um^2"}),
    }


def acquisition_from(dataset: xr.Dataset) -> Acquisition:
    """The acquisition held by `acquisition_variables`."""
    timings = zip(dataset["delta"].values.tolist(), dataset["Delta"].values.tolist(), strict=True)
    return Acquisition(
        tuple(PGSE(delta, Delta) for delta, Delta in timings),
        torch.from_numpy(np.array(dataset["timing"])),
        torch.from_numpy(np.array(dataset["gradient"])),
    )


def _encode(signals: Signals) -> xr.Dataset:
    units = {"units": "um^3 (times relative spin density)"}
    shape = ("substrate", "measurement")
    variables = acquisition_variables(signals.acquisition) | {
        "signal": xr.Variable(shape, signals.signal.numpy(), units),
        "unweighted": xr.Variable(shape, signals.unweighted.numpy(), units),
    }
    return xr.Dataset(variables)


def _decode(dataset: xr.Dataset) -> Signals:
    return Signals(
        acquisition_from(dataset),
        torch.from_numpy(np.array(dataset["signal"])),
        torch.from_numpy(np.array(dataset["unweighted"])),
    )


CODECS = (Codec(Signals, "spinmesh/signals", 1, "simulate", _encode, _decode),)
