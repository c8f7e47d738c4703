"""Forward noising equations dX = b(t, X) dt + g(t) dB, acting on each pixel by itself.

Time runs from 0 (data) to 1 (noise). The linear ones are those of Song et al. 2021; for them the
Malliavin covariance gamma(t) has a closed form (arXiv 2503.16917) and equals the variance of
X_t given X_0.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.errors import ConfigError

Score = Callable[[Tensor, Tensor], Tensor]


class SeparableSDE(ABC):
    """An equation whose drift acts elementwise, which is all that the O(d) weight needs."""

    @abstractmethod
    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """b(t, x)."""

    @abstractmethod
    def drift_slope(self, x: Tensor, t: Tensor) -> Tensor:
        """b'(t, x), the derivative in x."""

    @abstractmethod
    def drift_curvature(self, x: Tensor, t: Tensor) -> Tensor:
        """b''(t, x), the second derivative in x."""

    @abstractmethod
    def noise(self, t: Tensor) -> Tensor:
        """g(t)."""

    def reverse(self, score: Score, x: Tensor, t: Tensor, churn: float = 1.0) -> tuple:
        """Drift and noise of the equation that undoes this one (Anderson 1982).

        To be integrated from t = 1 down to 0, with dt < 0. `churn` 1 gives the reverse SDE,
        0 the probability-flow ODE; all values between have the same marginals.
        """
        g = self.noise(t)
        return self.drift(x, t) - 0.5 * (1 + churn**2) * g**2 * score(x, t), churn * g


@dataclass(frozen=True)
class DoubleWell(SeparableSDE):
    """dX = rate (X - X^3) dt + sigma dB: wells at -1 and +1, the values of a two-phase image."""

    rate: float = 1.0
    sigma: float = 0.7

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        return self.rate * (x - x**3)

    def drift_slope(self, x: Tensor, t: Tensor) -> Tensor:
        return self.rate * (1 - 3 * x**2)

    def drift_curvature(self, x: Tensor, t: Tensor) -> Tensor:
        return -6 * self.rate * x

    def noise(self, t: Tensor) -> Tensor:
        return torch.full_like(t, self.sigma)


class LinearSDE(SeparableSDE):
    """b = -beta(t) x / 2, so that X_t = Y_t X_0 + sqrt(gamma(t)) times a standard normal."""

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

    @property
    def prior_std(self) -> float:
        """Standard deviation from which the reverse equation starts, at t = 1."""
        return float(self.std(torch.ones((), dtype=torch.float64)))

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        return -0.5 * self.beta(t) * x

    def drift_slope(self, x: Tensor, t: Tensor) -> Tensor:
        return -0.5 * self.beta(t) * torch.ones_like(x)

    def drift_curvature(self, x: Tensor, t: Tensor) -> Tensor:
        return torch.zeros_like(x)


@dataclass(frozen=True)
class VE(LinearSDE):
    """Variance exploding: sigma(t) = sigma_min (sigma_max / sigma_min)^t, no drift.

    gamma = sigma(t)^2 - sigma(0)^2.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max:
            raise ConfigError(
                f"VE: sigma_min {self.sigma_min} and sigma_max {self.sigma_max}; "
                "give 0 < sigma_min < sigma_max."
            )

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
class VP(LinearSDE):
    """Variance preserving: beta(t) grows linearly, g^2 = beta, gamma = 1 - exp(-int beta)."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.beta_min < self.beta_max:
            raise ConfigError(
                f"{type(self).__name__}: beta_min {self.beta_min} and beta_max {self.beta_max}; "
                "give 0 < beta_min < beta_max."
            )

    def beta(self, t: Tensor) -> Tensor:
        return self.beta_min + (self.beta_max - self.beta_min) * t

    def integral(self, t: Tensor) -> Tensor:
        """B(t) = int_0^t beta."""
        return self.beta_min * t + 0.5 * (self.beta_max - self.beta_min) * t**2

    def noise(self, t: Tensor) -> Tensor:
        return self.beta(t).sqrt()

    def mean_factor(self, t: Tensor) -> Tensor:
        return torch.exp(-0.5 * self.integral(t))

    def gamma(self, t: Tensor) -> Tensor:
        return -torch.expm1(-self.integral(t))

    def time_of(self, noise_level: Tensor) -> Tensor:
        return self._time_of_integral(torch.log1p(noise_level**2))

    def _time_of_integral(self, B: Tensor) -> Tensor:
        # The root of slope/2 t^2 + beta_min t = B in the form that does not cancel near t = 0.
        slope = self.beta_max - self.beta_min
        return 2 * B / (self.beta_min + (self.beta_min**2 + 2 * slope * B).sqrt())


class SubVP(VP):
    """Sub-variance preserving: g^2 = beta (1 - exp(-2 B)), gamma = (1 - exp(-B))^2."""

    def noise(self, t: Tensor) -> Tensor:
        return (-self.beta(t) * torch.expm1(-2 * self.integral(t))).sqrt()

    def gamma(self, t: Tensor) -> Tensor:
        return torch.expm1(-self.integral(t)) ** 2

    def time_of(self, noise_level: Tensor) -> Tensor:
        # sigma = exp(B/2) - exp(-B/2) = 2 sinh(B/2).
        return self._time_of_integral(2 * torch.asinh(noise_level / 2))


LINEAR_SDES: dict[str, type[LinearSDE]] = {"ve": VE, "vp": VP, "sub-vp": SubVP}


def linear_sde(name: str, parameters: Mapping[str, float] | None = None) -> LinearSDE:
    """The linear SDE called `name` (a key of LINEAR_SDES); ConfigError if unknown."""
    if name not in LINEAR_SDES:
        raise ConfigError(f"sde: {name!r} is unknown. Choose from {', '.join(LINEAR_SDES)}.")
    try:
        return LINEAR_SDES[name](**(parameters or {}))
    except TypeError as error:
        raise ConfigError(f"sde {name}: {error}. Check `sde_parameters`.") from error


def noise_levels(sde: LinearSDE, steps: int, lowest: float) -> Float[Tensor, " level"]:
    """`steps` falling noise levels, then 0 (spacing of Karras et al. 2022, eq. 5, rho = 7)."""
    rho = 7.0
    highest = float(sde.noise_level(torch.ones((), dtype=torch.float64)))
    ramp = torch.linspace(highest ** (1 / rho), lowest ** (1 / rho), steps, dtype=torch.float64)
    return torch.cat([ramp**rho, torch.zeros(1, dtype=torch.float64)])
