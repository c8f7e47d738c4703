"""Averages over regions: their bias goes, their noise shrinks."""

import pytest
import torch

from spinmesh.inversion import rician_mean
from spinmesh.inversion.region import region_signal, without_rician_bias


def test_bias_removed_is_bias_never_added() -> None:
    signal = torch.tensor([0.05, 0.1, 0.5, 1.0], dtype=torch.float64)
    biased = rician_mean(signal, 0.05)
    # At S = sigma the mean is 1.55 sigma, with slope 0.66: rounding of 1e-16 is not amplified.
    torch.testing.assert_close(without_rician_bias(biased, 0.05), signal, rtol=1e-12, atol=0)


def test_noise_floor_is_no_signal() -> None:
    floor = torch.tensor([0.01, 0.05 * (torch.pi / 2) ** 0.5], dtype=torch.float64)
    # The last one is E[M | 0] itself, where the slope vanishes: half the digits.
    torch.testing.assert_close(
        without_rician_bias(floor, 0.05), torch.zeros(2).double(), rtol=0, atol=1e-8
    )


def test_mean_of_many_voxels_tends_to_the_signal() -> None:
    signal = torch.tensor([1.0, 0.3, 0.06], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    real, imaginary = 0.05 * torch.randn((2, 4000, 3), generator=generator, dtype=torch.float64)
    mean, sigma = region_signal(torch.hypot(signal + real, imaginary), 0.05)
    assert sigma == pytest.approx(0.05 / 4000**0.5)
    # Four standard errors; at S = 1.2 sigma the inversion's slope doubles them.
    assert float((mean - signal).abs()[:2].max()) < 4 * sigma
    assert float((mean - signal).abs()[2]) < 8 * sigma


def test_one_voxel_stays_as_it_was_measured() -> None:
    magnitude = torch.tensor([[1.0, 0.02]], dtype=torch.float64)
    mean, sigma = region_signal(magnitude, 0.05)
    assert torch.equal(mean, magnitude[0]) and sigma == 0.05
