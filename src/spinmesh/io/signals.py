"""Stores of simulated signals and the acquisition they belong to."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from spinmesh.bloch_torrey import Signals
from spinmesh.io.sequences import acquisition_from, acquisition_variables
from spinmesh.io.store import Codec


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


CODECS = (Codec(Signals, "spinmesh/signals", 2, "simulate", _encode, _decode),)
