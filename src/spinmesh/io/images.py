"""Stores of trained scores."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from spinmesh.bundles import Protocol
from spinmesh.io.sequences import acquisition_from, acquisition_variables
from spinmesh.io.store import Codec
from spinmesh.synthesis import Features, ImageMean, Scalings, ScoreModel, ScoreSpec

# Weights keep their names inside the store behind this prefix.
_WEIGHT = "weight."
_SCALING = "scaling."


def tensor(values: xr.DataArray) -> Tensor:
    """A copy of an array."""
    return torch.from_numpy(np.array(values))


def variable(dimensions: tuple[str, ...], values: Tensor, units: str = "1") -> xr.Variable:
    """An array of a store."""
    return xr.Variable(dimensions, values.numpy(), {"units": units})


def protocol_parts(protocol: Protocol | None) -> tuple[dict[str, xr.Variable], dict[str, Any]]:
    """Variables and attributes that hold a protocol inside any store; none without one."""
    if protocol is None:
        return {}, {}
    numbers = {
        # JSON has no infinity.
        "snr": None if math.isinf(protocol.snr) else protocol.snr,
        "diffusivity_um2_per_ms": protocol.diffusivity,
        "mesh_size_um": protocol.mesh_size,
    }
    return acquisition_variables(protocol.acquisition), {"protocol": numbers}


def protocol_from(dataset: xr.Dataset) -> Protocol | None:
    """What `protocol_parts` put there."""
    if "protocol" not in dataset.attrs:
        return None
    numbers = dataset.attrs["protocol"]
    snr = math.inf if numbers["snr"] is None else numbers["snr"]
    return Protocol(
        acquisition_from(dataset), snr, numbers["diffusivity_um2_per_ms"], numbers["mesh_size_um"]
    )


def _encode_score_model(model: ScoreModel) -> xr.Dataset:
    variables = {
        "loss_history": variable(("iteration",), model.loss_history),
        "feature_mean": variable(("feature",), model.features.mean),
        "feature_weight": variable(("feature", "component"), model.features.weight),
    }
    for name, value in model.state.items():
        # One axis name per length: a dataset wants equal names to mean equal lengths.
        dimensions = tuple(f"{name}[{axis}]" for axis in range(value.ndim))
        variables[_WEIGHT + name] = variable(dimensions, value)
    for name, value in ({} if model.scalings is None else vars(model.scalings)).items():
        variables[_SCALING + name] = variable(("time",), value)
    if model.image_mean is not None:
        variables["image_mean_weight"] = variable(("term",), model.image_mean.weight)
        variables["image_mean_atoms"] = variable(("known", "atom"), model.image_mean.atoms)
        variables["image_mean_widths"] = variable(("known",), model.image_mean.widths)
    known, attributes = protocol_parts(model.features.protocol)
    attributes |= {
        "spec": json.dumps(asdict(model.spec)),
        "field_of_view_um": model.field_of_view,
        "pixels": model.pixels,
        "pixel_mean": model.pixel_mean,
        "pixel_std": model.pixel_std,
        "seconds": model.seconds,
    }
    if model.image_mean is not None:
        attributes["image_mean_centre"] = model.image_mean.centre
    return xr.Dataset(variables | known, attrs=attributes)


def _decode_score_model(dataset: xr.Dataset) -> ScoreModel:
    spec = json.loads(dataset.attrs["spec"])
    spec["noise"] = tuple(spec["noise"])
    scalings = {
        str(name).removeprefix(_SCALING): tensor(values)
        for name, values in dataset.data_vars.items()
        if str(name).startswith(_SCALING)
    }
    return ScoreModel(
        spec=ScoreSpec(**spec),
        state={
            str(name).removeprefix(_WEIGHT): tensor(values)
            for name, values in dataset.data_vars.items()
            if str(name).startswith(_WEIGHT)
        },
        loss_history=tensor(dataset["loss_history"]),
        features=Features(
            tensor(dataset["feature_mean"]),
            tensor(dataset["feature_weight"]),
            protocol_from(dataset),
        ),
        field_of_view=dataset.attrs["field_of_view_um"],
        pixels=dataset.attrs["pixels"],
        pixel_mean=dataset.attrs["pixel_mean"],
        pixel_std=dataset.attrs["pixel_std"],
        scalings=Scalings(**scalings) if scalings else None,
        image_mean=ImageMean(
            tensor(dataset["image_mean_weight"]),
            dataset.attrs["image_mean_centre"],
            tensor(dataset["image_mean_atoms"]),
            tensor(dataset["image_mean_widths"]),
        )
        if "image_mean_weight" in dataset
        else None,
        seconds=dataset.attrs["seconds"],
    )


_STAGE = "synthesise"
CODECS = (
    Codec(ScoreModel, "spinmesh/score_model", 5, _STAGE, _encode_score_model, _decode_score_model),
)
