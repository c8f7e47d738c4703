"""Calibration: intervals of the posterior hold the truth as often as they say."""

import csv
from collections.abc import Callable
from typing import Any

import pytest
import torch

from experiments.calibration.calibration import Calibration, calibrate, joined
from experiments.calibration.settings import CalibrationSettings
from experiments.calibration.study import calibrate_chunk, protocol, shape_model
from spinmesh.errors import ConfigError
from spinmesh.settings.reconstruct import Reconstruct
from spinmesh.tissue import Tissue


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


def test_intervals_must_end_between_ranks():
    with pytest.raises(ConfigError, match="multiple of 20"):
        calibrate(shape_model(), Tissue.uniform(2.0), protocol(), Reconstruct(), 50.0, [0])


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say():
    """Twenty targets of the prior at SNR 50; the experiment itself takes 240.

    The mean square of a standard normal number, of which twenty targets with six dependent
    quantities have as many as sixty independent ones, is 1 with a standard error of 0.18. Intervals
    a third too narrow multiply it by 2.25, intervals half too wide by 0.44: no value between the
    bounds stays between them.
    """
    settings = CalibrationSettings(targets=20, moves=4, iterations=15)
    found = joined([calibrate_chunk(settings, chunk, 2) for chunk in range(2)])
    assert found.ranks.shape == (20, 6)
    normal = torch.distributions.Normal(0.0, 1.0)
    scores = normal.icdf((found.ranks.double() + 0.5) / (found.draws + 1))
    for distances in (scores, found.laplace):
        assert 0.66 < float(distances.square().mean()) < 1.48
    # Of sixty, as above: two and a half standard errors. A third too narrow: 35 % and 73 %.
    assert float(found.coverage(0.5).mean()) == pytest.approx(0.5, abs=0.16)
    assert float(found.coverage(0.9).mean()) == pytest.approx(0.9, abs=0.1)


@pytest.mark.slow
def test_the_tiny_experiment_runs(new_workspace: Callable[[], Any]):
    workspace, folder = new_workspace(), "experiments/calibration"
    done = workspace.snakemake("--snakefile", f"{folder}/Snakefile", config=f"{folder}/tiny.yaml")
    assert done.returncode == 0, done.stdout
    results = workspace.root / "results/calibration_tiny"
    with open(results / "targets.csv") as file:
        assert len(list(csv.DictReader(file))) == 2
    assert (results / "calibration.png").stat().st_size > 0
