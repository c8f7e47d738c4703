"""Magnitude noise: the Rician law, its mean and its spread (Gudbjartsson & Patz 1995)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.errors import ConfigError

# Beyond this SNR the exact variance is a difference of nearly equal numbers; the asymptotic series
# below is then good to 1e-8 of sigma^2.
ASYMPTOTIC_SNR = 30.0
# Halvings of an interval of a few sigma: what is left is rounding.
HALVINGS = 60


def add_rician(
    attenuation: Float[Tensor, "*batch measurement"], snr: float, generator: torch.Generator
) -> Float[Tensor, "*batch measurement"]:
    """Magnitude of `attenuation` plus complex Gaussian noise of 1/snr per channel.

    snr is that of the unweighted signal; infinity returns the attenuation unchanged.
    Raises ConfigError unless snr > 0.
    """
    if not snr > 0:
        raise ConfigError(f"noise: snr is {snr}; give a number > 0 (.inf for no noise).")
    if math.isinf(snr):
        return attenuation
    how: Any = {"generator": generator, "dtype": attenuation.dtype, "device": generator.device}
    noise = torch.randn((2, *attenuation.shape), **how).to(attenuation.device)
    return torch.hypot(attenuation + noise[0] / snr, noise[1] / snr)


def rician_mean(signal: Float[Tensor, "*batch measurement"], sigma: float) -> Tensor:
    """Expected magnitude E[M | S], differentiable in the true magnitude `signal`.

    sigma sqrt(pi/2) L_{1/2}(-S^2 / 2 sigma^2), written with exponentially scaled Bessel functions,
    which overflow at no SNR. sigma = 0 returns the signal.
    """
    if sigma == 0:
        return signal
    x = (signal / (2 * sigma)) ** 2
    laguerre = (1 + 2 * x) * torch.special.i0e(x) + 2 * x * torch.special.i1e(x)
    return sigma * math.sqrt(math.pi / 2) * laguerre


def rician_std(signal: Float[Tensor, "*batch measurement"], sigma: float) -> Tensor:
    """Standard deviation of the magnitude: 0.655 sigma in the noise floor, sigma far above it."""
    if sigma == 0:
        return torch.zeros_like(signal)
    snr2 = (signal / sigma) ** 2
    exact = 2 + snr2 - (rician_mean(signal, sigma) / sigma) ** 2
    # Series of 2 + s^2 - E^2 in 1/s^2, from E = s + 1/(2s) + 1/(8s^3) + 3/(16 s^5) + ...
    inverse = 1 / snr2.clamp_min(1.0)
    series = 1 - inverse / 2 - inverse**2 / 2
    return sigma * torch.where(snr2 > ASYMPTOTIC_SNR**2, series, exact).sqrt()


@dataclass(frozen=True)
class MagnitudeNoise:
    """Rician noise of `sigma` and an error of `floor` that is no noise, both in attenuation.

    The likelihood is the Rician density to the power sigma^2/(sigma^2 + floor^2): far above the
    noise a normal law of that variance, without a floor the Rician law, without noise a normal law
    of standard deviation `floor`.
    """

    sigma: float
    floor: float

    def deviance(
        self, measured: Float[Tensor, " measurement"], signal: Float[Tensor, " measurement"]
    ) -> Float[Tensor, " measurement"]:
        """-2 log likelihood of true magnitudes `signal`, relative to `signal` = `measured`."""
        square = (measured - signal) ** 2 / self.variance
        if self.sigma == 0:
            return square
        # I0(x) = exp(x) i0e(x), and the exponents make up the square.
        i0 = torch.special.i0e(torch.stack([measured * signal, measured**2]) / self.sigma**2)
        return square + 2 * self.temper * (i0[1].log() - i0[0].log())

    def score(
        self, measured: Float[Tensor, " measurement"], signal: Float[Tensor, " measurement"]
    ) -> Float[Tensor, " measurement"]:
        """d(log likelihood)/d(signal)."""
        if self.sigma == 0:
            return (measured - signal) / self.variance
        x = measured * signal / self.sigma**2
        return (measured * torch.special.i1e(x) / torch.special.i0e(x) - signal) / self.variance

    def information(self, signal: Float[Tensor, " measurement"]) -> Tensor:
        """Fisher information about `signal`: (dE/dS)^2 / variance, to 9 % of Rice's."""
        if self.sigma == 0:
            return torch.full_like(signal, 1 / self.variance)
        mean = partial(rician_mean, sigma=self.sigma)
        slope = torch.func.jvp(mean, (signal,), (torch.ones_like(signal),))[1]
        return self.temper * (slope / rician_std(signal, self.sigma)) ** 2

    def residual(
        self, measured: Float[Tensor, " measurement"], signal: Float[Tensor, "*batch measurement"]
    ) -> Float[Tensor, "*batch measurement"]:
        """(measured - E[magnitude]) / standard deviation, floor included."""
        spread = torch.hypot(rician_std(signal, self.sigma), signal.new_tensor(self.floor))
        return (measured - rician_mean(signal, self.sigma)) / spread

    def misfit(
        self, measured: Float[Tensor, " measurement"], signal: Float[Tensor, " measurement"]
    ) -> float:
        """RMS of measured - E[magnitude], in attenuation."""
        return float((measured - rician_mean(signal, self.sigma)).square().mean().sqrt())

    @property
    def variance(self) -> float:
        """sigma^2 + floor^2."""
        return self.sigma**2 + self.floor**2

    @property
    def temper(self) -> float:
        """sigma^2 / (sigma^2 + floor^2)."""
        return self.sigma**2 / self.variance


def without_rician_bias(
    magnitude: Float[Tensor, " measurement"], sigma: float
) -> Float[Tensor, " measurement"]:
    """The signal S with E[magnitude | S] = magnitude (Koay & Basser 2006); 0 in the noise floor.

    For averages over voxels: the mean of Rician magnitudes keeps their bias; its spread shrinks.
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
