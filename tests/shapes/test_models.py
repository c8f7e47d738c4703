"""The latent space: smooth, reproducible, and never worse than PCA where that was checked."""

from dataclasses import replace

import pytest
import torch

from spinmesh.errors import ConfigError, MeshError
from spinmesh.mesh import Substrates
from spinmesh.settings import ShapeTraining
from spinmesh.shapes import PrincipalModel, train_shape_model
from spinmesh.shapes.models import Components


def linear(model: PrincipalModel) -> PrincipalModel:
    """The same latents, decoded by PCA."""
    return replace(model, weights={})


@pytest.mark.parametrize("network", [True, False])
def test_decoder_gradients_agree_with_finite_differences(model: PrincipalModel, network: bool):
    model = model if network else linear(model)
    z = torch.linspace(-1, 1, 7, dtype=torch.float64)
    direction = torch.cos(torch.arange(7, dtype=torch.float64))
    forward = torch.func.jvp(model.decode, (z,), (direction,))[1]
    h = 1e-5
    difference = (model.decode(z + h * direction) - model.decode(z - h * direction)) / (2 * h)
    # Central differences: h^2 f''' ~ 1e-10 plus rounding 1e-15/h ~ 1e-10 of ~10 um.
    torch.testing.assert_close(forward, difference, rtol=0, atol=1e-8)
    full = torch.func.jacfwd(model.decode)(z)
    torch.testing.assert_close(full @ direction, forward, rtol=0, atol=1e-12)


def test_pca_latents_survive_decoding_and_encoding(model: PrincipalModel):
    """PCA components are orthonormal, so encode(decode(z)) = z."""
    pca = linear(model)
    torch.testing.assert_close(
        pca.encode(pca.decode(model.latents)), model.latents, atol=1e-9, rtol=0
    )


def test_pca_is_the_best_linear_model_of_the_training_shapes(
    model: PrincipalModel, substrates: Substrates
):
    """Eckart-Young: no other 7 linear numbers leave less volume-weighted error."""
    coefficients = model.basis.encode(substrates.points[model.training]).flatten(1)
    centred = coefficients - coefficients.mean(0)
    left = torch.linalg.svdvals(centred)[7:].square().sum()
    pca = linear(model)
    again = model.basis.encode(pca.decode(model.latents[model.training])).flatten(1)
    # Same sum of squares by two roads; 1e-8 covers encode and decode roundings.
    assert float((again - coefficients).square().sum()) == pytest.approx(float(left), rel=1e-8)


def test_components_are_the_same_from_blocks_of_shapes(
    model: PrincipalModel, substrates: Substrates
):
    """Blocks of 61 shapes and one of 34: the order of 400 sums of float64, and signs are free."""
    x = model.basis.encode(substrates.points).flatten(-2)
    whole, parts = (Components.of(model.basis, x.split(size), 24) for size in (400, 61))
    torch.testing.assert_close(parts.mean, whole.mean, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(parts.spread, whole.spread, rtol=1e-10, atol=0)
    one, other = ((x - c.mean) @ c.directions.T @ c.directions for c in (whole, parts))
    torch.testing.assert_close(other, one, rtol=0, atol=1e-10)


def test_autoencoder_beats_pca_and_both_the_mean_shape_on_unseen_shapes(model: PrincipalModel):
    # Beads of free phase are a circle that PCA can only cut; measured gain 17 per cent.
    assert model.errors["decoder"] < 0.93 * model.errors["pca"]
    # Seven numbers carry nearly all the variance of seven parameters.
    assert model.errors["pca"] < 0.2 * model.errors["mean_shape"]


def test_chosen_epoch_has_the_lowest_validation_loss(model: PrincipalModel):
    validation = model.loss_history[:, 2]
    assert float(validation.min()) <= float(validation[0])  # the first entry is PCA
    assert bool((model.loss_history[1:, 0] > model.loss_history[:-1, 0]).all())


def test_training_is_reproducible_and_ignores_test_shapes(substrates: Substrates):
    spec = ShapeTraining(latent=4, modes=60, scores=12, width=16, epochs=30)
    first = train_shape_model(substrates, spec, seed=1)
    moved = substrates.points.clone()
    moved[[s == "test" for s in substrates.split]] += 1.0
    second = train_shape_model(replace(substrates, given=moved), spec, seed=1)
    z = torch.ones(4, dtype=torch.float64)
    assert torch.equal(first.decode(z), second.decode(z))


def test_training_latents_have_the_mean_and_covariance_of_the_prior(model: PrincipalModel):
    """Scores are whitened by their own spread: standard normal by construction, up to rounding."""
    latents = model.latents[model.training]
    torch.testing.assert_close(latents.mean(0), torch.zeros(7).double(), atol=1e-9, rtol=0)
    torch.testing.assert_close(latents.T.cov(), torch.eye(7).double(), atol=1e-8, rtol=0)


@pytest.mark.parametrize("epochs", [1, 2, 10, 20])
def test_a_few_epochs_train_without_an_error(substrates: Substrates, epochs: int):
    spec = ShapeTraining(latent=4, modes=40, scores=8, width=8, epochs=epochs)
    assert float(train_shape_model(substrates, spec).loss_history[-1, 0]) == epochs


def test_too_few_shapes_or_wrong_options_are_refused(substrates: Substrates):
    few = substrates.take([i for i, s in enumerate(substrates.split) if s == "train"][:6])
    with pytest.raises(MeshError, match="fewer than latent"):
        train_shape_model(few, ShapeTraining(), seed=0)
    with pytest.raises(ConfigError, match="modes"):
        ShapeTraining(modes=0)
