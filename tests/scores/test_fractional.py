"""Fractional noise: weights, covariances, and samples from an ordinary denoiser."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm

from spinmesh.errors import ConfigError
from spinmesh.scores import FractionalVP
from spinmesh.scores.fractional import reverse_fractional

F64 = torch.float64


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("hurst", "terms", "largest"), [(0.9, 2, 7e-2), (0.9, 3, 4e-5)])
def test_a_few_processes_make_fractional_noise(hurst, terms, largest):
    """Relative mean square error of B^H at t = 1: int (kernel - sum w exp(-g s))^2 ds.

    Measured 6.2e-2 and 3.5e-5, which is what an independent derivation gave.
    """
    sde = FractionalVP(hurst, terms)
    # Midpoints in s^(1/4), which smooths the kernel's corner at 0: error below 1e-5.
    u = (np.arange(20_000) + 0.5) / 20_000
    s, width = u**4, 4 * u**3 / 20_000
    kernel = s ** (hurst - 0.5) / math.gamma(hurst + 0.5)
    sum_of_exponentials = np.exp(-s[:, None] * sde.rates) @ sde.weights
    error = ((kernel - sum_of_exponentials) ** 2 * width).sum() / (kernel**2 * width).sum()
    assert error < largest


def test_the_covariance_equation_agrees_with_simulation():
    sde, n, steps = FractionalVP(0.8, 2, beta_max=8.0), 20_000, 400
    z, generator = torch.zeros(3, n, dtype=F64), seeded(1)
    for k in range(steps):
        A, G = (torch.from_numpy(x) for x in sde.drift_and_gain((k + 0.5) / steps))  # Midpoint.
        noise = torch.randn(n, generator=generator, dtype=F64) / steps**0.5
        z = z + A @ z / steps + G[:, None] * noise
    exact = torch.from_numpy(sde.covariance(1.0))
    scale = exact.diag().sqrt()
    gap = (torch.cov(z) - exact) / (scale[:, None] * scale)
    # Entries scatter by sqrt(2 / n) = 0.01; Euler's bias is g / (2 steps) = 0.025 for g = 20.
    assert gap.abs().max() < 0.05
    assert (exact / (scale[:, None] * scale) - torch.eye(3)).abs().max() > 0.3  # Not trivial.


def test_the_covariance_of_the_processes_is_the_closed_one():
    """Cov(Y^j, Y^k) = (1 - exp(-(g_j + g_k) t)) / (g_j + g_k), also at early times."""
    sde = FractionalVP(0.3, 3)
    pairs = sde.rates[:, None] + sde.rates
    for t in (1e-6, 1e-3, 0.4, 1.0):
        # The solver's tolerance is 1e-10 a step.
        exact = -np.expm1(-pairs * t) / pairs
        np.testing.assert_allclose(sde.covariance(t)[1:, 1:], exact, rtol=2e-7)


MEANS, STD, SHARE = (-1.0, 1.2), 0.3, 0.35


def denoise(x, sigma):
    """E[X_0 | X_0 + sigma n = x] of a mixture of two normal laws, exactly."""
    variance = STD**2 + sigma**2
    means = torch.tensor(MEANS, dtype=F64)
    logit = torch.tensor([SHARE, 1 - SHARE], dtype=F64).log()
    logit = logit - 0.5 * (x[:, None] - means) ** 2 / variance
    return (logit.softmax(1) * (means + STD**2 / variance * (x[:, None] - means))).sum(1)


def cdf(v):
    first, second = (norm.cdf(v, m, STD) for m in MEANS)
    return SHARE * first + (1 - SHARE) * second


@pytest.mark.parametrize(
    ("hurst", "terms", "factor", "same"),
    [(0.7, 1, 1.0, True), (0.8, 2, 1.0, True), (0.3, 2, 1.0, True), (0.8, 2, 1.3, False)],
)
def test_the_fractional_sampler_returns_the_mixture(hurst, terms, factor, same):
    """And a denoiser told of too much noise returns another law, so that the judge can say no."""
    sde = FractionalVP(hurst, terms)
    times = sde.times(150, 0.01)
    z = sde.prior(torch.zeros(terms + 1, 4000, dtype=F64), seeded(2))
    x = reverse_fractional(sde, lambda y, s: denoise(y, factor * s), z, times, seeded(3))
    # What the last denoising leaves out, 0.01 of noise, cannot be seen beside 0.3.
    assert (kstest(x.numpy(), cdf).pvalue > 1e-3) == same


def test_impossible_noise_is_refused():
    for hurst in (0.0, 1.0, -0.2):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            FractionalVP(hurst)
    with pytest.raises(ConfigError, match="terms"):
        FractionalVP(0.7, 0)
