"""Given the exact score of a Gaussian mixture, the samplers return that mixture."""

import pytest
import torch
from scipy.stats import kstest, norm

from spinmesh.errors import ConfigError
from spinmesh.scores import VE, VP, SubVP
from spinmesh.scores.equations import noise_levels
from spinmesh.scores.samplers import (
    dpm_solver_2m,
    euler_maruyama,
    exponential,
    guided,
    heun,
    splitting,
)
from spinmesh.settings.synthesise import Sampling

F64 = torch.float64
MEANS, STD, SHARE = torch.tensor([[-1.0, 0.5], [1.5, -0.5]], dtype=F64), 0.4, 0.3
# A correct sampler fails each test with this probability.
LEVEL = 1e-3


def denoise(x, sigma):
    """E[X_0 | X_0 + sigma n = x] of the mixture, exactly."""
    variance = STD**2 + sigma**2
    share = torch.tensor([SHARE, 1 - SHARE], dtype=F64).log()
    logit = share - 0.5 * ((x[:, None] - MEANS) ** 2).sum(-1) / variance
    component = MEANS + STD**2 / variance * (x[:, None] - MEANS)
    return (logit.softmax(1)[..., None] * component).sum(1)


def p_values(x):
    """KS test of both coordinates and of their sum against the mixture."""

    def cdf(direction):
        centre, spread = MEANS @ direction, STD * direction.norm()
        return lambda v: sum(
            s * norm.cdf(v, float(m), float(spread))
            for s, m in zip((SHARE, 1 - SHARE), centre, strict=True)
        )

    directions = torch.tensor([[1.0, 0], [0, 1], [1, 1]], dtype=F64)
    return [kstest((x @ d).numpy(), cdf(d)).pvalue for d in directions]


def start(n, scale, seed=11):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(n, 2, generator=generator, dtype=F64), generator


@pytest.mark.parametrize("sampler", [heun, dpm_solver_2m])
@pytest.mark.parametrize("sde", [VE(0.002, 50.0), VP()], ids=["ve", "vp"])
def test_the_flow_returns_the_mixture(sde, sampler):
    levels = noise_levels(sde, 60, 0.002)
    noise, _ = start(8000, float(levels[0]))
    assert min(p_values(sampler(denoise, noise, levels))) > LEVEL


def test_the_exponential_scheme_returns_the_mixture():
    levels = noise_levels(VE(0.002, 50.0), 300, 0.002)
    noise, generator = start(8000, float(levels[0]))
    assert min(p_values(exponential(denoise, noise, levels, generator))) > LEVEL


def mixture_score(sde):
    def score(x, t):
        Y = sde.mean_factor(t)
        return (Y * denoise(x / Y, sde.noise_level(t)) - x) / sde.gamma(t)

    return score


@pytest.mark.parametrize("sampler", [euler_maruyama, splitting])
@pytest.mark.parametrize("sde", [VE(0.01, 50.0), VP(), SubVP()], ids=["ve", "vp", "sub-vp"])
def test_the_reverse_sde_returns_the_mixture(sde, sampler):
    times = sde.time_of(noise_levels(sde, 500, 0.02)[:-1])
    noise, generator = start(4000, float(sde.std(times[0])))
    x = sampler(sde, mixture_score(sde), noise, times, generator)
    x = denoise(x / sde.mean_factor(times[-1]), sde.noise_level(times[-1]))
    assert min(p_values(x)) > LEVEL


def test_a_wrong_score_is_noticed():
    """A denoiser off by 10 % of the noise level fails the same test: it has the power to see it."""
    levels = noise_levels(VE(0.002, 50.0), 60, 0.002)
    noise, _ = start(8000, float(levels[0]))
    off = heun(lambda x, s: denoise(x, 1.1 * s), noise, levels)
    assert min(p_values(off)) < LEVEL


@pytest.mark.parametrize("sampler", [heun, dpm_solver_2m])
def test_flow_samplers_are_of_second_order(sampler):
    """A single Gaussian has a closed flow: x(0) = x sd / sqrt(sd^2 + sigma^2)."""
    sd, errors = 0.5, []
    x = torch.tensor([[3.0]], dtype=F64)
    for steps in (32, 64, 128):
        levels = torch.linspace(2.0, 0.5, steps + 1, dtype=F64)
        out = sampler(lambda y, s: sd**2 / (sd**2 + s**2) * y, x, levels)
        errors.append(float((out - x * ((sd**2 + 0.25) / (sd**2 + 4)) ** 0.5).abs()))
    slopes = [errors[i] / errors[i + 1] for i in (0, 1)]
    # Second order gives 4; first order 2, third 8.
    assert all(3.3 < slope < 5 for slope in slopes)


def test_guidance_goes_beyond_the_condition():
    def mean(x, level, condition=0.0):
        return 0 * x + condition

    x, condition = torch.zeros(3, 2), torch.ones(3, 2)
    for guidance in (0.0, 1.0, 2.5):
        assert torch.equal(guided(mean, condition, guidance)(x, x), guidance * condition)
    assert torch.equal(guided(mean, None, 2.5)(x, x), x)


def test_unknown_samplers_are_refused():
    with pytest.raises(ConfigError, match="hune"):
        Sampling(sampler="hune")
