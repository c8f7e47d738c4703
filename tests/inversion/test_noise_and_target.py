"""Magnitude noise and the measured attenuations it corrupts."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import rice

from spinmesh.errors import ConfigError, SequenceError
from spinmesh.inversion import Target, add_rician, rician_mean, rician_std
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
