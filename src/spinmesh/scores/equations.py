"""Forward noising equations dX = b(t, X) dt + g(t) dB, from data at t = 0 to noise at `horizon`.

The linear ones are those of Song et al. 2021; for them the Malliavin covariance gamma(t) has a
closed form (arXiv 2503.16917) and equals the variance of X_t given X_0. The others are in
`nonlinear.py` and `fractional.py`. Inheritance says what is known of an equation without
simulation:

    ChainEquation         a discrete step F(X) + a xi that can be inverted: weight (C)
      SeparableEquation   the step acts elementwise: weight (A) as well
        LinearEquation    the weight itself: a denoiser
      ConstantNoise       g does not depend on t; the score of the limit law
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.errors import ConfigError

Score = Callable[[Tensor, Tensor], Tensor]  # (x, t) -> grad log p_t(x)
Denoise = Callable[[Tensor, Tensor], Tensor]  # (x, sigma) -> E[data | data + sigma noise = x]
# Noise left before the last denoising: invisible beside a grey step of 1/16.
LOWEST_NOISE = 0.01
# Steps of the chain that a score is trained on.
CHAIN_STEPS = 64


class ChainEquation(ABC):
    """An equation with a discrete step X' = F(X) + a xi whose weight (C) can be carried along."""

    horizon: float

    @abstractmethod
    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """b(t, x)."""

    @abstractmethod
    def prior(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Draws shaped like `like` of the law from which the reverse equation starts."""

    @abstractmethod
    def noise(self, t: Tensor) -> Tensor:
        """g(t), one number for all coordinates."""

    @abstractmethod
    def move(self, x: Tensor, t: Tensor, h: float) -> Tensor:
        """F(x), the step of length h without its noise."""

    @abstractmethod
    def kick(self, t: Tensor, h: float) -> Tensor:
        """a, the deviation of the step's noise."""

    @abstractmethod
    def pull(self, x: Tensor, delta: Tensor, t: Tensor, h: float) -> Tensor:
        """J^-T (delta + grad log|det J|) with J = F'(x); ConfigError where J cannot be inverted."""

    @abstractmethod
    def base_score(self, x: Tensor, t: Tensor) -> Tensor:
        """A score of the right growth, to which a network adds: that of the limit law, or 0."""

    @abstractmethod
    def grid(self, steps: int) -> Float[Tensor, " time"]:
        """Times 0 = t_0 < ... < t_steps = horizon of a chain that is fine near the data."""


class SeparableEquation(ChainEquation):
    """An equation whose step acts elementwise, which is all that the O(d) weight (A) needs."""

    @abstractmethod
    def flow(self, x: Tensor, t: Tensor, h: float) -> tuple[Tensor, Tensor, Tensor]:
        """F(x), J = F'(x) and H = F''(x) of the step of length h."""

    def move(self, x: Tensor, t: Tensor, h: float) -> Tensor:
        return self.flow(x, t, h)[0]

    def pull(self, x: Tensor, delta: Tensor, t: Tensor, h: float) -> Tensor:
        _, J, H = self.flow(x, t, h)
        refuse_singular(J, x, h)
        return (delta + H / J) / J


class ConstantNoise(ChainEquation):
    """dX = b(X) dt + sigma dB; if b = -grad V the limit law is exp(-2 V / sigma^2).

    The chain's times are horizon (n / steps)^3, since the noise level, a root of t, is mostly below
    its mid-range.
    """

    sigma: float

    def __post_init__(self) -> None:
        # A centre may lie anywhere.
        numbers = {k: v for k, v in vars(self).items() if isinstance(v, float | int)}
        wrong = {k: v for k, v in numbers.items() if k != "centre" and not 0 < v < math.inf}
        if wrong:
            raise ConfigError(f"{type(self).__name__}: {wrong} must be positive and finite.")

    def prior(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """The chain from normal numbers: four horizons in steps of a fiftieth, then its own grid.

        Its steps are long at the horizon, where its limit law differs from the equation's by as
        much as some ten per cent of the variance.
        """
        x, h = normal_like(like, generator), self.horizon / 50
        for step in (*[h] * 200, *self.grid(CHAIN_STEPS).diff().tolist()):
            t = x.new_tensor(0.0)  # neither drift nor noise depends on it
            x = self.move(x, t, step) + self.kick(t, step) * normal_like(x, generator)
        return x

    def noise(self, t: Tensor) -> Tensor:
        return torch.full_like(t, self.sigma)

    def kick(self, t: Tensor, h: float) -> Tensor:
        return self.noise(t) * h**0.5

    def base_score(self, x: Tensor, t: Tensor) -> Tensor:
        return 2 / self.sigma**2 * self.drift(x, t)

    def grid(self, steps: int) -> Float[Tensor, " time"]:
        return self.horizon * torch.linspace(0, 1, steps + 1, dtype=torch.float64) ** 3


class LinearEquation(SeparableEquation):
    """b = -beta(t) x / 2, so that X_t = Y_t X_0 + sqrt(gamma(t)) times a standard normal."""

    horizon = 1.0

    def __post_init__(self) -> None:
        low, high = vars(self).values()
        if not 0 < low < high:
            raise ConfigError(f"{type(self).__name__}: {vars(self)}; give 0 < lower < higher.")

    @abstractmethod
    def beta(self, t: Tensor) -> Tensor:
        """Rate of contraction."""

    @abstractmethod
    def mean_factor(self, t: Tensor) -> Tensor:
        """Y_t = exp(-1/2 int beta), also the first variation dX_t/dX_0."""

    @abstractmethod
    def gamma(self, t: Tensor) -> Tensor:
        """Malliavin covariance, int (Y_t / Y_s)^2 g(s)^2 ds."""

    @abstractmethod
    def time_of(self, noise_level: Tensor) -> Tensor:
        """The t at which std(t) / mean_factor(t) is `noise_level`."""

    def std(self, t: Tensor) -> Tensor:
        """Standard deviation of X_t given X_0."""
        return self.gamma(t).sqrt()

    def noise_level(self, t: Tensor) -> Tensor:
        """sigma = std / mean_factor: the noise on X_t once it is scaled back to the data."""
        return self.std(t) / self.mean_factor(t)

    def prior(self, like: Tensor, generator: torch.Generator) -> Tensor:
        return float(self.std(torch.ones((), dtype=torch.float64))) * normal_like(like, generator)

    def base_score(self, x: Tensor, t: Tensor) -> Tensor:
        return torch.zeros_like(x)

    def grid(self, steps: int) -> Float[Tensor, " time"]:
        return self.time_of(noise_levels(self, steps, LOWEST_NOISE)).flip(0)

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        return -0.5 * self.beta(t) * x

    def flow(self, x: Tensor, t: Tensor, h: float) -> tuple[Tensor, Tensor, Tensor]:
        """Exact: the chain has the marginals of the equation itself."""
        now = t.double()
        J = (self.mean_factor(now + h) / self.mean_factor(now)).to(x) * torch.ones_like(x)
        return J * x, J, torch.zeros_like(x)

    def kick(self, t: Tensor, h: float) -> Tensor:
        now = t.double()
        J = self.mean_factor(now + h) / self.mean_factor(now)
        return (self.gamma(now + h) - J**2 * self.gamma(now)).sqrt().to(t)


@dataclass(frozen=True)
class VE(LinearEquation):
    """Variance exploding: sigma(t) = sigma_min (sigma_max / sigma_min)^t, no drift.

    gamma = sigma(t)^2 - sigma(0)^2.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    @property
    def _log_ratio(self) -> float:
        return math.log(self.sigma_max / self.sigma_min)

    def beta(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def noise(self, t: Tensor) -> Tensor:
        return self.sigma_min * torch.exp(self._log_ratio * t) * math.sqrt(2 * self._log_ratio)

    def mean_factor(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def gamma(self, t: Tensor) -> Tensor:
        return self.sigma_min**2 * torch.expm1(2 * self._log_ratio * t)

    def time_of(self, noise_level: Tensor) -> Tensor:
        return torch.log1p((noise_level / self.sigma_min) ** 2) / (2 * self._log_ratio)


@dataclass(frozen=True)
class GrowingRate(LinearEquation):
    """beta(t) grows linearly."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def beta(self, t: Tensor) -> Tensor:
        return self.beta_min + (self.beta_max - self.beta_min) * t

    def integral(self, t: Tensor) -> Tensor:
        """B(t) = int_0^t beta."""
        return self.beta_min * t + 0.5 * (self.beta_max - self.beta_min) * t**2

    def mean_factor(self, t: Tensor) -> Tensor:
        return torch.exp(-0.5 * self.integral(t))

    def _time_of_integral(self, B: Tensor) -> Tensor:
        # The root of slope/2 t^2 + beta_min t = B in the form that does not cancel near t = 0.
        slope = self.beta_max - self.beta_min
        return 2 * B / (self.beta_min + (self.beta_min**2 + 2 * slope * B).sqrt())


class VP(GrowingRate):
    """Variance preserving: g^2 = beta, gamma = 1 - exp(-B)."""

    def noise(self, t: Tensor) -> Tensor:
        return self.beta(t).sqrt()

    def gamma(self, t: Tensor) -> Tensor:
        return -torch.expm1(-self.integral(t))

    def time_of(self, noise_level: Tensor) -> Tensor:
        return self._time_of_integral(torch.log1p(noise_level**2))


class SubVP(GrowingRate):
    """Sub-variance preserving: g^2 = beta (1 - exp(-2 B)), gamma = (1 - exp(-B))^2."""

    def noise(self, t: Tensor) -> Tensor:
        return (-self.beta(t) * torch.expm1(-2 * self.integral(t))).sqrt()

    def gamma(self, t: Tensor) -> Tensor:
        return torch.expm1(-self.integral(t)) ** 2

    def time_of(self, noise_level: Tensor) -> Tensor:
        # sigma = exp(B/2) - exp(-B/2) = 2 sinh(B/2).
        return self._time_of_integral(2 * torch.asinh(noise_level / 2))


def refuse_singular(determinant: Tensor, x: Tensor, h: float) -> None:
    """ConfigError unless every determinant of a step's Jacobian is positive."""
    worst = determinant.min()
    if not bool(worst > 0):
        where = x.reshape(*determinant.shape, -1)[determinant == worst].reshape(-1)[:3].tolist()
        raise ConfigError(
            f"weight (C): a step of length {h:.3g} is not invertible, det J = {worst.item():.3g} "
            f"near x = {where}. Take more steps, or an exact or splitting flow."
        )


def normal_like(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers shaped like `like`."""
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)


def noise_levels(sde: LinearEquation, steps: int, lowest: float) -> Float[Tensor, " level"]:
    """`steps` falling noise levels, then 0 (spacing of Karras et al. 2022, eq. 5, rho = 7)."""
    rho = 7.0
    highest = float(sde.noise_level(torch.ones((), dtype=torch.float64)))
    ramp = torch.linspace(highest ** (1 / rho), lowest ** (1 / rho), steps, dtype=torch.float64)
    return torch.cat([ramp**rho, torch.zeros(1, dtype=torch.float64)])
