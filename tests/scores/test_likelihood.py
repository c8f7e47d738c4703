"""The likelihood of laws that are known."""

import math

import pytest
import torch

from spinmesh.errors import ConfigError
from spinmesh.scores import VE
from spinmesh.scores.denoiser import log_likelihood
from spinmesh.scores.equations import noise_levels

F64 = torch.float64
MEAN, SD = 0.3, 0.6


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def gaussian(x, sigma):
    return MEAN + SD**2 / (SD**2 + sigma**2) * (x - MEAN)


def exact(x, lowest):
    variance = SD**2 + lowest**2
    square = ((x - MEAN) ** 2).flatten(1).sum(1) / variance
    return -0.5 * (square + x[0].numel() * math.log(2 * math.pi * variance))


def levels(steps):
    return noise_levels(VE(0.01, 50.0), steps, 0.01)[:-1]


@pytest.mark.slow
def test_the_likelihood_of_a_gaussian_is_exact_to_second_order():
    x, errors = torch.randn(50, 3, dtype=F64, generator=seeded(1)), []
    for steps in (50, 100, 200):
        own = log_likelihood(gaussian, x, levels(steps), (MEAN, SD))
        errors.append(float((own - exact(x, 0.01)).abs().max()))
    # Heun's method: halving the step quarters the error.
    assert all(3.3 < errors[i] / errors[i + 1] < 5 for i in (0, 1))
    assert errors[-1] < 0.05


def test_probes_agree_with_the_exact_divergence():
    """For an isotropic slope every random sign gives the trace exactly."""
    x = torch.randn(6, 4, 8, dtype=F64, generator=seeded(2))
    probed = log_likelihood(gaussian, x, levels(200), (MEAN, SD), 1, seeded(3))
    # 32 numbers, each with the error measured above.
    torch.testing.assert_close(probed, exact(x, 0.01), rtol=0, atol=0.5)
    # On any levels, since both take the same steps.
    flat = log_likelihood(gaussian, x[:, :2].flatten(1), levels(20), (MEAN, SD))
    same = log_likelihood(gaussian, x[:, :2], levels(20), (MEAN, SD), 2, seeded(4))
    torch.testing.assert_close(flat, same, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_a_mixture_integrates_to_one():
    """exp(log p) summed over a line: the density knows its own volume."""

    def denoise(x, sigma):
        variance, means = 0.2**2 + sigma**2, torch.tensor([-1.0, 1.0], dtype=F64)
        share = (-0.5 * (x - means) ** 2 / variance).softmax(1)
        return (share * (means + 0.2**2 / variance * (x - means))).sum(1, keepdim=True)

    x = torch.linspace(-3, 3, 601, dtype=F64)[:, None]
    density = log_likelihood(denoise, x, levels(300), (0.0, 1.02)).exp()
    # Trapezoid is exact here; the flow's error is that of the Gaussian above.
    assert abs(float(density.sum() * 0.01) - 1) < 0.01
    middle = density[300] / density[400]
    # Between the modes, 1 and -1: twice exp(-0.5 (1 / 0.2)^2).
    torch.testing.assert_close(
        float(middle[0] if middle.ndim else middle), 2 * math.exp(-12.5 / 1.0025), rtol=0.05, atol=0
    )


def test_impossible_requests_are_refused():
    x = torch.zeros(2, 32, dtype=F64)
    with pytest.raises(ConfigError, match="fall"):
        log_likelihood(gaussian, x, torch.tensor([1.0, 0.0], dtype=F64))
    with pytest.raises(ConfigError, match="probes"):
        log_likelihood(gaussian, x, levels(3))
    with pytest.raises(ConfigError, match="generator"):
        log_likelihood(gaussian, x, levels(3), probes=2)
