"""Chains X' = F(X) + a xi of an equation, with their Malliavin weights carried along.

After each step the pair (X, weight) is yielded, so one pass gives a regression target at every
time. The weights are those of `malliavin.py`: (A) for separable equations, (C) for all chains.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.errors import ConfigError
from spinmesh.synthesis.malliavin import ElementwiseWeight, bismut_step, pilot_gain
from spinmesh.synthesis.sde import ChainSDE, SeparableSDE, normal_like

Times = Float[Tensor, " time"]


def forward_chain(
    sde: SeparableSDE, x0: Tensor, times: Times, generator: torch.Generator
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
    sde: SeparableSDE, x0: Tensor, steps: int, end: float, generator: torch.Generator
) -> tuple[Tensor, ElementwiseWeight]:
    """The last pair of `forward_chain` after equal steps to time `end`."""
    times = torch.linspace(0, end, steps + 1, dtype=torch.float64)
    *_, last = forward_chain(sde, x0, times, generator)
    return last


def bismut_chain(
    sde: ChainSDE, x0: Tensor, times: Times, generator: torch.Generator, gains: list[Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """The chain with weight (C), `gains[n]` after step n; `pilot_gains` or `local_gains`.

    Raises ConfigError where a step cannot be inverted.
    """
    x, delta = x0, torch.zeros_like(x0)
    for (t, h), K in zip(_steps(times), gains, strict=True):
        x, pulled, xi, a = _advance(sde, x, delta, t, h, generator)
        delta = _blend(sde, pulled, xi, a, K)
        yield x, delta


def pilot_gains(
    sde: ChainSDE, x0: Tensor, times: Times, generator: torch.Generator
) -> list[Tensor]:
    """Gains of least variance, each found on the pilot paths x0 that were given those before it.

    One number per step or, for a spectral equation, one per step and Fourier mode.
    """
    x, delta = x0, torch.zeros_like(x0)
    gains: list[Tensor] = []
    for t, h in _steps(times):
        x, pulled, xi, a = _advance(sde, x, delta, t, h, generator)
        if not gains:
            K = torch.ones((), dtype=x0.dtype)
        elif sde.spectral_gain:
            K = pilot_gain(torch.fft.rfft2(pulled), torch.fft.rfft2(xi / a)).clamp(0, 1)
        else:
            K = pilot_gain(pulled.flatten(), (xi / a).flatten()).clamp(0, 1)
        gains.append(K)
        delta = _blend(sde, pulled, xi, a, K)
    return gains


def local_gains(times: Times) -> list[Tensor]:
    """K = 1 throughout: local denoising score matching, which forgets all but the last step."""
    return [torch.ones(()) for _ in range(len(times) - 1)]


def _advance(
    sde: ChainSDE, x: Tensor, delta: Tensor, t: float, h: float, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """New state, pulled weight, increment and its size."""
    now = x.new_tensor(t)
    a = sde.kick(now, h)
    xi = normal_like(x, generator)
    pulled = sde.pull(x, delta, now, h)
    return sde.move(x, now, h) + a * xi, pulled, xi, a


def _blend(sde: ChainSDE, pulled: Tensor, xi: Tensor, a: Tensor, K: Tensor) -> Tensor:
    K = K.to(pulled)
    if not sde.spectral_gain or K.ndim == 0:
        return bismut_step(pulled, a, xi, K)
    modes = bismut_step(torch.fft.rfft2(pulled), a, torch.fft.rfft2(xi), K)
    return torch.fft.irfft2(modes, s=pulled.shape[-2:])


def _steps(times: Times) -> Iterator[tuple[float, float]]:
    """Start and length of every step."""
    if times.ndim != 1 or len(times) < 2 or not bool((times.diff() > 0).all()):
        raise ConfigError("chain: give at least two times, each later than the one before.")
    return ((now, after - now) for now, after in pairwise(times.tolist()))
