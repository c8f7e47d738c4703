"""Stores of the shapes that a method found, with the true ones."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from spinmesh.inversion import Estimates
from spinmesh.io.codec import text_codes, text_from
from spinmesh.io.store import Codec


def _encode(estimates: Estimates) -> xr.Dataset:
    shape = ("estimate", "point", "axis")
    variables = {
        "truth": xr.Variable(shape, estimates.truth.numpy(), {"units": "um"}),
        "found": xr.Variable(shape, estimates.points.numpy(), {"units": "um"}),
        "chi2": xr.Variable(("estimate",), estimates.chi2.numpy(), {"units": "1"}),
        "seconds": xr.Variable(("estimate",), estimates.seconds.numpy(), {"units": "s"}),
        "family": text_codes("estimate", estimates.family),
        "label": text_codes("estimate", estimates.label),
    }
    return xr.Dataset(variables, attrs={"method": estimates.method, "snr": str(estimates.snr)})


def _decode(dataset: xr.Dataset) -> Estimates:
    found = {key: torch.from_numpy(np.array(dataset[key])) for key in ("truth", "found", "chi2")}
    return Estimates(
        dataset.attrs["method"],
        float(dataset.attrs["snr"]),
        text_from(dataset["family"].variable),
        text_from(dataset["label"].variable),
        found["truth"],
        found["found"],
        found["chi2"],
        torch.from_numpy(np.array(dataset["seconds"])),
    )


CODECS = (Codec(Estimates, "spinmesh/estimates", 1, "paper", _encode, _decode),)
