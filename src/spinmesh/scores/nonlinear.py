"""Equations with a nonlinear drift: separable wells, your own drift, and Allen-Cahn."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import jvp

from spinmesh.errors import ConfigError
from spinmesh.scores.equations import (
    VE,
    VP,
    ChainEquation,
    ConstantNoise,
    SeparableEquation,
    SubVP,
)


@dataclass(frozen=True)
class DoubleWell(ConstantNoise, SeparableEquation):
    """dX = rate (X - X^3) dt + sigma dB: wells at -1 and +1, the values of a two-phase image."""

    rate: float = 1.0
    sigma: float = 0.7
    horizon: float = 2.0

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        return self.rate * (x - x**3)

    def flow(self, x: Tensor, t: Tensor, h: float) -> tuple[Tensor, Tensor, Tensor]:
        """Exact for the drift alone, so that F is invertible whatever the step."""
        return cubic_flow(x, self.rate * h)


@dataclass(frozen=True)
class RationalDrift(ConstantNoise, SeparableEquation):
    """dX = -k Z / (width^2 + Z^2) dt + sigma dB with Z = X - centre: the drift of arXiv 2503.16917.

    The limit law is Student's t about `centre` of 2k/sigma^2 - 1 degrees of freedom; k = sigma = 1
    is Cauchy's. Without any such law, at 2k <= sigma^2, the equation is refused.
    """

    k: float = 1.0
    centre: float = 0.0
    sigma: float = 1.0
    horizon: float = 4.0
    width: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 * self.k > self.sigma**2:
            raise ConfigError(
                f"rational drift: k {self.k} and sigma {self.sigma} have no limit law. Give "
                "2 k > sigma^2."
            )

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        z = x - self.centre
        return -self.k * z / (self.width**2 + z**2)

    def flow(self, x: Tensor, t: Tensor, h: float) -> tuple[Tensor, Tensor, Tensor]:
        """Euler's step."""
        z, w2 = x - self.centre, self.width**2
        slope = -self.k * (w2 - z**2) / (w2 + z**2) ** 2
        curvature = 2 * self.k * z * (3 * w2 - z**2) / (w2 + z**2) ** 3
        return x + h * self.drift(x, t), 1 + h * slope, h * curvature


def student_t(
    freedom: float = 5.0,
    scale: float = 1.0,
    centre: float = 0.0,
    sigma: float = 1.0,
    horizon: float = 4.0,
) -> RationalDrift:
    """The rational drift whose limit law is Student's t of these degrees of freedom and scale."""
    k = 0.5 * sigma**2 * (freedom + 1)
    return RationalDrift(k, centre, sigma, horizon, scale * freedom**0.5)


@dataclass(frozen=True, eq=False)
class OwnDrift(ConstantNoise, SeparableEquation):
    """dX = b(X) dt + sigma dB for an elementwise drift of yours that holds X back.

    The derivatives of Euler's step are made by forward differentiation.
    """

    law: Callable[[Tensor], Tensor]
    sigma: float = 1.0
    horizon: float = 2.0

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        return self.law(x)

    def flow(self, x: Tensor, t: Tensor, h: float) -> tuple[Tensor, Tensor, Tensor]:
        one = torch.ones_like(x)
        slope, curvature, *_ = jvp(lambda y: jvp(self.law, (y,), (one,))[1], (x,), (one,))
        return x + h * self.law(x), 1 + h * slope, h * curvature


@dataclass(frozen=True)
class AllenCahn(ConstantNoise):
    """dX = (kappa Lap X + rate (X - X^3)) dt + sigma dB on periodic images, lengths in pixels.

    The step is a splitting of two exact flows: heat by FFT, y = exp(h kappa Lap) x, then the
    reaction y' = rate (y - y^3), `cubic_flow`. Both are diffeomorphisms for any h.
    """

    kappa: float = 0.5
    rate: float = 1.0
    sigma: float = 0.7
    horizon: float = 2.0

    def heat(self, x: Tensor, time: float) -> Tensor:
        """exp(time kappa Lap) x; a negative time sharpens."""
        wave = self._square_wave_number(x)
        smooth = torch.fft.rfft2(x) * torch.exp(-time * self.kappa * wave)
        return torch.fft.irfft2(smooth, s=x.shape[-2:])

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        bent = torch.fft.rfft2(x) * self._square_wave_number(x)
        laplacian = -torch.fft.irfft2(bent, s=x.shape[-2:])
        return self.kappa * laplacian + self.rate * (x - x**3)

    def move(self, x: Tensor, t: Tensor, h: float) -> Tensor:
        return cubic_flow(self.heat(x, h), self.rate * h)[0]

    def pull(self, x: Tensor, delta: Tensor, t: Tensor, h: float) -> Tensor:
        # J = D L with D = diag(R'(y)) and L symmetric of constant determinant, so that
        # J^-T (delta + grad log|det J|) = D^-1 (L^-1 delta + R''/R'(y)).
        _, slope, curvature = cubic_flow(self.heat(x, h), self.rate * h)
        return (self.heat(delta, -h) + curvature / slope) / slope

    def _square_wave_number(self, x: Tensor) -> Tensor:
        """k^2 in 1/pixel^2, on the half plane of `rfft2`."""
        y, z = x.shape[-2:]
        ky = 2 * torch.pi * torch.fft.fftfreq(y, dtype=x.dtype, device=x.device)
        kx = 2 * torch.pi * torch.fft.rfftfreq(z, dtype=x.dtype, device=x.device)
        return ky[:, None] ** 2 + kx**2


def cubic_flow(y: Tensor, time: float) -> tuple[Tensor, Tensor, Tensor]:
    """The flow of y' = y - y^3, y e^t / sqrt(1 + y^2 (e^2t - 1)), and its two derivatives in y."""
    growth = math.exp(time)
    root = (1 + y * y * (growth**2 - 1)).rsqrt()
    square = root * root
    slope = growth * root * square
    return growth * y * root, slope, -3 * (growth**2 - 1) * y * square * slope


EQUATIONS: dict[str, Callable[..., ChainEquation]] = {
    "ve": VE,
    "vp": VP,
    "sub-vp": SubVP,
    "double-well": DoubleWell,
    "student-t": student_t,
    "rational": RationalDrift,
    "allen-cahn": AllenCahn,
}


def equation_named(name: str, parameters: Mapping[str, float] | None = None) -> ChainEquation:
    """The equation called `name` (a key of EQUATIONS); ConfigError for an unknown parameter."""
    try:
        return EQUATIONS[name](**(parameters or {}))
    except TypeError as error:
        raise ConfigError(f"sde {name}: {error}. Check `sde_parameters`.") from error
