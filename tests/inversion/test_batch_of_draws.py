"""Draws that are simulated together have the posterior of each alone."""

import pytest
import torch

from experiments.calibration.settings import CalibrationSettings
from experiments.calibration.study import protocol, reconstruction, shape_model
from spinmesh.inversion import Target
from spinmesh.inversion.descent import Problem
from spinmesh.inversion.posterior import log_posteriors
from spinmesh.tissue import Tissue


def test_a_batch_of_draws_has_the_posteriors_of_its_points():
    """Turned ones too; one point folds. Both roads build the same spans."""
    target = Target(protocol(), torch.full((24,), 0.3, dtype=torch.float64), 0.02)
    settings = reconstruction(CalibrationSettings()).replace(pose="unknown")
    problem = Problem.of(target, shape_model(), Tissue.uniform(2.0), settings)
    generator = torch.Generator().manual_seed(2)
    steps = 0.5 * torch.randn((4, 8), generator=generator, dtype=torch.float64)
    steps[3, :5] *= 100
    start = problem.unknowns.point(torch.zeros(5, dtype=torch.float64))
    points = [problem.unknowns.moved(start, step) for step in steps]
    alone, together = (log_posteriors(problem, points, batched) for batched in (False, True))
    assert alone[3] == together[3] == float("-inf")
    # Attenuations agree to the propagation's 1e-10, over noise of 0.02: 24 of them to 1e-6.
    assert together[:3] == pytest.approx(alone[:3], abs=1e-5)
    assert max(alone[:3]) - min(alone[:3]) > 1
