"""Stores of simulated signals and the acquisition they belong to."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from spinmesh.bloch_torrey import Signals
from spinmesh.errors import StoreError
from spinmesh.io.sequences import acquisition_from, acquisition_variables
from spinmesh.io.store import Codec


def refuse_non_finite(signals: Signals) -> None:
    """StoreError if a signal, or one without gradient, is not a number: NaN is never written."""
    finite = torch.isfinite(torch.view_as_real(signals.signal)).all(-1)
    finite = finite & torch.isfinite(signals.unweighted)
    if not bool(finite.all()):
        substrate, measurement = (~finite).nonzero()[0].tolist()
        raise StoreError(
            f"signals: measurement {measurement} of substrate {substrate} is not finite. Simulate "
            "again; nothing was written."
        )


def _encode(signals: Signals) -> xr.Dataset:
    refuse_non_finite(signals)
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
