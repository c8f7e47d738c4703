"""Equations with a nonlinear drift: separable wells, your own drift, coupled and Allen-Cahn."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor
from torch.func import grad, jacfwd, jvp, vmap

from spinmesh.errors import ConfigError
from spinmesh.scores.equations import (
    VE,
    VP,
    ChainEquation,
    ConstantNoise,
    SeparableEquation,
    SubVP,
    normal_like,
    refuse_singular,
)

Drift = Callable[[Tensor], Tensor]
# A limit law is tabulated as far as its density exceeds exp(-TAIL) of the largest.
TAIL = 40.0


@dataclass(frozen=True)
class DoubleWell(ConstantNoise, SeparableEquation):
    """dX = rate (X - X^3) dt + sigma dB: wells at -1 and +1, the values of a two-phase image."""

    superlinear = True
    rate: float = 1.0
    sigma: float = 0.7
    horizon: float = 2.0

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        return self.rate * (x - x**3)

    def flow(self, x: Tensor, t: Tensor, h: float) -> tuple[Tensor, Tensor, Tensor]:
        """Exact for the drift alone, so that F is invertible whatever the step."""
        return cubic_flow(x, self.rate * h)

    def prior(self, like: Tensor, generator: torch.Generator) -> Tensor:
        return stationary_draw(lambda x: self.rate * (x - x**3), self.sigma, like, generator)


@dataclass(frozen=True)
class StudentT(ConstantNoise, SeparableEquation):
    """dX = -sigma^2/2 (nu + 1) Z / (nu s^2 + Z^2) dt + sigma dB with Z = X - centre.

    The limit law is Student's t of `freedom` nu and `scale` s about `centre`. Below nu = 2 it has
    no variance: start the reverse from forward-simulated samples there.
    """

    superlinear = False
    freedom: float = 5.0
    scale: float = 1.0
    centre: float = 0.0
    sigma: float = 1.0
    horizon: float = 4.0

    @property
    def _pull(self) -> tuple[float, float]:
        """k and w^2 of b = -k z / (w^2 + z^2)."""
        return 0.5 * self.sigma**2 * (self.freedom + 1), self.freedom * self.scale**2

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        (k, w2), z = self._pull, x - self.centre
        return -k * z / (w2 + z**2)

    def flow(self, x: Tensor, t: Tensor, h: float) -> tuple[Tensor, Tensor, Tensor]:
        """Euler's step."""
        (k, w2), z = self._pull, x - self.centre
        slope = -k * (w2 - z**2) / (w2 + z**2) ** 2
        curvature = 2 * k * z * (3 * w2 - z**2) / (w2 + z**2) ** 3
        return x + h * self.drift(x, t), 1 + h * slope, h * curvature

    def prior(self, like: Tensor, generator: torch.Generator) -> Tensor:
        law = stats.t(self.freedom, self.centre, self.scale)
        return _through(law.ppf, like, generator)


def rational_drift(
    k: float = 1.0, centre: float = 0.0, sigma: float = 1.0, horizon: float = 4.0
) -> StudentT:
    """dX = -k (X - a) / (1 + (X - a)^2) dt + sigma dB, the drift of arXiv 2503.16917.

    It is Student's t of 2k/sigma^2 - 1 degrees of freedom and width 1; k = sigma = 1 is Cauchy's.
    Raises ConfigError if 2k <= sigma^2, when there is no limit law to start from.
    """
    freedom = 2 * k / sigma**2 - 1
    if not freedom > 0:
        raise ConfigError(
            f"rational drift: k {k} and sigma {sigma} have no limit law. Give 2 k > sigma^2."
        )
    return StudentT(freedom, freedom**-0.5, centre, sigma, horizon)


@dataclass(frozen=True, eq=False)
class OwnDrift(ConstantNoise, SeparableEquation):
    """dX = b(X) dt + sigma dB for an elementwise drift of yours that holds X back.

    The derivatives of Euler's step are made by forward differentiation. `superlinear` stays True,
    the safe choice: taming changes a reverse step by its square at most.
    """

    superlinear = True
    law: Drift
    sigma: float = 1.0
    horizon: float = 2.0

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        return self.law(x)

    def flow(self, x: Tensor, t: Tensor, h: float) -> tuple[Tensor, Tensor, Tensor]:
        slope = elementwise_derivative(self.law)
        curvature = elementwise_derivative(slope)
        return x + h * self.law(x), 1 + h * slope(x), h * curvature(x)

    def prior(self, like: Tensor, generator: torch.Generator) -> Tensor:
        return stationary_draw(self.law, self.sigma, like, generator)


@dataclass(frozen=True, eq=False)
class CoupledDrift(ConstantNoise):
    """dX = b(X) dt + sigma dB for any smooth drift of a vector, `law`: (d,) -> (d,), d <= 10.

    The dense Jacobian of Euler's step and the gradient of its determinant come from automatic
    differentiation: O(d^3) per path, so for references and small problems. The prior is simulated
    from standard normal numbers for four horizons.
    """

    superlinear = True
    law: Drift
    sigma: float = 1.0
    horizon: float = 2.0

    def euler(self, h: float) -> Drift:
        """F of one path, x + h b(x)."""
        return lambda x: x + h * self.law(x)

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        return vmap(self.law)(x)

    def move(self, x: Tensor, t: Tensor, h: float) -> Tensor:
        return vmap(self.euler(h))(x)

    def pull(self, x: Tensor, delta: Tensor, t: Tensor, h: float) -> Tensor:
        jacobian = jacfwd(self.euler(h))
        J = vmap(jacobian)(x)
        refuse_singular(torch.linalg.det(J), x, h)
        log_det = vmap(grad(lambda y: torch.linalg.slogdet(jacobian(y))[1]))(x)
        return torch.linalg.solve(J.mT, (delta + log_det)[..., None])[..., 0]

    def prior(self, like: Tensor, generator: torch.Generator) -> Tensor:
        return _simulated(self, like, generator)


@dataclass(frozen=True)
class AllenCahn(ConstantNoise):
    """dX = (kappa Lap X + rate (X - X^3)) dt + sigma dB on periodic images, lengths in pixels.

    The step is a splitting of two exact flows: heat by FFT, y = exp(h kappa Lap) x, then the
    reaction y' = rate (y - y^3), `cubic_flow`. Both are diffeomorphisms for any h. Only the limit
    score is closed; the prior is simulated.
    """

    superlinear = True
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

    def prior(self, like: Tensor, generator: torch.Generator) -> Tensor:
        return _simulated(self, like, generator)

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
    "student-t": StudentT,
    "rational": rational_drift,
    "allen-cahn": AllenCahn,
}


def equation_named(name: str, parameters: Mapping[str, float] | None = None) -> ChainEquation:
    """The equation called `name` (a key of EQUATIONS); ConfigError if unknown."""
    if name not in EQUATIONS:
        raise ConfigError(f"sde: {name!r} is unknown. Choose from {', '.join(EQUATIONS)}.")
    try:
        return EQUATIONS[name](**(parameters or {}))
    except TypeError as error:
        raise ConfigError(f"sde {name}: {error}. Check `sde_parameters`.") from error


def elementwise_derivative(function: Drift) -> Drift:
    """f' of an elementwise f: one forward-mode product with ones."""
    return lambda x: jvp(function, (x,), (torch.ones_like(x),))[1]


def stationary_draw(drift: Drift, sigma: float, like: Tensor, generator: torch.Generator) -> Tensor:
    """Draws of exp(int 2 b / sigma^2) by its tabulated quantiles, shaped like `like`.

    Raises ConfigError if the drift does not hold X within [-50, 50].
    """
    x = torch.linspace(-50, 50, 200_001, dtype=torch.float64)
    force = 2 / sigma**2 * drift(x)
    log_density = torch.cumulative_trapezoid(force, x)
    log_density = log_density - log_density.max()
    if not bool((log_density[[0, -1]] < -TAIL).all()):
        raise ConfigError(
            "prior: the drift has no limit law within [-50, 50]. Start the reverse equation from "
            "forward-simulated samples, or rescale."
        )
    inside = log_density > -TAIL
    mass = torch.exp(log_density[inside]).cumsum(0)
    quantiles, points = (mass / mass[-1]).numpy(), x[1:][inside].numpy()
    return _through(lambda u: np.interp(u, quantiles, points), like, generator)


def _through(
    quantile: Callable[[np.ndarray], np.ndarray], like: Tensor, generator: torch.Generator
) -> Tensor:
    uniform = torch.rand(like.shape, generator=generator, dtype=torch.float64)
    # The end 0 of [0, 1) would be minus infinity.
    drawn = quantile(uniform.clamp_min(1e-16).numpy())
    return torch.from_numpy(np.asarray(drawn)).to(like)


def _simulated(sde: ChainEquation, like: Tensor, generator: torch.Generator) -> Tensor:
    """The chain after four horizons from standard normal numbers, in steps of horizon / 50."""
    x, h = normal_like(like, generator), sde.horizon / 50
    for n in range(200):
        x = sde.step(x, n * h, h, generator)
    return x
