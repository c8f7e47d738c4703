"""Images given held-out signals: whether the posterior can be trusted."""

import csv
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch

from experiments.conditional.calibration import (
    ABC,
    MODEL,
    PRIOR,
    TRUE_IMAGES,
    Calibration,
    crps,
    evaluate_conditional,
    nearest_signals,
)
from experiments.conditional.figures import plot_calibration
from experiments.conditional.settings import Conditional
from spinmesh.bundles import Protocol
from spinmesh.errors import ConfigError
from spinmesh.io import load, save
from spinmesh.mesh import STATISTICS

FEW = Conditional(signals=3, samples=4, simulated=2, steps=4)


def test_the_crps_is_that_of_a_normal_law():
    """E|X - y| - E|X - X'|/2 = 2/sqrt(2 pi) - 1/sqrt(pi) for y at the mean, however few draws."""
    draws = torch.randn(20_000, 3, 1, generator=torch.Generator().manual_seed(3)).double()
    found = crps(draws, torch.zeros(20_000, 1).double()).mean()
    # Spread of one score 0.5: 0.35 % of 20,000, three of which are allowed.
    expected = 2 / math.sqrt(2 * math.pi) - 1 / math.sqrt(math.pi)
    torch.testing.assert_close(found.item(), expected, rtol=0, atol=0.011)


def test_the_nearest_signals_are_nearest_in_attenuation():
    known = torch.tensor([[0.1, 0.9], [0.5, 0.5], [0.52, 0.5], [0.9, 0.1]]).log()
    found = nearest_signals(torch.tensor([[0.51, 0.5]]).log(), known, 2)
    assert set(found[0].tolist()) == {1, 2}


def made_up(spread: float, shift: float = 0.0) -> Calibration:
    """Posterior of unit spread in truth, said to be `spread` wide and off by `shift`."""
    generator = torch.Generator().manual_seed(5)
    centre = torch.randn(3000, 3, generator=generator).double()
    truth = centre + torch.randn(3000, 3, generator=generator).double()
    noise = torch.randn(3000, 64, 3, generator=generator).double()
    samples = centre[:, None] + shift + spread * noise
    ones = torch.ones(3000, dtype=torch.float64)
    sets = {MODEL: samples, ABC: centre[:, None] + 2 * noise, PRIOR: 1.4 * noise}
    fits = {TRUE_IMAGES: ones[:, None], MODEL: 2 * ones[:, None].expand(-1, 2)}
    return Calibration(truth, truth, sets, fits, (0.1, 0.1), torch.zeros(1, 1, 8, 8), 20.0)


def test_coverage_and_rank_tell_a_right_posterior_from_a_wrong_one():
    right, narrow, off = made_up(1.0), made_up(0.5), made_up(1.0, 1.0)
    # Binomial over 3000: 0.7 %.
    torch.testing.assert_close(
        right.coverage(MODEL, 0.8), torch.full((3,), 0.8).double(), rtol=0, atol=0.022
    )
    # Of a normal law within half of 1.28 deviations: erf(0.64 / sqrt 2).
    share = math.erf(1.2816 * 0.5 / math.sqrt(2))
    torch.testing.assert_close(
        narrow.coverage(MODEL, 0.8), torch.full((3,), share).double(), rtol=0, atol=0.04
    )
    assert (right.rank(MODEL).mean(0) - 0.5).abs().max() < 0.02
    assert (off.rank(MODEL).mean(0) < 0.3).all()
    assert (right.crps(MODEL) < right.crps(ABC)).all()
    table = right.rows()
    assert [row["median_over_true_images"] for row in table[-2:]] == [1.0, 2.0]
    assert {row["quantity"] for row in table[:12]} == {
        "volume_fraction",
        "effective_radius",
        "surface_to_volume",
    }


def test_the_evaluation_is_repeatable_and_keeps_in_its_store(bundle_set, bundle_model, tmp_path):
    found = evaluate_conditional(bundle_model, bundle_set, FEW, seed=2)
    test = bundle_set.select("test")
    assert torch.equal(found.truth[:, 0], test.volume_fraction[:3].double())
    # Exact in the sum of grey levels; 16 pixels of 0.75 um are coarse for the others.
    torch.testing.assert_close(found.of_images[:, 0], found.truth[:, 0], rtol=0.02, atol=0)
    assert found.samples[ABC].shape == (3, 4, 3)
    # The true images fit their own noisy signals: three sums of three squares about 1.
    assert found.misfit[TRUE_IMAGES].max() < 5
    save(found, tmp_path / "calibration.zarr")
    back = load(Calibration, tmp_path / "calibration.zarr")
    assert str(back.rows()) == str(found.rows())
    assert torch.equal(back.gallery, found.gallery)


def test_models_and_images_that_do_not_belong_together_are_refused(
    image_set, bundle_set, bundle_model
):
    acquisition = bundle_set.protocol.acquisition
    other = Protocol(acquisition, 20.0, 2.0, 1.5)
    with pytest.raises(ConfigError, match=r"at SNR 50, the images have .* at 20"):
        evaluate_conditional(bundle_model, replace(bundle_set, protocol=other), FEW, 0)
    with pytest.raises(ConfigError, match="12 um"):
        evaluate_conditional(bundle_model, replace(bundle_set, field_of_view=10.0), FEW, 0)
    with pytest.raises(ConfigError, match="4 held-out and 8 training"):
        evaluate_conditional(bundle_model, bundle_set, FEW.replace(signals=5), 0)
    with pytest.raises(ConfigError, match="source: bundles"):
        evaluate_conditional(bundle_model, image_set, FEW, 0)
    with pytest.raises(ConfigError, match="a signal of 2 features"):
        bundle_model.denoise(torch.zeros(1, 16, 16), 1.0, torch.zeros(1, 2))
    with pytest.raises(ConfigError, match="no more simulated"):
        Conditional(samples=4, simulated=5)


def test_calibration_shows_a_gallery_coverage_scatters_and_misfit(tmp_path) -> None:
    """The model's samples have half the error and spread of the nearest signals'."""
    generator = torch.Generator().manual_seed(1)
    truth = torch.rand((40, 3), generator=generator).double()
    noise = torch.randn((40, 32, 3), generator=generator).double()
    shift = torch.randn((40, 1, 3), generator=generator).double()
    samples = {
        "model": truth[:, None] + 0.1 * (shift + noise),
        "nearest-signal ABC": truth[:, None] + 0.2 * (shift + noise),
    }
    fits = {"true images": torch.ones(40, 1), "model": torch.full((40, 1), 1.25)}
    fits |= {"nearest-signal ABC": torch.full((40, 32), 2.0)}
    gallery = torch.rand((5, 7, 16, 16), generator=generator) * 2 - 1
    found = Calibration(truth, truth, samples, fits, (0.1, 0.1), gallery, 20.0)
    figure = plot_calibration(found, tmp_path / "c.png")
    assert len(figure.axes) == 6 and (tmp_path / "c.png").stat().st_size > 10_000
    # Scores scale with the law.
    assert [axes.get_title(loc="left") for axes in figure.axes[2:5]] == ["CRPS 0.50 of ABC's"] * 3
    words = [text.get_text() for text in figure.axes[5].get_legend().get_texts()]
    assert [word.rpartition(" ")[2] for word in words] == ["1.00", "1.25", "2.00"]


@pytest.mark.slow
def test_the_experiment_in_its_smallest_size(new_workspace: Callable[[], Any]) -> None:
    """Its table has every statistic of every method, and the misfit of every kind of image."""
    workspace = new_workspace()
    experiment = ("--snakefile", "experiments/conditional/Snakefile")
    done = workspace.snakemake(*experiment, config="experiments/conditional/tiny.yaml")
    assert done.returncode == 0, done.stdout
    results = workspace.root / "results/conditional_tiny"
    with open(results / "synthesise/conditional.csv") as file:
        rows = [(row["quantity"], row["method"]) for row in csv.DictReader(file)]
    kinds = {MODEL, ABC, PRIOR, TRUE_IMAGES}
    assert set(rows) == set(product([*STATISTICS, "chi2_per_measurement"], kinds))
    assert (results / "figures/conditional.png").stat().st_size > 0
