"""Stores of images drawn for a signal, and of the evaluation of such images."""

from __future__ import annotations

import torch
import xarray as xr
from torch import Tensor

from spinmesh.bundles.axons import STATISTICS, UNITS
from spinmesh.images import Calibration, Draws
from spinmesh.io.images import PIXELS, protocol_from, protocol_parts, tensor, variable
from spinmesh.io.store import Codec

# What is known of draws for a signal only, and the dimensions.
_GIVEN_A_SIGNAL = {
    "measured": ("measurement",),
    "simulated": ("simulated", "measurement"),
    "circle_error": ("simulated",),
}
_SAMPLES, _MISFIT = "samples.", "misfit."


def _encode_draws(draws: Draws) -> xr.Dataset:
    variables, attributes = protocol_parts(draws.protocol)
    variables["images"] = variable(PIXELS, draws.images)
    for name, column in zip(STATISTICS, draws.statistics.T, strict=True):
        variables[name] = variable(("image",), column.contiguous(), UNITS[name])
    for name, dimensions in _GIVEN_A_SIGNAL.items():
        if getattr(draws, name) is not None:
            variables[name] = variable(dimensions, getattr(draws, name))
    return xr.Dataset(variables, attrs=attributes | {"field_of_view_um": draws.field_of_view})


def _decode_draws(dataset: xr.Dataset) -> Draws:
    columns = [tensor(dataset[name]) for name in STATISTICS]
    return Draws(
        tensor(dataset["images"]),
        dataset.attrs["field_of_view_um"],
        torch.stack(columns, 1),
        protocol_from(dataset),
        **{name: tensor(dataset[name]) for name in _GIVEN_A_SIGNAL if name in dataset},
    )


def _encode_calibration(calibration: Calibration) -> xr.Dataset:
    table = ("signal", "statistic")
    variables = {
        "truth": variable(table, calibration.truth),
        "seen": variable(table, calibration.seen),
        "gallery": variable(("row", "column", *PIXELS[1:]), calibration.gallery),
    }
    for method, samples in calibration.samples.items():
        variables[_SAMPLES + method] = variable(("signal", "sample", "statistic"), samples)
    for kind, values in calibration.misfit.items():
        variables[_MISFIT + kind] = variable(("signal", f"image of {kind}"), values)
    for name in ("truth", "seen"):
        variables[name].attrs["statistics"] = [f"{name}: {UNITS[name]}" for name in STATISTICS]
    attributes = {
        "field_of_view_um": calibration.field_of_view,
        "circle_error": list(calibration.circle_error),
    }
    return xr.Dataset(variables, attrs=attributes)


def _decode_calibration(dataset: xr.Dataset) -> Calibration:
    return Calibration(
        tensor(dataset["truth"]),
        tensor(dataset["seen"]),
        _behind(_SAMPLES, dataset),
        _behind(_MISFIT, dataset),
        tuple(dataset.attrs["circle_error"]),
        tensor(dataset["gallery"]),
        dataset.attrs["field_of_view_um"],
    )


def _behind(prefix: str, dataset: xr.Dataset) -> dict[str, Tensor]:
    """All arrays whose name begins so."""
    names = [str(name) for name in dataset.data_vars if str(name).startswith(prefix)]
    return {name.removeprefix(prefix): tensor(dataset[name]) for name in names}


_STAGE = "synthesise"
CODECS = (
    Codec(Draws, "spinmesh/draws", 1, _STAGE, _encode_draws, _decode_draws),
    Codec(Calibration, "spinmesh/calibration", 1, _STAGE, _encode_calibration, _decode_calibration),
)
