"""Calibration: intervals of the posterior hold the truth as often as they say."""

from dataclasses import replace

import pytest
import torch

from spinmesh.bloch_torrey import Basis
from spinmesh.errors import ConfigError
from spinmesh.inversion import (
    Calibration,
    ReconstructionSpec,
    ShapeModel,
    ShapeModelSpec,
    Target,
    calibrate,
    train_shape_model,
)
from spinmesh.inversion.gauss_newton import Problem
from spinmesh.inversion.posterior import as_batch, one_by_one
from spinmesh.mesh import SweptDisk, sample_substrates, swept_disk
from spinmesh.sequence import Acquisition
from spinmesh.tissue import Tissue

SPEC = ReconstructionSpec(
    starts=2,
    scouts=1,
    modes=2,
    iterations=8,
    noise_floor=1e-4,
    samples=39,
    moves=2,
    basis=Basis(blocks=1),
)


@pytest.fixture(scope="module")
def small() -> ShapeModel:
    """Five latent numbers on 42 points."""
    ranges = {
        "radius": (1.5, 2.5),
        "length": (8.0, 12.0),
        "bend": (0.0, 0.2),
        "bend_direction": (0.0, 6.28),
        "bead_amplitude": (0.0, 0.3),
        "bead_count": (1.0, 2.0),
        "bead_phase": (0.0, 6.28),
    }
    template = swept_disk(SweptDisk(1, 5, 2.0, 10.0, order=1))
    counts, split = {"bend_twist": 60, "beading": 60}, {"train": 0.9, "validation": 0.1}
    table = sample_substrates(template, counts, ranges, split, seed=1)
    spec = ShapeModelSpec(kind="pca", latent=5, modes=40, scores=10, width=8, epochs=1)
    return train_shape_model(table, spec, seed=0)


@pytest.fixture(scope="module")
def short() -> Acquisition:
    """24 measurements: b = 2 and 8 ms/um^2."""
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn((12, 3), generator=generator, dtype=torch.float64)
    direction = torch.nn.functional.normalize(direction)
    b = torch.tensor([2.0, 8.0]).repeat_interleave(12)
    return Acquisition.pgse(b, direction.repeat(2, 1), 6.0, 30.0)


def test_coverage_of_uniform_ranks_is_the_level_and_of_extreme_ones_is_not():
    """Every rank once: 20 of 40 lie in the central half, 36 of 40 in the central 90 %."""
    ranks = torch.arange(40)[:, None]
    normal = torch.distributions.Normal(0.0, 1.0)
    quantiles = normal.icdf((torch.arange(40) + 0.5).double() / 40)[:, None]
    uniform = Calibration(("x",), ranks, 39, quantiles)
    assert float(uniform.coverage(0.5)) == 0.5
    assert float(uniform.coverage(0.9)) == 0.9
    assert float(uniform.laplace_coverage(0.5)) == 0.5
    assert float(uniform.laplace_coverage(0.9)) == 0.9
    row = uniform.rows()[-1]
    # A share of 20 in 40 independent targets.
    assert row["coverage_50%_error"] == pytest.approx((0.5 * 0.5 / 39) ** 0.5, rel=1e-9)
    narrow = Calibration(("x",), torch.where(ranks < 20, 0, 39), 39, 3 * quantiles)
    assert float(narrow.coverage(0.9)) == 0.0
    assert float(narrow.laplace_coverage(0.5)) < 0.3


def test_intervals_must_end_between_ranks(small, short):
    with pytest.raises(ConfigError, match="multiple of 20"):
        calibrate(small, Tissue.uniform(2.0), short, ReconstructionSpec(), 50.0, 1, seed=0)


def test_a_batch_of_draws_has_the_posteriors_of_its_points(small, short):
    """Turned ones too; one point folds. Both roads build the same spans."""
    target = Target(short, torch.full((24,), 0.3, dtype=torch.float64), 0.02)
    spec = replace(SPEC, pose="unknown")
    problem = Problem.of(target, small, Tissue.uniform(2.0), spec)
    generator = torch.Generator().manual_seed(2)
    steps = 0.5 * torch.randn((4, 8), generator=generator, dtype=torch.float64)
    steps[3, :5] *= 100
    start = problem.unknowns.point(torch.zeros(5, dtype=torch.float64))
    points = [problem.unknowns.moved(start, step) for step in steps]
    alone, together = one_by_one(problem, points), as_batch(problem, points)
    assert alone[3] == together[3] == float("-inf")
    # Attenuations agree to the propagation's 1e-10, over noise of 0.02: 24 of them to 1e-6.
    assert together[:3] == pytest.approx(alone[:3], abs=1e-5)
    assert max(alone[:3]) - min(alone[:3]) > 1


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say(small, short):
    """Ten targets of the prior at SNR 50; `benchmarks/calibration.py` is the full run."""
    found = calibrate(small, Tissue.uniform(2.0), short, SPEC, 50.0, 10, seed=0)
    assert found.ranks.shape == (10, 6)
    # 60 ranks, of which those of one target depend on each other; as if half were independent,
    # 0.09 and 0.055: 2.6 and three of them. Intervals half as wide would hold 26 % and 59 %.
    assert float(found.coverage(0.5).mean()) == pytest.approx(0.5, abs=0.235)
    assert float(found.coverage(0.9).mean()) == pytest.approx(0.9, abs=0.165)
