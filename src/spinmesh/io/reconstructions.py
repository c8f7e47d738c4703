"""Stores of shape models."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from spinmesh.inversion import ShapeModel, SpectralBasis
from spinmesh.io.shapes import mesh_from, mesh_variables
from spinmesh.io.store import Codec

ONE = {"units": "1"}
# Coefficients are integrals of positions against modes normalised to unit volume integral.
STATE_UNITS = dict.fromkeys(("mean", "spread", "latent_spread"), "um^(5/2)")


def _part(dataset: xr.Dataset, prefix: str) -> xr.Dataset:
    """The inverse of `_prefixed`."""
    names = [str(n) for n in dataset.data_vars if str(n).startswith(prefix)]
    return dataset[names].rename_vars({name: name[len(prefix) :] for name in names})


def _tensor(variable: xr.DataArray) -> Tensor:
    return torch.from_numpy(np.array(variable))


def _encode_model(model: ShapeModel) -> xr.Dataset:
    basis = model.basis
    variables = mesh_variables(basis.template) | {
        "eigenvalues": xr.Variable(("mode",), basis.eigenvalues.numpy(), {"units": "1/um^2"}),
        "modes": xr.Variable(("point", "mode"), basis.modes.numpy(), {"units": "um^(-3/2)"}),
        "dual": xr.Variable(("point", "mode"), basis.dual.numpy(), {"units": "um^(3/2)"}),
        "latents": xr.Variable(("substrate", "latent"), model.latents.numpy(), ONE),
        "training": xr.Variable(("substrate",), model.training.numpy(), ONE),
        "loss_history": xr.Variable(("report", "column"), model.loss_history.numpy(), ONE),
    }
    for name, values in model.state.items():
        dimensions = tuple(f"{name}_axis_{i}" for i in range(values.ndim))
        units = {"units": STATE_UNITS.get(name, "1")}
        variables[f"state_{name}"] = xr.Variable(dimensions, values.numpy(), units)
    attributes = {
        "name": basis.template.name,
        "kind": model.kind,
        "held_out_rms_error_um": dict(model.errors),
        "loss_history_columns": ["epoch", "training", "validation"],
    }
    return xr.Dataset(variables, attrs=attributes)


def _decode_model(dataset: xr.Dataset) -> ShapeModel:
    template = mesh_from(dataset, dataset.attrs["name"])
    basis = SpectralBasis(
        template, *(_tensor(dataset[key]) for key in ("eigenvalues", "modes", "dual"))
    )
    state = {str(k): _tensor(v) for k, v in _part(dataset, "state_").data_vars.items()}
    return ShapeModel(
        basis,
        dataset.attrs["kind"],
        state,
        _tensor(dataset["latents"]),
        _tensor(dataset["training"]),
        dict(dataset.attrs["held_out_rms_error_um"]),
        _tensor(dataset["loss_history"]),
    )


CODECS = (
    Codec(ShapeModel, "spinmesh/shape_model", 1, "reconstruct", _encode_model, _decode_model),
)
