"""Numbers rounded to few levels while a network trains: states of neurons, and weights.

After SQUAT (arXiv 2404.19668), whose abstract alone could be read: states of spiking neurons are
held to 2^bits levels, spread evenly or denser towards the threshold. The levels are exactly those
of snnTorch 1.0.0, which has both.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

# Each gap between threshold-centred levels is this part of the next one away from the threshold:
# snnTorch's choice for 1 to 7 bits, and for more.
RATIOS = (0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.925, 0.95)
# Step between 2^bits even levels that rounds a normal variable of deviation 1 with the least mean
# squared error, for 1 to 8 bits: Max (1960), table II.
STEPS = (1.5958, 0.9957, 0.5860, 0.3352, 0.1881, 0.1041, 0.0569, 0.0308)


def uniform_levels(
    bits: int, threshold: float, lower: float, upper: float
) -> Float[Tensor, " level"]:
    """2^bits levels at equal distances from -threshold (1 + lower) to threshold (1 + upper)."""
    ends = (-threshold * (1 + lower), threshold * (1 + upper))
    return torch.linspace(*ends, 2**bits, dtype=torch.float64)


def threshold_levels(
    bits: int, threshold: float, lower: float, upper: float
) -> Float[Tensor, " level"]:
    """2^bits levels between the same ends, exponentially denser towards the threshold.

    Below and above it stand as many levels as that side's part of the range, rounded in favour of
    the upper side; the gaps of a side shrink towards the threshold by `RATIOS`. No level is the
    threshold itself.
    """
    below, above = threshold * (2 + lower), threshold * upper
    count = math.floor(2**bits * below / (below + above))
    ratio = RATIOS[min(bits, len(RATIOS)) - 1]
    down = threshold - below * _distances(count, ratio)
    up = threshold + above * _distances(2**bits - count, ratio)
    return torch.cat([down, up.flip(0)])


def _distances(count: int, ratio: float) -> Float[Tensor, " level"]:
    """From 1 towards 0, which is not reached: gaps of 1, ratio, ratio^2, ... up to a factor."""
    gaps = ratio ** torch.arange(count, dtype=torch.float64)
    return gaps.flip(0).cumsum(0).flip(0) / gaps.sum()


def nearest(x: Float[Tensor, "*axes"], levels: Float[Tensor, " level"]) -> Float[Tensor, "*axes"]:
    """The nearest of ascending `levels`, the lower of two; what is not finite becomes NaN.

    The gradient passes straight through, as if nothing were rounded (Bengio et al. 2013); it
    reaches `x`, not the levels. Found by bisection: a table of all distances would take 2^bits
    times the memory.
    """
    levels = levels.to(x)
    rounded: Tensor = _StraightThrough.apply(x, levels, (levels[1:] + levels[:-1]) / 2)
    return rounded


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, levels: Tensor, middles: Tensor) -> Tensor:
        # Bisection would put NaN at the highest level; 0 x is NaN there, and nothing elsewhere.
        return levels.take(torch.bucketize(x, middles)).add(x, alpha=0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient, None, None


def quantised_weights(weights: Float[Tensor, "*axes"], bits: int) -> Float[Tensor, "*axes"]:
    """Weights at 2^bits even levels, symmetric about zero, with a straight-through gradient.

    The step is the best one (Max 1960) for normal weights of the same mean square: after training
    as well as during it no weight far out decides it.
    """
    step = STEPS[bits - 1] * weights.detach().square().mean().sqrt()
    levels = torch.arange(2**bits, dtype=weights.dtype, device=weights.device)
    return nearest(weights, step * (levels - (2**bits - 1) / 2))
