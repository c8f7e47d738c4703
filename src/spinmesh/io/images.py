"""Stores of image sets, trained scores and synthetic images."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from spinmesh.io.shapes import text_codes, text_from
from spinmesh.io.store import Codec
from spinmesh.synthesis import ImageSet, Scalings, ScoreModel, ScoreSpec, Synthesis

_PIXELS = ("image", "pixel_y", "pixel_x")
# Weights keep their names inside the store behind this prefix.
_WEIGHT = "weight."
_SCALING = "scaling."
# What is known of images of disks, and its unit.
_KNOWN = {"effective_radius": "um", "surface_to_volume": "1/um"}


def _tensor(variable: xr.DataArray) -> Tensor:
    return torch.from_numpy(np.array(variable))


def _variable(dimensions: tuple[str, ...], values: Tensor, units: str = "1") -> xr.Variable:
    return xr.Variable(dimensions, values.numpy(), {"units": units})


def _encode_images(images: ImageSet) -> xr.Dataset:
    condition = _variable(("image", "feature"), images.condition)
    condition.attrs["features"] = list(images.features)
    variables = {
        "images": _variable(_PIXELS, images.images),
        "condition": condition,
        "volume_fraction": _variable(("image",), images.volume_fraction),
        "split": text_codes("image", images.split),
    }
    for name, units in _KNOWN.items():
        if getattr(images, name) is not None:
            variables[name] = _variable(("image",), getattr(images, name), units)
    return xr.Dataset(variables, attrs={"field_of_view_um": images.field_of_view})


def _decode_images(dataset: xr.Dataset) -> ImageSet:
    return ImageSet(
        _tensor(dataset["images"]),
        _tensor(dataset["condition"]),
        _tensor(dataset["volume_fraction"]),
        text_from(dataset["split"]),
        dataset.attrs["field_of_view_um"],
        tuple(dataset["condition"].attrs["features"]),
        **{name: _tensor(dataset[name]) for name in _KNOWN if name in dataset},
    )


def _encode_score_model(model: ScoreModel) -> xr.Dataset:
    variables = {
        "loss_history": _variable(("iteration",), model.loss_history),
        "condition_mean": _variable(("feature",), model.condition_mean),
        "condition_std": _variable(("feature",), model.condition_std),
    }
    for name, value in model.state.items():
        # One axis name per length: a dataset wants equal names to mean equal lengths.
        dimensions = tuple(f"{name}[{axis}]" for axis in range(value.ndim))
        variables[_WEIGHT + name] = _variable(dimensions, value)
    for name, value in ({} if model.scalings is None else vars(model.scalings)).items():
        variables[_SCALING + name] = _variable(("time",), value)
    attributes = {
        "spec": json.dumps(asdict(model.spec)),
        "pixel_mean": model.pixel_mean,
        "pixel_std": model.pixel_std,
        "seconds": model.seconds,
    }
    return xr.Dataset(variables, attrs=attributes)


def _decode_score_model(dataset: xr.Dataset) -> ScoreModel:
    spec = json.loads(dataset.attrs["spec"])
    spec["noise"] = tuple(spec["noise"])
    scalings = {
        str(name).removeprefix(_SCALING): _tensor(variable)
        for name, variable in dataset.data_vars.items()
        if str(name).startswith(_SCALING)
    }
    return ScoreModel(
        spec=ScoreSpec(**spec),
        state={
            str(name).removeprefix(_WEIGHT): _tensor(variable)
            for name, variable in dataset.data_vars.items()
            if str(name).startswith(_WEIGHT)
        },
        loss_history=_tensor(dataset["loss_history"]),
        condition_mean=_tensor(dataset["condition_mean"]),
        condition_std=_tensor(dataset["condition_std"]),
        pixel_mean=dataset.attrs["pixel_mean"],
        pixel_std=dataset.attrs["pixel_std"],
        scalings=Scalings(**scalings) if scalings else None,
        seconds=dataset.attrs["seconds"],
    )


def _encode_synthesis(synthesis: Synthesis) -> xr.Dataset:
    variables = {
        "samples": _variable(_PIXELS, synthesis.samples),
        "frequency": _variable(("ring",), synthesis.frequency, "1/um"),
    }
    for name, spectrum in synthesis.spectra.items():
        variables[f"spectrum_{name}"] = _variable(("ring",), spectrum)
    attributes = {
        "field_of_view_um": synthesis.field_of_view,
        "metrics": synthesis.metrics,
        "floor": synthesis.floor,
        "control": synthesis.control,
    }
    return xr.Dataset(variables, attrs=attributes)


def _decode_synthesis(dataset: xr.Dataset) -> Synthesis:
    return Synthesis(
        samples=_tensor(dataset["samples"]),
        field_of_view=dataset.attrs["field_of_view_um"],
        metrics=dict(dataset.attrs["metrics"]),
        floor=dict(dataset.attrs["floor"]),
        control=dict(dataset.attrs["control"]),
        frequency=_tensor(dataset["frequency"]),
        spectra={
            str(name).removeprefix("spectrum_"): _tensor(variable)
            for name, variable in dataset.data_vars.items()
            if str(name).startswith("spectrum_")
        },
    )


_STAGE = "synthesise"
CODECS = (
    Codec(ImageSet, "spinmesh/images", 1, _STAGE, _encode_images, _decode_images),
    Codec(ScoreModel, "spinmesh/score_model", 3, _STAGE, _encode_score_model, _decode_score_model),
    Codec(Synthesis, "spinmesh/synthesis", 1, _STAGE, _encode_synthesis, _decode_synthesis),
)
