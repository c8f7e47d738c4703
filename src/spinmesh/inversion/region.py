"""One target from the many voxels of a region."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.noise import rician_mean

# Halvings of an interval of a few sigma: what is left is rounding.
HALVINGS = 60


def without_rician_bias(
    magnitude: Float[Tensor, " measurement"], sigma: float
) -> Float[Tensor, " measurement"]:
    """The signal S with E[magnitude | S] = magnitude (Koay & Basser 2006); 0 in the noise floor.

    For averages over many voxels: the mean of Rician magnitudes keeps their bias while its spread
    shrinks, so it is no Rician magnitude of smaller sigma.
    """
    if sigma == 0:
        return magnitude
    low, high = torch.zeros_like(magnitude), magnitude.clamp_min(0.0)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        above = rician_mean(middle, sigma) > magnitude
        high = torch.where(above, middle, high)
        low = torch.where(above, low, middle)
    return (low + high) / 2


def region_signal(
    magnitudes: Float[Tensor, "voxel measurement"], sigma: float
) -> tuple[Float[Tensor, " measurement"], float]:
    """Mean of a region's magnitudes without its bias, and its sigma: that of a voxel / sqrt(n)."""
    count = len(magnitudes)
    mean = magnitudes.mean(0)
    if count == 1:
        return mean, sigma
    return without_rician_bias(mean, sigma), sigma / math.sqrt(count)
