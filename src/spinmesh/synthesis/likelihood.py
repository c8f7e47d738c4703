"""Log-likelihood of data under a denoiser, by the instantaneous change of variables."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jvp, vmap

from spinmesh.errors import ConfigError
from spinmesh.synthesis.sde import Denoise

# Up to so many numbers per datum the divergence is exact; beyond, say how many probes.
LARGEST_EXACT = 16


def log_likelihood(
    denoise: Denoise,
    x: Float[Tensor, "batch ..."],
    levels: Float[Tensor, " level"],
    moments: tuple[float, float] = (0.0, 1.0),
    probes: int = 0,
    generator: torch.Generator | None = None,
) -> Float[Tensor, " batch"]:
    """log p(x), where p is the law of the data with noise of the lowest level on it.

    Along the probability flow dx/dsigma = (x - D) / sigma, d log p / dsigma = -div of the right
    side (Chen et al. 2018), here from the lowest to the highest of the falling positive `levels`,
    by Heun's method in log sigma. There the law is taken as Gaussian, with the data's mean and
    deviation, `moments`, and the noise. The divergence is exact (`probes` 0) or
    Hutchinson's estimate from random signs, drawn once and kept, so that the flow is smooth.
    """
    if len(levels) < 2 or not bool((levels > 0).all() and (levels.diff() < 0).all()):
        raise ConfigError("likelihood: give at least two positive noise levels that fall.")
    directions = _directions(x, probes, generator)

    def slope(x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """dx / dlog sigma, and its divergence."""

        def along(v: Tensor) -> tuple[Tensor, Tensor]:
            flow, change, *_ = jvp(lambda y: y - denoise(y, sigma), (x,), (v,))
            return flow, (v * change).flatten(1).sum(1)

        flow, traces = vmap(along)(directions)
        return flow[0], traces.sum(0) / max(probes, 1)

    start, change = x, x.new_zeros(len(x))
    for now, after in pairwise(levels.flip(0)):
        h = (after / now).log()
        velocity, divergence = slope(x, now)
        there, later = slope(x + h * velocity, after)
        x = x + 0.5 * h * (velocity + there)
        change = change + 0.5 * h * (divergence + later)
    mean, std = moments
    variance = std**2 + float(levels[0]) ** 2
    size = start[0].numel()
    square = ((x - mean) ** 2).flatten(1).sum(1) / variance
    return change - 0.5 * (square + size * math.log(2 * math.pi * variance))


def _directions(
    x: Tensor, probes: int, generator: torch.Generator | None
) -> Float[Tensor, "direction batch ..."]:
    """Unit vectors, or random signs."""
    size = x[0].numel()
    if probes == 0:
        if size > LARGEST_EXACT:
            raise ConfigError(
                f"likelihood: an exact divergence of {size} numbers needs as many derivatives. "
                "Give `probes` and a generator."
            )
        unit = torch.eye(size, dtype=x.dtype, device=x.device)
        return unit.reshape(size, 1, *x.shape[1:]).expand(size, *x.shape)
    if generator is None:
        raise ConfigError("likelihood: probes are random. Give a seeded generator.")
    signs = torch.randint(2, (probes, *x.shape), generator=generator, device=x.device)
    return 2.0 * signs.to(x) - 1.0
