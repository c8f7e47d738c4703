"""Magnitude noise and the measured attenuations it corrupts."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import rice

from spinmesh.errors import ConfigError, SequenceError
from spinmesh.inversion import MagnitudeNoise, Target, add_rician, rician_mean, rician_std
from spinmesh.sequence import Acquisition


@pytest.mark.parametrize("snr", [0.0, 0.3, 1.0, 3.0, 10.0, 29.0, 31.0, 100.0])
def test_moments_agree_with_quadrature_of_the_density(snr: float):
    x = np.linspace(max(0.0, snr - 12), snr + 12, 400_001)
    weight = rice.pdf(x, snr) * (x[1] - x[0])
    mean = (weight * x).sum()
    deviation = np.sqrt((weight * (x - mean) ** 2).sum())
    signal = torch.tensor([0.02 * snr], dtype=torch.float64)
    # Trapezoid over 400,001 points of a smooth density: below 1e-8 (kink at x = 0 included).
    assert float(rician_mean(signal, 0.02)) == pytest.approx(0.02 * mean, rel=1e-7)
    assert float(rician_std(signal, 0.02)) == pytest.approx(0.02 * deviation, rel=1e-6)


def test_nothing_overflows_at_any_snr():
    signal = torch.logspace(-12, 6, 200, dtype=torch.float64)
    mean, deviation = rician_mean(signal, 1.0), rician_std(signal, 1.0)
    # Floor sqrt(pi/2) and sqrt(2 - pi/2) without signal; S + sigma^2/2S and sigma far above noise.
    assert float(mean[0]) == pytest.approx(math.sqrt(math.pi / 2), rel=1e-12)
    assert float(deviation[0]) == pytest.approx(math.sqrt(2 - math.pi / 2), rel=1e-12)
    assert float(mean[-1]) == pytest.approx(1e6, rel=1e-12)
    assert float(deviation[-1]) == pytest.approx(1.0, rel=1e-9)
    assert bool((deviation.diff() > -1e-9).all())


def test_samples_have_those_moments():
    signal = torch.full((200_000,), 0.1, dtype=torch.float64)
    noisy = add_rician(signal, 20.0, torch.Generator().manual_seed(0))
    deviation = float(rician_std(signal[:1], 0.05))
    # Five standard errors of the mean of 200,000 samples.
    assert float(noisy.mean()) == pytest.approx(
        float(rician_mean(signal[:1], 0.05)), abs=5 * deviation / 200_000**0.5
    )
    # The standard error of a standard deviation is about 1/sqrt(2n) = 0.16 %; five of them.
    assert float(noisy.std()) == pytest.approx(deviation, rel=8e-3)


def test_no_noise_is_exactly_no_noise_and_bad_snr_is_refused():
    signal = torch.linspace(0, 1, 5, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(add_rician(signal, math.inf, generator), signal)
    assert torch.equal(rician_mean(signal, 0.0), signal)
    with pytest.raises(ConfigError, match="snr is 0"):
        add_rician(signal, 0.0, generator)


def test_target_refuses_what_is_not_a_signal(acquisition: Acquisition):
    good = torch.ones(len(acquisition), dtype=torch.float64)
    with pytest.raises(SequenceError, match="Give one number per measurement"):
        Target(acquisition, good[1:])
    with pytest.raises(SequenceError, match="first: measurement 3"):
        Target(acquisition, good.index_fill(0, torch.tensor([3]), float("nan")))
    with pytest.raises(SequenceError, match="attenuation needs S0 > 0"):
        Target.from_signal(acquisition, good, 0.0, 0.1)
    with pytest.raises(SequenceError, match="sigma"):
        Target(acquisition, good, sigma=-1.0)


def test_target_from_scanner_units_is_relative_to_s0(acquisition: Acquisition):
    magnitude = torch.full((len(acquisition),), 30.0, dtype=torch.float64)
    target = Target.from_signal(acquisition, magnitude, 120.0, 6.0)
    assert float(target.attenuation[0]) == 0.25
    assert target.sigma == 0.05


@pytest.mark.parametrize("signal", [1e-3, 0.02, 0.1, 0.9])
def test_likelihood_is_the_rician_law(signal: float):
    """Deviance and score against the density itself, information against quadrature."""
    sigma = 0.05
    noise = MagnitudeNoise(sigma, 0.0)
    true = torch.tensor([signal], dtype=torch.float64)
    measured = torch.tensor([0.08], dtype=torch.float64)
    law = rice(signal / sigma, scale=sigma)
    at_itself = rice(0.08 / sigma, scale=sigma)
    expected = -2 * (law.logpdf(0.08) - at_itself.logpdf(0.08))
    assert float(noise.deviance(measured, true)) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    h = 1e-6
    ahead, behind = (noise.deviance(measured, true + s * h) for s in (1, -1))
    slope = -float(ahead - behind) / (4 * h)
    # A central difference: h^2 f''' and rounding / h, both below 1e-6 of the score's scale 1/sigma.
    assert float(noise.score(measured, true)) == pytest.approx(slope, rel=1e-5, abs=1e-4)
    # A sum over a smooth density that vanishes at both ends: 4,001 points are far beyond 1e-4.
    x = np.linspace(1e-9, signal + 12 * sigma, 4_001)
    score = noise.score(torch.from_numpy(x), torch.full((len(x),), signal, dtype=torch.float64))
    fisher = (law.pdf(x) * score.numpy() ** 2).sum() * (x[1] - x[0])
    # The moments' information is at most 9 % below the law's own, where there is no signal.
    assert 0.9 < float(noise.information(true)) / fisher < 1.01


def test_floor_widens_the_law_and_no_noise_leaves_the_floor():
    signal = torch.tensor([0.1, 0.8], dtype=torch.float64)
    measured = torch.tensor([0.11, 0.75], dtype=torch.float64)
    alone = MagnitudeNoise(0.0, 0.02)
    expected = ((measured - signal) / 0.02) ** 2
    torch.testing.assert_close(alone.deviance(measured, signal), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(alone.residual(measured, signal) ** 2, expected, rtol=1e-12, atol=0)
    # Far above the noise: a normal law of variance sigma^2 + floor^2, but for log(S/m).
    both = MagnitudeNoise(0.003, 0.004)
    wide = ((measured - signal) / 0.005) ** 2 + 0.36 * (signal / measured).log()
    torch.testing.assert_close(both.deviance(measured, signal), wide, rtol=1e-3, atol=1e-3)
