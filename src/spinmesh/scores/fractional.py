"""Fractional noise by a few Ornstein-Uhlenbeck processes, as an option of sampling.

A fractional Brownian motion of Hurst index H (Riemann-Liouville's, smoother than Brown's for
H > 1/2) is approximated by B^H = sum_k w_k Y^k, where dY^k = -g_k Y^k dt + dB share one B, so that
(X, Y) is a Markov process with linear drift. The weights w minimise the mean square error over
[0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from scipy.integrate import OdeSolution, solve_ivp
from scipy.special import gammainc
from torch import Tensor

from spinmesh.errors import ConfigError
from spinmesh.scores.equations import VP, Denoise, normal_like

Matrix = Float[np.ndarray, "state state"]
# Times among which those of given noise levels are looked for, dense near 0.
RESOLUTION = 400


@dataclass(frozen=True)
class FractionalVP:
    """dX = -beta/2 X dt + sqrt(beta) dB^H, the state being (X, Y^1 ... Y^K) along axis 0.

    R = X - eta'Y with eta = Cov(Y)^-1 Cov(Y, X) is independent of Y and normal about c X_0 with
    variance tau^2. So R / c is data plus noise of level tau / c, and a denoiser trained for any
    linear equation gives the score of this one too: no training of its own. `rates` reach from
    1 / fastest to `fastest`.
    """

    hurst: float = 0.8
    terms: int = 2
    beta_min: float = 0.1
    beta_max: float = 20.0
    fastest: float = 20.0

    def __post_init__(self) -> None:
        if not (0 < self.hurst < 1 and self.terms >= 1 and self.fastest > 1):
            raise ConfigError(
                f"fractional noise: Hurst index {self.hurst}, terms {self.terms}, fastest rate "
                f"{self.fastest}; give a number between 0 and 1, at least 1, and above 1."
            )

    @cached_property
    def rates(self) -> Float[np.ndarray, " term"]:
        """g_k, geometric about 1."""
        k = np.arange(self.terms) - (self.terms - 1) / 2
        return np.asarray((self.fastest ** (2 / max(self.terms - 1, 1))) ** k)

    @cached_property
    def weights(self) -> Float[np.ndarray, " term"]:
        """w_k: the projection of the kernel s^(H - 1/2) / Gamma(H + 1/2) on exp(-g_k s)."""
        g, p = self.rates, self.hurst + 0.5
        s = g[:, None] + g
        gram = (1 + np.expm1(-s) / s) / s
        right = gammainc(p, g) / g**p - p * gammainc(p + 1, g) / g ** (p + 1)
        return np.linalg.solve(gram, right)

    @cached_property
    def brownian(self) -> VP:
        """The same equation with Brownian noise; its mean factor is this one's as well."""
        return VP(self.beta_min, self.beta_max)

    def drift_and_gain(self, t: float) -> tuple[Matrix, Float[np.ndarray, " state"]]:
        """A(t) and G(t) of dZ = A Z dt + G dB: one Brownian motion drives all rows of the state."""
        beta = float(self.brownian.beta(torch.tensor(t, dtype=torch.float64)))
        A = np.diag([-0.5 * beta, *-self.rates])
        A[0, 1:] = -(beta**0.5) * self.weights * self.rates
        return A, np.array([beta**0.5 * self.weights.sum(), *np.ones(self.terms)])

    def prior(self, like: Tensor, generator: torch.Generator) -> Tensor:
        return torch.tensordot(_root(self.covariance(1.0), like), normal_like(like, generator), 1)

    @cached_property
    def _solution(self) -> OdeSolution:
        """Phi' = A Phi and Sigma' = A Sigma + Sigma A' + G G', from a certain start."""
        d = self.terms + 1

        def slope(t: float, state: np.ndarray) -> np.ndarray:
            (A, G), (phi, sigma) = self.drift_and_gain(t), state.reshape(2, d, d)
            return np.ravel([A @ phi, A @ sigma + sigma @ A.T + np.outer(G, G)])

        start = np.ravel([np.eye(d), np.zeros((d, d))])
        options = {"method": "DOP853", "rtol": 1e-10, "atol": 1e-14, "dense_output": True}
        return solve_ivp(slope, (0.0, 1.0), start, **options).sol

    def transition(self, t: float) -> tuple[Matrix, Matrix]:
        """Phi(t, 0), and the covariance of (X_t, Y_t) given X_0."""
        phi, sigma = self._solution(float(t)).reshape(2, self.terms + 1, self.terms + 1)
        return phi, sigma

    def covariance(self, t: float) -> Matrix:
        """Covariance of (X_t, Y_t) given X_0."""
        return self.transition(t)[1]

    def residual(self, t: float) -> tuple[Float[np.ndarray, " term"], float]:
        """eta, and the noise level tau / c of R / c."""
        sigma = self.covariance(t)
        eta = np.linalg.solve(sigma[1:, 1:], sigma[1:, 0])
        tau2 = float(sigma[0, 0] - sigma[0, 1:] @ eta)
        return eta, max(tau2, 0.0) ** 0.5 / self.mean_factor(t)

    def mean_factor(self, t: float) -> float:
        """c(t)."""
        return float(self.brownian.mean_factor(torch.tensor(float(t), dtype=torch.float64)))

    def times(self, steps: int, lowest: float) -> Float[np.ndarray, " time"]:
        """Falling times from 1 to noise level `lowest`, spaced like `sde.noise_levels`."""
        t = (np.arange(1, RESOLUTION + 1) / RESOLUTION) ** 2
        # Near 0 the level is below what rounding leaves of the covariance; it has to grow.
        level = np.maximum.accumulate([self.residual(now)[1] for now in t])
        ramp = np.linspace(level[-1] ** (1 / 7), lowest ** (1 / 7), steps) ** 7
        return np.interp(ramp, level, t)


def reverse_fractional(
    sde: FractionalVP,
    denoise: Denoise,
    z: Tensor,
    times: Float[np.ndarray, " time"],
    generator: torch.Generator,
) -> Tensor:
    """The reverse of a fractional equation, exact but for the denoised data held over each step.

    `z` is (X, Y) at times[0]; the times fall. Given X_0 the state is Gaussian with known
    covariances, so each step draws from the exact bridge between X_0 := D and the present; nothing
    is stiff and nothing explodes. Returns the denoised data at the last time.
    """
    for now, after in pairwise(times):
        clean = _denoised(sde, denoise, z, now)
        (phi_t, sigma_t), (phi_s, sigma_s) = sde.transition(now), sde.transition(after)
        step = phi_t @ np.linalg.inv(phi_s)
        back = sigma_s @ step.T @ np.linalg.inv(sigma_t)
        spread = _root(sigma_s - back @ step @ sigma_s, z)
        apart = z.clone()
        apart[0] -= sde.mean_factor(now) * clean
        bridge = torch.tensordot(torch.from_numpy(back).to(z), apart, 1)
        bridge[0] += sde.mean_factor(after) * clean
        z = bridge + torch.tensordot(spread, normal_like(z, generator), 1)
    return _denoised(sde, denoise, z, times[-1])


def _denoised(sde: FractionalVP, denoise: Denoise, z: Tensor, t: float) -> Tensor:
    """E[X_0 | X_t, Y_t]."""
    eta, level = sde.residual(t)
    r = z[0] - torch.tensordot(torch.from_numpy(eta).to(z), z[1:], 1)
    return denoise(r / sde.mean_factor(t), torch.tensor(level, dtype=torch.float64))


def _root(covariance: Matrix, like: Tensor) -> Tensor:
    """A square root of a covariance that may be singular; rounding below zero counts as zero."""
    values, vectors = np.linalg.eigh(0.5 * (covariance + covariance.T))
    return torch.from_numpy(vectors * np.sqrt(values.clip(0))).to(like)
