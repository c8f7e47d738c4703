"""Laplace approximations and samples against posteriors that are known."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from spinmesh.bloch_torrey import Basis, reduce_mesh
from spinmesh.inversion import Target, descent
from spinmesh.inversion import posterior as posterior_module
from spinmesh.inversion.descent import Problem, improve
from spinmesh.inversion.forward import Prediction
from spinmesh.inversion.posterior import Mixture, anneal, posterior_at, vertex_spread
from spinmesh.inversion.unknowns import Point, Unknowns
from spinmesh.mesh import SweptDisk, TetMesh, rotation_matrix, swept_disk
from spinmesh.sequence import Acquisition
from spinmesh.settings.reconstruct import Reconstruct
from spinmesh.shapes import ShapeModel
from spinmesh.tissue import Tissue

TISSUE = Tissue.uniform(2.0)
EYE = torch.eye(3, dtype=torch.float64)
NONE = torch.zeros(0, dtype=torch.float64)


class Steps(Unknowns):
    """A space of so many latents, and of turns or not, without a shape behind it."""

    parts = (0, 0, 0)

    def __init__(self, latents: int, turning: bool = False) -> None:
        self.parts, self.turning = (latents, 3 * turning, 0), turning


def gaussians(*laws: tuple[torch.Tensor, torch.Tensor, float]) -> Mixture:
    """Normal laws by mean, covariance and share."""
    means, covariances, weights = zip(*laws, strict=True)
    centres = tuple(Point(mean, EYE, NONE) for mean in means)
    factors = torch.linalg.cholesky(torch.stack(covariances))
    return Mixture(Steps(len(means[0])), centres, factors, torch.tensor(weights).double())


def log_density(mean: torch.Tensor, covariance: torch.Tensor) -> Callable[[torch.Tensor], float]:
    """Log density of a normal law, factored once: a sampler asks for it thousands of times."""
    inverse = np.linalg.inv(np.linalg.cholesky(covariance.numpy()))
    constant = np.log(inverse.diagonal()).sum() - 0.5 * len(mean) * math.log(2 * math.pi)

    def at(x: torch.Tensor) -> float:
        white = inverse @ (x - mean).numpy()
        return float(constant - 0.5 * white @ white)

    return at


@pytest.mark.slow
def test_sampler_corrects_a_wrong_gaussian():
    """Started off the mean by a standard deviation and with half the variance in each direction."""
    generator = torch.Generator().manual_seed(0)
    A = torch.randn((4, 4), generator=generator, dtype=torch.float64)
    covariance = A @ A.T / 4 + 0.2 * torch.eye(4, dtype=torch.float64)
    mean = torch.tensor([0.5, -1.0, 2.0, 0.0], dtype=torch.float64)
    wrong = mean + torch.linalg.cholesky(covariance)[:, 0]
    mixture = gaussians((wrong, covariance / 2, 1.0))
    exact = log_density(mean, covariance)
    log_posterior = lambda points: [exact(p.z) for p in points]  # noqa: E731
    points, diagnostics = anneal(log_posterior, mixture, 500, 10, generator)
    found = torch.stack([p.z for p in points])
    white = torch.linalg.solve_triangular(
        torch.linalg.cholesky(covariance), (found - mean).T, upper=False
    )
    # 500 draws, correlated by resampling: about half effective, so 0.063 and 0.09; 3.5 of them.
    assert float(white.mean(1).abs().max()) < 0.22
    assert float((white @ white.T / 500 - torch.eye(4)).abs().max()) < 0.32
    assert diagnostics["sampler_temperatures"] > 1


def test_exact_gaussian_needs_no_correction():
    covariance = torch.diag(torch.tensor([4.0, 0.25], dtype=torch.float64))
    mean = torch.tensor([1.0, -1.0], dtype=torch.float64)
    mixture = gaussians((mean, covariance, 1.0))
    generator = torch.Generator().manual_seed(1)
    exact = log_density(mean, covariance)
    log_posterior = lambda points: [exact(p.z) for p in points]  # noqa: E731
    _, diagnostics = anneal(log_posterior, mixture, 400, 2, generator)
    # Widening by s = 1.15 costs s^2 / sqrt(2 s^2 - 1) = 1.031 per dimension and nothing else.
    assert diagnostics["sampler_effective_share"] == pytest.approx(1 / 1.031**2, abs=0.03)
    assert diagnostics["sampler_temperatures"] == 1


def test_weights_of_two_modes_are_those_of_their_mass():
    near, far = torch.zeros(2).double(), torch.tensor([6.0, 0.0]).double()
    unit = torch.eye(2, dtype=torch.float64)
    mixture = gaussians((near, unit, 0.5), (far, unit, 0.5))
    laws = log_density(near, unit), log_density(far, 0.5 * unit)

    def log_posterior(point: Point) -> float:
        both = math.log(0.8) + laws[0](point.z), math.log(0.2) + laws[1](point.z)
        return float(np.logaddexp(*both))

    def every(points):
        return [log_posterior(point) for point in points]

    points, _ = anneal(every, mixture, 500, 3, torch.Generator().manual_seed(2))
    share = np.mean([float(p.z[0]) > 3 for p in points])
    # Binomial with 500 draws: 0.018; importance weights of the first draws add as much.
    assert share == pytest.approx(0.2, abs=0.075)


@pytest.mark.slow
@pytest.mark.slow
def test_rotations_are_sampled_from_their_own_measure():
    """exp(2 k cos a) on the rotations by a: the angle has density exp(2 k cos a) (1 - cos a)."""
    k, one = 0.5, torch.ones(1, dtype=torch.float64)
    mixture = Mixture(Steps(0, turning=True), (Point(NONE, EYE, NONE),), 1.2 * EYE[None], one)
    points, _ = anneal(
        lambda points: [k * float(p.rotation.diagonal().sum()) for p in points],
        mixture,
        600,
        3,
        torch.Generator().manual_seed(3),
    )
    found = torch.stack([(p.rotation.diagonal().sum() - 1) / 2 for p in points])
    angle = np.linspace(0, np.pi, 20_001)
    density = np.exp(2 * k * np.cos(angle)) * (1 - np.cos(angle))
    mean = (density * np.cos(angle)).sum() / density.sum()
    # cos a spreads by 0.65: 0.027 for 600 independent draws; three times that. Without the
    # measure's factor the mean would be higher by 0.2.
    assert float(found.mean()) == pytest.approx(mean, abs=0.08)


@pytest.fixture
def linear(monkeypatch: pytest.MonkeyPatch, model: ShapeModel, acquisition: Acquisition):
    """A problem whose signal is linear in the latents: its posterior is Gaussian."""
    generator = torch.Generator().manual_seed(4)
    count = len(acquisition)
    A = 0.02 * torch.randn((count, 7), generator=generator, dtype=torch.float64)
    A[:, 5:] = 0  # two directions that no measurement sees
    offset = torch.full((count,), 0.5, dtype=torch.float64)
    template = model.basis.template
    found = reduce_mesh(template, TISSUE, acquisition, Basis(blocks=1))

    def signal(unknowns, point, acquisition, basis) -> Prediction:
        return Prediction(found.span, found.reduced, offset + A @ point.z)

    monkeypatch.setattr(descent, "predict", signal)
    monkeypatch.setattr(posterior_module, "predict", signal)
    monkeypatch.setattr(descent, "jacobian", lambda *_: A)
    truth = torch.randn(7, generator=generator, dtype=torch.float64)
    floor = 0.01
    measured = offset + A @ truth
    measured = measured + floor * torch.randn(count, generator=generator, dtype=torch.float64)
    settings = Reconstruct(
        noise_floor=floor, minimum_volume=-1e9, samples=400, moves=2, tolerance=1e-9
    )
    problem = Problem.of(Target(acquisition, measured), model, TISSUE, settings)
    precision = A.T @ A / floor**2 + torch.eye(7, dtype=torch.float64)
    mean = torch.linalg.solve(precision, A.T @ (measured - offset) / floor**2)
    return problem, mean, torch.linalg.inv(precision)


def test_laplace_is_exact_where_the_signal_is_linear(linear):
    problem, mean, covariance = linear
    unknowns = problem.unknowns
    state = problem.state(unknowns.point(torch.zeros(7, dtype=torch.float64)))
    assert state is not None
    for _ in range(30):
        state = improve(problem, state, lambda *trial: None)
    # Damping falls to 1e-6 of the curvature, so the last steps converge to rounding.
    torch.testing.assert_close(state.point.z, mean, rtol=0, atol=1e-6)
    posterior = posterior_at(problem, [state], seed=0)
    torch.testing.assert_close(posterior.latent.covariance, covariance, rtol=1e-8, atol=1e-10)
    known = torch.linalg.eigvalsh(torch.linalg.inv(covariance)).flip(0) - 1
    torch.testing.assert_close(posterior.information, known, rtol=1e-6, atol=1e-6)
    # Five directions are seen, with information of about 61 (0.02 / 0.01)^2 = 244 each.
    assert int((posterior.information > 1).sum()) == 5
    # The sampler knows nothing of linearity, and agrees.
    apart = (posterior.samples.z - mean).T
    scaled = torch.linalg.solve(torch.linalg.cholesky(covariance), apart)
    # 400 draws: 0.05 and 0.07; four of them.
    assert float(scaled.mean(1).abs().max()) < 0.2
    assert float((scaled @ scaled.T / 400 - torch.eye(7)).abs().max()) < 0.28


def test_spread_forgets_translation_and_reflection():
    template = swept_disk(SweptDisk(rings=2, layers=4, radius_um=1.5, length_um=10.0, order=1))
    points = template.points @ rotation_matrix(torch.tensor([0.2, 0.4, -0.3]).double()).T
    shape = TetMesh(points, template.tets, template.compartment)
    shift = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    # Reflected through a point, with the numbering of the tube read from its other end.
    opposite = torch.cdist(
        template.points - template.bounding_box.mean(0),
        template.bounding_box.mean(0) - template.points,
    ).argmin(1)
    same = torch.stack([points, points + shift, -points[opposite] + shift])
    # cKDTree finds the exact partner; what is left is rounding.
    assert float(vertex_spread(shape, template, same).max()) < 1e-12
    wider = points + 0.1 * (template.points - template.bounding_box.mean(0))
    spread = vertex_spread(shape, template, wider[None])
    assert float(spread.max()) > 0.4 and float(spread.min()) < 0.15
