"""Targets, shape models and reconstructions survive their stores."""

from dataclasses import replace

import torch

from spinmesh.inversion import (
    Gaussian,
    Posterior,
    Reconstruction,
    Samples,
    ShapeModel,
    Target,
)
from spinmesh.io.store import load, save


def same_mesh(a, b) -> None:
    assert torch.equal(a.points, b.points)
    assert torch.equal(a.tets, b.tets)
    assert a.name == b.name


def same_target(a: Target, b: Target) -> None:
    assert torch.equal(a.attenuation, b.attenuation)
    assert torch.equal(a.acquisition.gradient, b.acquisition.gradient)
    assert a.acquisition.sequences == b.acquisition.sequences
    assert a.sigma == b.sigma


def test_target_with_and_without_truth(tmp_path, acquisition, template):
    measured = Target(acquisition, torch.rand(len(acquisition), dtype=torch.float64), 0.02)
    save(measured, tmp_path / "measured.zarr")
    again = load(Target, tmp_path / "measured.zarr")
    same_target(again, measured)
    assert again.truth is None and again.truth_parameters is None

    known = replace(measured, truth=template, truth_parameters=torch.arange(3.0).double())
    save(known, tmp_path / "known.zarr")
    again = load(Target, tmp_path / "known.zarr")
    assert again.truth is not None and again.truth_parameters is not None
    same_mesh(again.truth, template)
    assert again.truth_parameters.tolist() == [0, 1, 2]


def test_shape_model_decodes_the_same_points(tmp_path, model: ShapeModel):
    save(model, tmp_path / "model.zarr")
    again = load(ShapeModel, tmp_path / "model.zarr")
    z = torch.linspace(-1, 1, 7, dtype=torch.float64)
    # Arrays come back equal, but in another memory layout, so matrix products round differently.
    torch.testing.assert_close(again.decode(z), model.decode(z), rtol=0, atol=1e-12)
    for name, values in model.state.items():
        assert torch.equal(again.state[name], values)
    assert torch.equal(again.prior.covariance, model.prior.covariance)
    assert again.errors == model.errors and again.kind == model.kind


def test_reconstruction_keeps_target_truth_and_posterior(tmp_path, acquisition, template):
    count = len(acquisition)
    target = Target(acquisition, torch.rand(count, dtype=torch.float64), 0.02, truth=template)
    samples = Samples(
        torch.rand((6, 4)).double(),
        torch.eye(3).double().expand(6, 3, 3).contiguous(),
        torch.rand((6, 1)).double(),
        ("diffusivity",),
        {"sampler_acceptance": 0.5},
    )
    posterior = Posterior(
        Gaussian(torch.rand(4).double(), torch.eye(4).double()),
        torch.rand(4).double(),
        torch.tensor([0.75, 0.25]).double(),
        samples,
    )
    mesh = template.with_points(2 * template.points, "reconstruction")
    result = Reconstruction(
        target,
        mesh,
        torch.eye(3).double(),
        torch.rand(count).double(),
        posterior,
        torch.rand(len(template.points)).double(),
        torch.rand((5, 7)).double(),
        torch.rand(count).double(),
        {"radius_gain": 12.5},
    )
    save(result, tmp_path / "reconstruction.zarr")
    again = load(Reconstruction, tmp_path / "reconstruction.zarr")
    same_target(again.target, target)
    same_mesh(again.mesh, mesh)
    assert again.target.truth is not None
    same_mesh(again.target.truth, template)
    assert torch.equal(again.latent_covariance, result.latent_covariance)
    assert torch.equal(again.data_determined, result.data_determined)
    assert torch.equal(again.history, result.history)
    assert torch.equal(again.spread, result.spread)
    assert torch.equal(again.posterior.weights, posterior.weights)
    for name in ("latent", "rotation", "physics"):
        assert torch.equal(getattr(again.posterior.samples, name), getattr(samples, name))
    assert again.posterior.samples.quantities == ("diffusivity",)
    assert dict(again.posterior.samples.diagnostics) == {"sampler_acceptance": 0.5}
    assert dict(again.metrics) == {"radius_gain": 12.5}
