"""Magnitude noise and the measured attenuations it corrupts."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import rice

from spinmesh.bloch_torrey import Signals
from spinmesh.errors import ConfigError, SequenceError
from spinmesh.inversion import Target, refuse_other_protocol
from spinmesh.inversion.target import region_signal
from spinmesh.noise import (
    MagnitudeNoise,
    add_rician,
    rician_mean,
    rician_std,
    without_rician_bias,
)
from spinmesh.sequence import Acquisition, CosineOGSE, difference


@pytest.mark.parametrize("snr", [0.0, 0.3, 1.0, 3.0, 10.0, 29.0, 31.0, 100.0])
def test_moments_agree_with_quadrature_of_the_density(snr: float):
    x = np.linspace(max(0.0, snr - 12), snr + 12, 40_001)
    weight = rice.pdf(x, snr) * (x[1] - x[0])
    mean = (weight * x).sum()
    deviation = np.sqrt((weight * (x - mean) ** 2).sum())
    signal = torch.tensor([0.02 * snr], dtype=torch.float64)
    # Trapezoid over 40,001 points of a smooth density: below 1e-8 (kink at x = 0 included).
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
    with pytest.raises(SequenceError, match="sigma"):
        Target(acquisition, good, sigma=-1.0)


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


DIRECTION = torch.eye(3, dtype=torch.float64)
B = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)


def pgse(b=B, direction=DIRECTION, delta=8.0, Delta=19.0) -> Acquisition:
    return Acquisition.pgse(b, direction, delta, Delta)


@pytest.mark.parametrize(
    "same",
    [pgse(), pgse(direction=-DIRECTION), pgse(b=1.0005 * B)],
    ids=["itself", "opposite gradients", "rounded b"],
)
def test_what_measures_the_same_is_the_same(same: Acquisition) -> None:
    assert difference(pgse(), same) is None


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (pgse(b=B[:2], direction=DIRECTION[:2]), "2 measurements against 3"),
        (pgse(b=1.1 * B), "measurement 1 differs"),
        (pgse(direction=DIRECTION.flip(1)), "measurement 2 differs"),
        (pgse(delta=7.0), "delta of measurement 0 is 7 ms against 8 ms"),
        (pgse(Delta=[19.0, 19.0, 49.0]), "Delta of measurement 2 is 49 ms against 19 ms"),
        (Acquisition.of(CosineOGSE(8.0, 19.0, 2), B, DIRECTION), "CosineOGSE against PGSE"),
    ],
    ids=["count", "b", "direction", "delta", "Delta", "kind"],
)
def test_other_protocol_is_named_by_its_first_difference(other: Acquisition, words: str) -> None:
    ones = torch.ones((1, len(other)), dtype=torch.float64)
    signals = Signals(other, ones.to(torch.complex128), ones)
    with pytest.raises(SequenceError, match=f"another protocol.*{words}.*Simulate"):
        refuse_other_protocol(signals, pgse())
