"""Stores of targets, shape models and reconstructions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from spinmesh.inversion import (
    HISTORY,
    Gaussian,
    Posterior,
    Reconstruction,
    Samples,
    ShapeModel,
    SpectralBasis,
    Target,
)
from spinmesh.io.sequences import acquisition_from, acquisition_variables
from spinmesh.io.shapes import mesh_from, mesh_variables
from spinmesh.io.store import Codec

ONE = {"units": "1"}
PHYSICS_UNITS = "um^2/ms (diffusivity), ms (t2), 1 (density), um/ms (permeability)"
# Coefficients are integrals of positions against modes normalised to unit volume integral.
STATE_UNITS = dict.fromkeys(("mean", "spread", "latent_spread"), "um^(5/2)")


def _prefixed(variables: Mapping[str, xr.Variable], prefix: str) -> dict[str, xr.Variable]:
    """The same variables under prefixed names and dimensions, for two nouns in one store."""
    return {
        prefix + name: xr.Variable(
            tuple(prefix + str(d) for d in variable.dims), variable.data, variable.attrs
        )
        for name, variable in variables.items()
    }


def _part(dataset: xr.Dataset, prefix: str) -> xr.Dataset:
    """The inverse of `_prefixed`."""
    names = [str(n) for n in dataset.data_vars if str(n).startswith(prefix)]
    return dataset[names].rename_vars({name: name[len(prefix) :] for name in names})


def _tensor(variable: xr.DataArray) -> Tensor:
    return torch.from_numpy(np.array(variable))


def _encode_target(target: Target) -> xr.Dataset:
    variables = acquisition_variables(target.acquisition) | {
        "attenuation": xr.Variable(("measurement",), target.attenuation.numpy(), ONE),
        "sigma": xr.Variable((), target.sigma, ONE),
    }
    attributes = {}
    if target.truth is not None:
        variables |= _prefixed(mesh_variables(target.truth), "truth_")
        attributes["truth"] = target.truth.name
    if target.truth_parameters is not None:
        values = target.truth_parameters.numpy()
        variables["truth_parameters"] = xr.Variable(
            ("parameter",), values, {"units": "see spinmesh.mesh.PARAMETER_TABLE"}
        )
    return xr.Dataset(variables, attrs=attributes)


def _decode_target(dataset: xr.Dataset) -> Target:
    truth, parameters = None, None
    if "truth_points" in dataset:
        truth = mesh_from(_part(dataset, "truth_"), dataset.attrs["truth"])
    if "truth_parameters" in dataset:
        parameters = _tensor(dataset["truth_parameters"])
    return Target(
        acquisition_from(dataset),
        _tensor(dataset["attenuation"]),
        float(dataset["sigma"]),
        truth,
        parameters,
    )


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


def _encode_reconstruction(result: Reconstruction) -> xr.Dataset:
    target = _encode_target(result.target)
    posterior, samples = result.posterior, result.posterior.samples
    square = ("latent", "latent_too")
    variables = mesh_variables(result.mesh) | {
        "rotation": xr.Variable(("axis", "axis_too"), result.rotation.numpy(), ONE),
        "predicted": xr.Variable(("measurement",), result.predicted.numpy(), ONE),
        "chi2": xr.Variable(("measurement",), result.chi2.numpy(), ONE),
        "latent": xr.Variable(("latent",), posterior.latent.mean.numpy(), ONE),
        "latent_covariance": xr.Variable(square, posterior.latent.covariance.numpy(), ONE),
        "data_determined": xr.Variable(("latent",), posterior.information.numpy(), ONE),
        "mode_weights": xr.Variable(("mode",), posterior.weights.numpy(), ONE),
        "sample_latent": xr.Variable(("sample", "latent"), samples.latent.numpy(), ONE),
        "sample_rotation": xr.Variable(
            ("sample", "axis", "axis_too"), samples.rotation.numpy(), ONE
        ),
        "sample_physics": xr.Variable(
            ("sample", "quantity"), samples.physics.numpy(), {"units": PHYSICS_UNITS}
        ),
        "spread": xr.Variable(("point",), result.spread.numpy(), {"units": "um"}),
        "history": xr.Variable(("iteration", "column"), result.history.numpy(), ONE),
    }
    variables |= _prefixed({str(k): v.variable for k, v in target.data_vars.items()}, "target_")
    attributes = {
        "name": result.mesh.name,
        "history_columns": list(HISTORY),
        "metrics": dict(result.metrics),
        "quantities": list(samples.quantities),
        "diagnostics": dict(samples.diagnostics),
        "target": dict(target.attrs),
    }
    return xr.Dataset(variables, attrs=attributes)


def _decode_reconstruction(dataset: xr.Dataset) -> Reconstruction:
    target = _part(dataset, "target_").assign_attrs(dataset.attrs["target"])
    latent = Gaussian(_tensor(dataset["latent"]), _tensor(dataset["latent_covariance"]))
    samples = Samples(
        _tensor(dataset["sample_latent"]),
        _tensor(dataset["sample_rotation"]),
        _tensor(dataset["sample_physics"]),
        tuple(dataset.attrs["quantities"]),
        dict(dataset.attrs["diagnostics"]),
    )
    information, weights = (_tensor(dataset[k]) for k in ("data_determined", "mode_weights"))
    return Reconstruction(
        _decode_target(target),
        mesh_from(dataset, dataset.attrs["name"]),
        _tensor(dataset["rotation"]),
        _tensor(dataset["predicted"]),
        Posterior(latent, information, weights, samples),
        _tensor(dataset["spread"]),
        _tensor(dataset["history"]),
        _tensor(dataset["chi2"]),
        dict(dataset.attrs["metrics"]),
    )


CODECS = (
    Codec(Target, "spinmesh/target", 2, "simulate", _encode_target, _decode_target),
    Codec(ShapeModel, "spinmesh/shape_model", 1, "reconstruct", _encode_model, _decode_model),
    Codec(
        Reconstruction,
        "spinmesh/reconstruction",
        3,
        "reconstruct",
        _encode_reconstruction,
        _decode_reconstruction,
    ),
)
