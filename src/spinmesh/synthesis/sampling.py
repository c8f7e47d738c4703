"""Samplers: loops that take any denoiser, or any score, with the right meaning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.errors import ConfigError
from spinmesh.progress import progress
from spinmesh.synthesis.sde import Score, SeparableSDE, noise_levels
from spinmesh.synthesis.training import ScoreModel

Denoise = Callable[[Tensor, Tensor], Tensor]
SAMPLERS = ("heun", "euler_maruyama")
# Noise left at the end, before the last denoising: invisible beside a grey step of 1/16.
LOWEST_NOISE = 0.01
# Images denoised at once.
BATCH = 64


@dataclass(frozen=True)
class SampleSpec:
    """How to sample. `guidance` 0 ignores the signal, 1 is the posterior, more exaggerates it."""

    sampler: str = "heun"
    steps: int = 24
    count: int = 256
    guidance: float = 1.0

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise ConfigError(
                f"sampler: {self.sampler!r} is unknown. Choose from {', '.join(SAMPLERS)}."
            )
        if min(self.steps, self.count) < 2 or self.guidance < 0:
            raise ConfigError(
                f"sampler: steps {self.steps}, count {self.count}, guidance {self.guidance}; give "
                "at least 2, 2 and 0."
            )


def heun(denoise: Denoise, x: Tensor, levels: Float[Tensor, " level"]) -> Tensor:
    """Probability-flow ODE dx/dsigma = (x - D(x, sigma)) / sigma by Heun's method.

    `x` carries noise levels[0]; the levels fall, and the last may be 0 (Karras et al. 2022,
    algorithm 1). Every linear SDE has this same flow once x is divided by its mean factor.
    """
    for now, after in pairwise(levels):
        slope = (x - denoise(x, now)) / now
        step = after - now
        if after > 0:
            there = x + step * slope
            slope = 0.5 * (slope + (there - denoise(there, after)) / after)
        x = x + step * slope
    return x


def euler_maruyama(
    sde: SeparableSDE,
    score: Score,
    x: Tensor,
    times: Float[Tensor, " time"],
    generator: torch.Generator,
) -> Tensor:
    """The reverse SDE from times[0] down to times[-1]; `x` has the law of the first."""
    for now, after in pairwise(times):
        step = after - now
        drift, g = sde.reverse(score, x, now)
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        x = x + step * drift + g * (-step).sqrt() * noise
    return x


def guided(model: ScoreModel, condition: Tensor | None, guidance: float) -> Denoise:
    """Classifier-free guidance: prior + guidance (posterior - prior) (Ho & Salimans 2022)."""
    if condition is None or guidance == 0:
        return lambda x, sigma: model.denoise(x, sigma)
    if guidance == 1:
        return lambda x, sigma: model.denoise(x, sigma, condition)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        prior = model.denoise(x, sigma)
        return prior + guidance * (model.denoise(x, sigma, condition) - prior)

    return denoise


def draw_images(
    model: ScoreModel,
    spec: SampleSpec,
    shape: tuple[int, int],
    seed: int,
    condition: Float[Tensor, "image feature"] | None = None,
) -> Float[Tensor, "image pixel_y pixel_x"]:
    """`spec.count` images of `shape` pixels, one for each row of `condition` if there is one."""
    if condition is not None and len(condition) != spec.count:
        raise ConfigError(f"sampler: {len(condition)} conditions for {spec.count} images.")
    generator = torch.Generator().manual_seed(seed)
    batches = torch.arange(spec.count).split(BATCH)
    images = []
    for rows in progress(batches, "sampling images"):
        given = None if condition is None else condition[rows]
        images.append(_draw_batch(model, spec, (len(rows), *shape), generator, given))
    return torch.cat(images).float()


def _draw_batch(
    model: ScoreModel,
    spec: SampleSpec,
    shape: tuple[int, ...],
    generator: torch.Generator,
    condition: Tensor | None,
) -> Tensor:
    denoise = guided(model, condition, spec.guidance)
    levels = noise_levels(model.sde, spec.steps, LOWEST_NOISE)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    if spec.sampler == "heun":
        return heun(denoise, model.pixel_mean + levels[0] * noise, levels)
    sde, times = model.sde, model.sde.time_of(levels[:-1])

    def score(x: Tensor, t: Tensor) -> Tensor:
        Y = sde.mean_factor(t)
        return (Y * denoise(x / Y, sde.noise_level(t)) - x) / sde.gamma(t)

    x = sde.mean_factor(times[0]) * model.pixel_mean + sde.std(times[0]) * noise
    x = euler_maruyama(sde, score, x, times, generator)
    return denoise(x / sde.mean_factor(times[-1]), levels[-2])
