"""A shape in a few numbers; one outside the trained family is doubted, a member of it is not."""

import statistics
from dataclasses import replace

import pytest
import torch

from spinmesh.bodies import simulate
from spinmesh.errors import ReductionError
from spinmesh.inversion import (
    DESCRIPTION,
    Fit,
    Gaussian,
    Posterior,
    Reconstruction,
    Samples,
    Target,
    credibility,
    describe,
    describe_posterior,
    posterior_shapes,
    reconstruct,
)
from spinmesh.mesh import Substrates, SweptDisk, TetMesh, ball, deform, rotation_matrix, swept_disk
from spinmesh.settings.reconstruct import Reconstruct
from spinmesh.shapes import ShapeModel
from spinmesh.tissue import Tissue

FINE = SweptDisk(rings=2, layers=8, radius_um=1.5, length_um=10.0)


def offered(model: ShapeModel, acquisition, chi2: float, latent: torch.Tensor) -> Reconstruction:
    """A result with this chi2 in all and this latent; three directions are determined."""
    count = len(acquisition)
    ones = torch.ones(count, dtype=torch.float64)
    information = torch.tensor([9.0, 4.0, 2.0, 0.5, 0.1, 0.0, 0.0], dtype=torch.float64)
    eye = torch.eye(3, dtype=torch.float64)
    draws = Samples(latent.expand(2, 7), eye.expand(2, 3, 3), torch.zeros(2, 0).double())
    law = Gaussian(latent, torch.eye(7, dtype=torch.float64))
    return Reconstruction(
        Target(acquisition, ones, 0.02),
        model.basis.template,
        eye,
        Fit(ones, ones * (chi2 / count), 3),
        Posterior(law, information, ones[:1], draws),
        torch.zeros(len(model.basis.template.points), dtype=torch.float64),
        torch.zeros((1, 7), dtype=torch.float64),
    )


def test_chi2_is_judged_by_measurements_minus_determined_unknowns(model, acquisition) -> None:
    mean = torch.zeros(7, dtype=torch.float64)
    # The 0.999 quantile of a chi-square law with 61 - 3 degrees of freedom is 97.04 (tables).
    for chi2, doubted in ((96.9, False), (97.2, True)):
        found = credibility(offered(model, acquisition, chi2, mean), model)
        assert found.degrees == 58
        assert any("not explained" in w for w in found.warnings) is doubted
    # And its 0.001 quantile 30.24... less scatter than noise can have.
    for chi2, doubted in ((28.5, True), (32.0, False)):
        found = credibility(offered(model, acquisition, chi2, mean), model)
        assert any("less scatter" in w for w in found.warnings) is doubted


def test_pose_and_free_quantities_are_determined_unknowns_too(model, acquisition) -> None:
    found = offered(model, acquisition, 58.0, torch.zeros(7).double())
    free = replace(found, fit=replace(found.fit, free={"diffusivity": 2.0}))
    assert credibility(free, model).degrees == 57
    turn = rotation_matrix(torch.tensor([0.1, 0.0, 0.0], dtype=torch.float64))
    assert credibility(replace(free, rotation=turn), model).degrees == 54


def test_no_noise_is_no_reason_to_doubt_a_perfect_fit(model, acquisition) -> None:
    found = offered(model, acquisition, 1e-3, torch.zeros(7).double())
    found = replace(found, target=replace(found.target, sigma=0.0))
    assert credibility(found, model).warnings == ()


def test_no_training_shape_lies_outside_the_family(model: ShapeModel, acquisition) -> None:
    for latent in model.latents[model.training][::10]:
        assert credibility(offered(model, acquisition, 58.0, latent), model).warnings == ()
    far = 15 * model.latents[0].sign()
    doubt = credibility(offered(model, acquisition, 58.0, far), model).warnings
    assert len(doubt) == 1 and "outside the trained family" in doubt[0]


def cylinder(radius: float) -> TetMesh:
    return swept_disk(FINE.replace(radius_um=radius))


OUTSIDE = {
    "sphere": (lambda: ball(5.0, 2), 2.0, "outside the trained family"),
    "wide": (lambda: cylinder(4.0), 2.0, "outside the trained family"),
    "slow": (lambda: cylinder(1.5), 0.5, "not explained"),
}


def found_at_snr_50(mesh: TetMesh, diffusivity: float, model: ShapeModel, acquisition):
    attenuation = simulate(mesh, Tissue.uniform(diffusivity), acquisition).attenuation[0]
    target = Target(acquisition, attenuation).noisy(50.0, torch.Generator().manual_seed(0))
    settings = Reconstruct(iterations=12, starts=1)
    return reconstruct(target, model, Tissue.uniform(2.0), settings, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", OUTSIDE)
def test_stranger_to_the_family_is_doubted(model: ShapeModel, acquisition, name: str) -> None:
    """Radii 1 to 2 um and D = 2 um^2/ms were trained and assumed."""
    mesh, diffusivity, words = OUTSIDE[name]
    warnings = credibility(found_at_snr_50(mesh(), diffusivity, model, acquisition), model).warnings
    assert any(words in warning for warning in warnings), warnings


@pytest.mark.slow
def test_held_out_members_are_not_doubted(
    model: ShapeModel, substrates: Substrates, acquisition
) -> None:
    """Three shapes, finer meshes: by chance one run in 300 would be doubted; the seed is fixed."""
    fine, test = swept_disk(FINE), substrates.select("test")
    for index in (3, 7, 12):
        mesh = fine.with_points(deform(fine, test.parameters[index]))
        found = found_at_snr_50(mesh, 2.0, model, acquisition)
        assert credibility(found, model).warnings == ()


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
    fit = Fit(ones, ones, 7, {"diffusivity": 2.0, "t2 1": 3.0})
    target = Target(acquisition, ones)
    return Reconstruction(target, mesh, rotation[0], fit, posterior, spread, history)


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
