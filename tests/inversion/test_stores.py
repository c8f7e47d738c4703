"""Targets, shape models and reconstructions survive their stores."""

import torch

from spinmesh.inversion import Fit, Gaussian, Posterior, Reconstruction, Samples, Target
from spinmesh.io.store import load, save
from spinmesh.shapes import PrincipalModel, ShapeModel


def same_mesh(a, b) -> None:
    assert torch.equal(a.points, b.points)
    assert torch.equal(a.tets, b.tets)
    assert a.name == b.name


def same_target(a: Target, b: Target) -> bool:
    return (
        torch.equal(a.attenuation, b.attenuation)
        and torch.equal(a.acquisition.gradient, b.acquisition.gradient)
        and a.acquisition.sequences == b.acquisition.sequences
        and a.sigma == b.sigma
    )


def test_target_keeps_acquisition_attenuations_and_noise(tmp_path, acquisition):
    measured = Target(acquisition, torch.rand(len(acquisition), dtype=torch.float64), 0.02)
    save(measured, tmp_path / "measured.zarr")
    assert same_target(load(Target, tmp_path / "measured.zarr"), measured)


def test_shape_model_decodes_the_same_points(tmp_path, model: ShapeModel):
    save(model, tmp_path / "model.zarr")
    again = load(ShapeModel, tmp_path / "model.zarr")
    z = torch.linspace(-1, 1, 7, dtype=torch.float64)
    # Arrays come back equal, but in another memory layout, so matrix products round differently.
    torch.testing.assert_close(again.decode(z), model.decode(z), rtol=0, atol=1e-12)
    assert isinstance(model, PrincipalModel) and isinstance(again, PrincipalModel)
    for name, values in model.weights.items():
        assert torch.equal(again.weights[name], values)
    assert again.errors == model.errors


def test_reconstruction_keeps_target_fit_and_posterior(tmp_path, acquisition, template):
    count = len(acquisition)
    target = Target(acquisition, torch.rand(count, dtype=torch.float64), 0.02)
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
        Fit(torch.rand(count).double(), torch.rand(count).double(), 3, {"diffusivity": 1.9}),
        posterior,
        torch.rand(len(template.points)).double(),
        torch.rand((5, 7)).double(),
    )
    save(result, tmp_path / "reconstruction.zarr")
    again = load(Reconstruction, tmp_path / "reconstruction.zarr")
    assert same_target(again.target, target)
    same_mesh(again.mesh, mesh)
    for name in ("mean", "covariance"):
        assert torch.equal(getattr(again.posterior.latent, name), getattr(posterior.latent, name))
    assert torch.equal(again.posterior.information, posterior.information)
    for name in ("predicted", "chi2"):
        assert torch.equal(getattr(again.fit, name), getattr(result.fit, name))
    assert again.fit.determined == 3 and dict(again.fit.free) == {"diffusivity": 1.9}
    assert torch.equal(again.history, result.history)
    assert torch.equal(again.spread, result.spread)
    assert torch.equal(again.posterior.weights, posterior.weights)
    for name in ("z", "rotation", "physics"):
        assert torch.equal(getattr(again.posterior.samples, name), getattr(samples, name))
    assert again.posterior.samples.quantities == ("diffusivity",)
    assert dict(again.posterior.samples.diagnostics) == {"sampler_acceptance": 0.5}
