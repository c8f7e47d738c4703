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
from scipy.special import gammainc
from torch import Tensor

from spinmesh.errors import ConfigError
from spinmesh.scores.equations import VP, Denoise, normal_like

Matrix = Float[Tensor, "state state"]
# Runge-Kutta steps along [0, 1], short near 0: the covariance is then right to some 1e-8.
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
        if not 0 < self.hurst < 1:
            raise ConfigError(
                f"fractional noise: Hurst index {self.hurst}; give a number between 0 and 1."
            )
        if self.terms < 1 or not (0 < self.beta_min < self.beta_max and self.fastest > 1):
            raise ConfigError(
                f"fractional noise: terms {self.terms}, beta {self.beta_min} to {self.beta_max}, "
                f"fastest {self.fastest}; give at least 1, 0 < beta_min < beta_max, and above 1."
            )

    @cached_property
    def rates(self) -> Float[Tensor, " term"]:
        """g_k, geometric about 1."""
        k = torch.arange(self.terms, dtype=torch.float64) - (self.terms - 1) / 2
        return (self.fastest ** (2 / max(self.terms - 1, 1))) ** k

    @cached_property
    def weights(self) -> Float[Tensor, " term"]:
        """w_k: the projection of the kernel s^(H - 1/2) / Gamma(H + 1/2) on exp(-g_k s)."""
        g, p = self.rates.numpy(), self.hurst + 0.5
        s = g[:, None] + g
        gram = (1 + np.expm1(-s) / s) / s
        right = gammainc(p, g) / g**p - p * gammainc(p + 1, g) / g ** (p + 1)
        return torch.from_numpy(np.linalg.solve(gram, right))

    @cached_property
    def brownian(self) -> VP:
        """The same equation with Brownian noise; its mean factor is this one's as well."""
        return VP(self.beta_min, self.beta_max)

    def matrix(self, t: Tensor) -> Matrix:
        """A(t) of the linear drift dZ = A Z dt + G dB."""
        A = torch.diag(torch.cat([-0.5 * self.brownian.beta(t).reshape(1), -self.rates]))
        A[0, 1:] = -self.brownian.beta(t).sqrt() * self.weights * self.rates
        return A

    def gain(self, t: Tensor) -> Float[Tensor, " state"]:
        """G(t): one Brownian motion drives all rows of the state."""
        ones = torch.ones(self.terms, dtype=torch.float64)
        return torch.cat([(self.brownian.beta(t).sqrt() * self.weights.sum()).reshape(1), ones])

    def prior(self, like: Tensor, generator: torch.Generator) -> Tensor:
        covariance = self.covariance(torch.ones((), dtype=torch.float64))
        return torch.tensordot(_root(covariance).to(like), normal_like(like, generator), 1)

    @cached_property
    def _table(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Phi(t, 0) and the covariance from a certain start, at t = (n / RESOLUTION)^2."""
        d = self.terms + 1
        table = [(np.eye(d), np.zeros((d, d)))]
        for n in range(RESOLUTION):
            t, after = ((k / RESOLUTION) ** 2 for k in (n, n + 1))
            table.append(self._advance(*table[-1], t, after - t))
        return table

    def _advance(
        self, phi: np.ndarray, sigma: np.ndarray, t: float, h: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """One Runge-Kutta step of Phi' = A Phi and Sigma' = A Sigma + Sigma A' + G G'."""

        def slope(p: np.ndarray, s: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
            now = torch.tensor(t, dtype=torch.float64)
            A, G = self.matrix(now).numpy(), self.gain(now).numpy()
            return A @ p, A @ s + s @ A.T + np.outer(G, G)

        slopes = [slope(phi, sigma, t)]
        for share in (0.5, 0.5, 1.0):
            p, s = slopes[-1]
            slopes.append(slope(phi + share * h * p, sigma + share * h * s, t + share * h))
        for weight, (p, s) in zip((1, 2, 2, 1), slopes, strict=True):
            phi, sigma = phi + h / 6 * weight * p, sigma + h / 6 * weight * s
        return phi, sigma

    def transition(self, t: Tensor) -> tuple[Matrix, Matrix]:
        """Phi(t, 0), and the covariance of (X_t, Y_t) given X_0."""
        n = min(int(float(t) ** 0.5 * RESOLUTION + 1e-9), RESOLUTION)
        rest = float(t) - (n / RESOLUTION) ** 2
        phi, sigma = self._table[n]
        if rest > 1e-12:
            phi, sigma = self._advance(phi, sigma, (n / RESOLUTION) ** 2, rest)
        return torch.from_numpy(phi), torch.from_numpy(sigma)

    def covariance(self, t: Tensor) -> Matrix:
        """Covariance of (X_t, Y_t) given X_0."""
        return self.transition(t)[1]

    def residual(self, t: Tensor) -> tuple[Float[Tensor, " term"], float]:
        """eta, and the noise level tau / c of R / c."""
        sigma = self.covariance(t)
        eta = torch.linalg.solve(sigma[1:, 1:], sigma[1:, 0])
        tau2 = float(sigma[0, 0] - sigma[0, 1:] @ eta)
        return eta, max(tau2, 0.0) ** 0.5 / float(self.brownian.mean_factor(t))

    def times(self, steps: int, lowest: float) -> Float[Tensor, " time"]:
        """Falling times from 1 to noise level `lowest`, spaced like `sde.noise_levels`."""
        t = (torch.arange(1, RESOLUTION + 1, dtype=torch.float64) / RESOLUTION) ** 2
        # Near 0 the level is below what rounding leaves of the covariance; it has to grow.
        level = np.maximum.accumulate([self.residual(now)[1] for now in t])
        ramp = np.linspace(level[-1] ** (1 / 7), lowest ** (1 / 7), steps) ** 7
        return torch.from_numpy(np.interp(ramp, level, t.numpy()))


def reverse_fractional(
    sde: FractionalVP,
    denoise: Denoise,
    z: Tensor,
    times: Float[Tensor, " time"],
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
        step = phi_t @ torch.linalg.inv(phi_s)
        back = sigma_s @ step.T @ torch.linalg.inv(sigma_t)
        spread = _root(sigma_s - back @ step @ sigma_s)
        apart = z.clone()
        apart[0] -= sde.brownian.mean_factor(now) * clean
        bridge = torch.tensordot(back.to(z), apart, 1)
        bridge[0] += sde.brownian.mean_factor(after) * clean
        z = bridge + torch.tensordot(spread.to(z), normal_like(z, generator), 1)
    return _denoised(sde, denoise, z, times[-1])


def _denoised(sde: FractionalVP, denoise: Denoise, z: Tensor, t: Tensor) -> Tensor:
    """E[X_0 | X_t, Y_t]."""
    eta, level = sde.residual(t)
    r = z[0] - torch.tensordot(eta.to(z), z[1:], 1)
    return denoise(r / sde.brownian.mean_factor(t), torch.tensor(level, dtype=torch.float64))


def _root(covariance: Matrix) -> Matrix:
    """A square root of a covariance that may be singular; rounding below zero counts as zero."""
    values, vectors = torch.linalg.eigh(0.5 * (covariance + covariance.T))
    return vectors * values.clamp_min(0).sqrt()
