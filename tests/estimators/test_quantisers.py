"""Levels of states and weights: by hand, and by snnTorch where it is installed."""

import math

import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from spinmesh.estimators.quantisers import (
    STEPS,
    nearest,
    quantised_weights,
    threshold_levels,
    uniform_levels,
)

# Arithmetic of numbers near one in float64.
ROUNDING = {"rtol": 0.0, "atol": 1e-14}


def exactly(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_uniform_levels_are_those_counted_by_hand():
    """From -2 (1 + 1/2) to 2 (1 + 1) in three equal gaps of 7/3."""
    expected = exactly(-3, -2 / 3, 5 / 3, 4)
    torch.testing.assert_close(uniform_levels(2, 2.0, 0.5, 1.0), expected, **ROUNDING)


def test_threshold_centred_levels_are_those_counted_by_hand():
    """Threshold 1, ends -1 and 2: two thirds of the range lie below, so 2 of 4 levels.

    Gaps below are 2 in the ratio 1 : 0.1, so the levels are -1 and 1 - 2/11; above 1 in the same
    ratio, so 1 + 1/11 and 2.
    """
    expected = exactly(-1, 1 - 2 / 11, 1 + 1 / 11, 2)
    torch.testing.assert_close(threshold_levels(2, 1.0, 0.0, 1.0), expected, **ROUNDING)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("limits", [(0.0, 0.2), (1.0, 1.0), (0.0, 3.0)])
def test_threshold_centred_levels_are_denser_towards_the_threshold(
    bits: int, limits: tuple[float, float]
):
    levels = threshold_levels(bits, 1.5, *limits)
    assert len(levels) == 2**bits and bool((levels.diff() > 0).all())
    for side in (levels[levels < 1.5], levels[levels > 1.5].flip(0)):
        gaps = side.diff().abs()
        # Both sides go away from the threshold as they are read backwards.
        assert bool((gaps[1:] < gaps[:-1]).all())


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("limits", [(0.0, 0.2), (1.0, 1.0), (0.5, 3.0), (0.0, 0.0)])
@pytest.mark.parametrize("uniform", [True, False])
def test_snntorch_has_the_same_levels(
    bits: int, limits: tuple[float, float], uniform: bool, capsys: pytest.CaptureFixture[str]
):
    """snnTorch keeps its levels to itself; rounding a fine grid shows all of them. It has them in
    float32, hence the tolerance."""
    quant = pytest.importorskip("snntorch.functional.quant")
    theirs = quant.state_quant(bits, uniform, True, 1.0, *limits)
    ours = (uniform_levels if uniform else threshold_levels)(bits, 1.0, *limits)
    # Points away from the middle between two levels, where rounding of a bit decides.
    grid = torch.linspace(-4.0, 6.0, 4001, dtype=torch.float64)
    middles = (ours[1:] + ours[:-1]) / 2
    grid = grid[(grid[:, None] - middles).abs().min(1).values > 1e-6]
    torch.testing.assert_close(theirs(grid).double(), nearest(grid, ours), rtol=0, atol=2e-6)


def test_the_nearest_level_is_taken_and_the_lower_one_in_the_middle():
    levels = exactly(-1, 0, 1, 3)
    x = exactly(-9, -0.5, -0.4, 0.6, 2.0, 2.1, 9)
    assert nearest(x, levels).tolist() == [-1, -1, 0, 1, 1, 3, 3]


def test_rounding_gives_exactly_a_level_and_lets_nan_through():
    """A state that is 0.1 + 2e-17 would fire where 0.1 does not."""
    levels = torch.linspace(-1, 1.3, 16)
    x = torch.randn(1000, generator=torch.Generator().manual_seed(1))
    assert bool(torch.isin(nearest(x, levels), levels).all())
    assert math.isnan(float(nearest(torch.tensor([math.nan]), levels)))


def test_the_gradient_passes_as_if_nothing_were_rounded():
    """Also outside the levels, so that a state beyond the limits can come back."""
    x = exactly(-7, 0.2, 5).requires_grad_()
    (nearest(x, exactly(-1, 1)) * exactly(2, 3, 4)).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [2, 3, 4]


@pytest.mark.parametrize("bits", range(1, 9))
def test_steps_of_weights_round_a_normal_variable_best(bits: int):
    """Against a minimum found here. The table has four digits, so half of the last one is allowed,
    and the minimum, flat as a parabola, is found to 1e-5."""
    edge = 2 ** (bits - 1)

    def error(step: float) -> float:
        """Mean square of x - rounded(x): 1 - 2 E[x r] + E[r^2], closed for a normal variable."""
        total = 0.0
        for k in range(edge):
            level, low = (k + 0.5) * step, k * step
            high = math.inf if k == edge - 1 else low + step
            mass = norm.cdf(high) - norm.cdf(low)
            total += level**2 * mass - 2 * level * (norm.pdf(low) - norm.pdf(high))
        return 1 + 2 * total

    best = minimize_scalar(error, bounds=(0.01, 2.0), method="bounded", options={"xatol": 1e-7})
    assert abs(STEPS[bits - 1] - best.x) < 6e-5


def test_weights_are_quantised_symmetrically_and_trained_straight_through():
    """Mean square 1 and 2 bits: levels at 0.5 and 1.5 steps of 0.9957 on either side."""
    weights = exactly(-1.4, -0.2, 0.2, 1.4)
    weights = (weights / weights.square().mean().sqrt()).requires_grad_()
    rounded = quantised_weights(weights, 2)
    expected = 0.9957 * exactly(-1.5, -0.5, 0.5, 1.5)
    torch.testing.assert_close(rounded, expected, **ROUNDING)
    rounded.sum().backward()
    assert weights.grad is not None and weights.grad.tolist() == [1, 1, 1, 1]
