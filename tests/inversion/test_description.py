"""Shapes in a few numbers, and the posterior's samples."""

import statistics
from dataclasses import replace

import pytest
import torch

from spinmesh.errors import ReductionError
from spinmesh.inversion import (
    DESCRIPTION,
    Gaussian,
    Posterior,
    Reconstruction,
    Samples,
    ShapeModel,
    Target,
    describe,
    describe_posterior,
    posterior_shapes,
)
from spinmesh.mesh import SweptDisk, rotation_matrix, swept_disk


def test_straight_cylinder_is_described_by_its_own_numbers() -> None:
    found = describe(swept_disk(SweptDisk(rings=2, layers=8, radius_um=1.5, length_um=10.0)))
    assert set(found) == set(DESCRIPTION)
    # 12 curved sides enclose 0.1 % less than the circle; the profile is a series of degree 12.
    assert found["volume"] == pytest.approx(torch.pi * 1.5**2 * 10, rel=3e-3)
    assert found["length"] == pytest.approx(10.0, rel=0.02)
    assert found["mean_radius"] == pytest.approx(1.5, rel=0.01)
    # Left by the profile: its tets are no mirror images of each other.
    assert found["bend"] < 0.01


@pytest.fixture
def found(model: ShapeModel, acquisition) -> Reconstruction:
    """A result with three samples, each turned otherwise, of two free quantities."""
    ones = torch.ones(len(acquisition), dtype=torch.float64)
    turns = torch.tensor([[0.3, -0.5, 0.8], [0.0, 0.1, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    rotation = torch.stack([rotation_matrix(turn) for turn in turns])
    physics = torch.arange(6.0, dtype=torch.float64).reshape(3, 2)
    draws = Samples(model.latents[4:7], rotation, physics, ("diffusivity", "t2 1"))
    law = Gaussian(model.latents[4], torch.eye(7, dtype=torch.float64))
    posterior = Posterior(law, torch.ones(7, dtype=torch.float64), ones[:1], draws)
    mesh = model.basis.template.with_points(model.decode(law.mean) @ rotation[0].T)
    history = torch.zeros((1, 7), dtype=torch.float64)
    spread = torch.zeros(len(mesh.points), dtype=torch.float64)
    target = Target(acquisition, ones)
    return Reconstruction(target, mesh, rotation[0], ones, posterior, spread, history, ones)


def test_samples_become_shapes_with_their_pose_latents_and_quantities(found, model) -> None:
    shapes = posterior_shapes(found, model)
    assert shapes.names[-2:] == ("diffusivity", "t2 1") and len(shapes.names) == 9
    assert shapes.parameters[1].tolist() == [*model.latents[5].tolist(), 2.0, 3.0]
    # Decoded one by one and all at once: rounding.
    torch.testing.assert_close(shapes.points[0], found.mesh.points, rtol=0, atol=1e-12)
    torch.testing.assert_close(shapes.points[2], model.decode(model.latents[6]), rtol=0, atol=1e-12)


def test_posterior_of_a_number_is_its_mean_and_spread_over_the_samples(found, model) -> None:
    shapes = posterior_shapes(found, model)
    single = [describe(shapes.mesh(i)) for i in range(3)]
    for name, (mean, spread) in describe_posterior(shapes).items():
        own = [numbers[name] for numbers in single]
        assert mean == pytest.approx(statistics.mean(own), rel=1e-12)
        assert spread == pytest.approx(statistics.stdev(own), rel=1e-9)


def test_turning_a_shape_leaves_its_numbers(found, model) -> None:
    still = describe(model.basis.template.with_points(model.decode(model.latents[4])))
    for name, value in describe(found.mesh).items():
        # The first mode comes from an iterative eigen-solver that starts at random: 1e-6 or so.
        assert value == pytest.approx(still[name], rel=1e-4, abs=1e-4)


def test_too_few_samples_are_refused(found, model) -> None:
    one = Samples(
        *(t[:1] for t in (model.latents, found.rotation[None], torch.zeros(1, 0).double()))
    )
    posterior = replace(found.posterior, samples=one)
    with pytest.raises(ReductionError, match=r"1 samples with a valid mesh.*measure more"):
        posterior_shapes(replace(found, posterior=posterior), model)
