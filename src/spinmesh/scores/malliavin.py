"""Weights whose conditional mean is minus the score: score(x) = -E[delta | X_t = x].

`delta` is the Skorokhod integral of the covering field (arXiv 2503.16917; without Malliavin
derivatives, arXiv 2507.05550). Below it is exact for the discretised chain X' = F(X) + a xi, by
Gaussian integration by parts on the increments: one forward pass, no stored path, no time step
error in the identity. J = F', H = F''. `forward_chain` and `bismut_chain` carry them along an
equation and yield (X, weight) after each step, so that one pass gives a regression target at every
time; `ElementwiseWeight` and `bismut_step` serve any chain of your own, one step at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Inexact
from torch import Tensor

from spinmesh.errors import ConfigError
from spinmesh.scores.equations import ChainEquation, SeparableEquation, normal_like
from spinmesh.scores.nonlinear import AllenCahn

Times = Float[Tensor, " time"]


@dataclass(frozen=True, eq=False)
class ElementwiseWeight:
    """Weight (A) for a drift acting on each coordinate: four numbers per coordinate.

    Z <- J Z + a xi;  g <- J^2 g + a^2;  c <- H g + J c;  e <- J^3 e + 2 J^2 H g^2;
    delta = Z/g - c/g + e/g^2. Limit: dZ = b'Z dt + sigma dB, dg = (2 b'g + sigma^2) dt,
    dc = (b'c + b''g) dt, de = (3 b'e + 2 b''g^2) dt.
    """

    Z: Tensor
    g: Tensor
    c: Tensor
    e: Tensor

    @classmethod
    def start(cls, x: Tensor) -> ElementwiseWeight:
        """All zero, shaped like the state."""
        zero = torch.zeros_like(x)
        return cls(zero, zero, zero, zero)

    def step(self, J: Tensor, H: Tensor, a: Tensor, xi: Tensor) -> ElementwiseWeight:
        """After one step of the chain; every right-hand side holds the old values."""
        return ElementwiseWeight(
            Z=J * self.Z + a * xi,
            g=J**2 * self.g + a**2,
            c=H * self.g + J * self.c,
            e=J**3 * self.e + 2 * J**2 * H * self.g**2,
        )

    @property
    def ito(self) -> Tensor:
        """Z/g, the Ito part: the whole weight if the drift is linear, biased otherwise."""
        return self.Z / self.g

    @property
    def delta(self) -> Tensor:
        """The weight; defined after the first step."""
        return self.ito - self.c / self.g + self.e / self.g**2


def bismut_step(
    pulled: Tensor, a: float | Tensor, xi: Tensor, K: float | Tensor
) -> Inexact[Tensor, " ..."]:
    """Weight (C), for any coupled step F that is a diffeomorphism.

    delta <- (1 - K) P + K xi / a with P = J^-T (delta + grad log|det J|) = `pulled`. Any gain K
    that does not see xi keeps the mean exact, since P and xi / a both have the mean -score
    (K = 1 at the first step); K = 1 always is local denoising score matching, and
    K = a^2 / gamma is the closed form if F is linear.
    """
    return (1 - K) * pulled + K * xi / a


def pilot_gain(pulled: Tensor, local: Tensor) -> Float[Tensor, " ..."]:
    """The constant K of least variance of (1 - K) P + K L, from pilot paths (axis 0).

    K = (Var P - Cov(P, L)) / Var(P - L), held to [0, 1]. Complex numbers are Fourier modes.
    """
    P, L = pulled - pulled.mean(0), local - local.mean(0)
    shared = (P.abs() ** 2).mean(0) - (P * L.conj()).real.mean(0)
    return (shared / ((P - L).abs() ** 2).mean(0)).clamp(0, 1)


def forward_chain(
    sde: SeparableEquation, x0: Tensor, times: Times, generator: torch.Generator
) -> Iterator[tuple[Tensor, ElementwiseWeight]]:
    """The chain from x0 at times[0], with weight (A) after each step.

    `.delta` of a yielded weight regressed on (x, t) gives minus the score of the chain's law, with
    no time-step error in that identity.
    """
    x, weight = x0, ElementwiseWeight.start(x0)
    for t, h in _steps(times):
        now = x0.new_tensor(t)
        a, (F, J, H) = sde.kick(now, h), sde.flow(x, now, h)
        xi = normal_like(x, generator)
        x, weight = F + a * xi, weight.step(J, H, a, xi)
        yield x, weight


def simulate_weight(
    sde: SeparableEquation, x0: Tensor, steps: int, end: float, generator: torch.Generator
) -> tuple[Tensor, ElementwiseWeight]:
    """The last pair of `forward_chain` after equal steps to time `end`."""
    times = torch.linspace(0, end, steps + 1, dtype=torch.float64)
    *_, last = forward_chain(sde, x0, times, generator)
    return last


def bismut_chain(
    sde: ChainEquation,
    x0: Tensor,
    times: Times,
    generator: torch.Generator,
    gains: list[Tensor] | None = None,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The chain with weight (C) and its gain after each step, `gains[n]` after step n.

    Without `gains`, those of least variance for these paths, given the gains before: pilot paths,
    from which the gains of others are taken. One number or, for AllenCahn, one per Fourier mode.
    Raises ConfigError where a step cannot be inverted.
    """
    x, delta = x0, torch.zeros_like(x0)
    in_modes = isinstance(sde, AllenCahn)
    for n, (t, h) in enumerate(_steps(times)):
        now = x.new_tensor(t)
        a, xi = sde.kick(now, h), normal_like(x, generator)
        pulled, kicks = sde.pull(x, delta, now, h), xi
        if in_modes:
            pulled, kicks = torch.fft.rfft2(pulled), torch.fft.rfft2(xi)
        if gains is not None:
            K = gains[n].to(a)
        elif n == 0:
            K = torch.ones_like(a)
        elif in_modes:
            K = pilot_gain(pulled, kicks / a)
        else:
            K = pilot_gain(pulled.flatten(), (xi / a).flatten())
        delta = bismut_step(pulled, a, kicks, K)
        if in_modes:
            delta = torch.fft.irfft2(delta, s=x.shape[-2:])
        x = sde.move(x, now, h) + a * xi
        yield x, delta, K


def _steps(times: Times) -> Iterator[tuple[float, float]]:
    """Start and length of every step."""
    if times.ndim != 1 or len(times) < 2 or not bool((times.diff() > 0).all()):
        raise ConfigError("chain: give at least two times, each later than the one before.")
    return ((now, after - now) for now, after in pairwise(times.tolist()))
