"""Samplers: loops that take any denoiser, or any score, with the right meaning."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.errors import ConfigError
from spinmesh.progress import progress
from spinmesh.scores.denoiser import within_range
from spinmesh.scores.equations import (
    LOWEST_NOISE,
    ChainEquation,
    Denoise,
    LinearEquation,
    Score,
    noise_levels,
    normal_like,
)
from spinmesh.scores.fractional import FractionalVP, reverse_fractional
from spinmesh.scores.model import ScoreModel
from spinmesh.settings.synthesise import Sampling

Levels = Float[Tensor, " level"]
Times = Float[Tensor, " time"]
# Images denoised at once.
BATCH = 64


def heun(
    denoise: Denoise, x: Tensor, levels: Levels, generator: torch.Generator | None = None
) -> Tensor:
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


def dpm_solver_2m(
    denoise: Denoise, x: Tensor, levels: Levels, generator: torch.Generator | None = None
) -> Tensor:
    """The same flow by DPM-Solver++(2M) (Lu et al. 2022): one denoising a step, second order.

    In lambda = -log sigma the flow is linear but for D, which is extrapolated from two steps.
    """
    before: Tensor | None = None
    last = 0.0
    for now, after in pairwise(levels):
        clean = best = denoise(x, now)
        if after > 0:
            h = float((now / after).log())
            if before is not None:
                best = clean + 0.5 * h / last * (clean - before)
            before, last = clean, h
        x = after / now * x + (1 - after / now) * best
    return x


def exponential(denoise: Denoise, x: Tensor, levels: Levels, generator: torch.Generator) -> Tensor:
    """The reverse SDE of every linear equation, exact but for D held over each step.

    Given x at level s and the data, x at level r < s is Gaussian about D + (r/s)^2 (x - D) with
    variance r^2 (1 - r^2/s^2): stable for any step. `x` and `levels` as for `heun`.
    """
    for now, after in pairwise(levels):
        clean, share = denoise(x, now), (after / now) ** 2
        noise = normal_like(x, generator)
        x = clean + share * (x - clean) + after * (1 - share).sqrt() * noise
    return x


def euler_maruyama(
    sde: ChainEquation, score: Score, x: Tensor, times: Times, generator: torch.Generator
) -> Tensor:
    """The reverse SDE (Anderson 1982) from times[0] to times[-1]; `x` has the law of the first.

    Its drift is b - g^2 s; the increment is tamed if b outgrows x: see `tamed`.
    """
    for now, after in pairwise(times):
        drift = sde.drift(x, now) - sde.noise(now) ** 2 * score(x, now)
        noise = (now - after).sqrt() * (sde.noise(now) * normal_like(x, generator))
        x = x + tamed(sde, (after - now) * drift) + noise
    return x


def splitting(
    sde: ChainEquation, score: Score, x: Tensor, times: Times, generator: torch.Generator
) -> Tensor:
    """The reverse SDE with its stiff part by the chain's own step; arguments of `euler_maruyama`.

    The reverse drift -b + g^2 s is b + g^2 (s - 2b/g^2): the forward drift, which holds x back, and
    an excess that is nothing once the limit law is reached. The chain's step takes the first;
    Euler's would throw x outward where h |b'| > 2, to where no network was trained.
    """
    for now, after in pairwise(times):
        h = float(now - after)
        x = sde.move(x, after, h)
        excess = sde.noise(now) ** 2 * score(x, now) - 2 * sde.drift(x, now)
        x = x + tamed(sde, h * excess) + sde.kick(after, h) * normal_like(x, generator)
    return x


def tamed(sde: ChainEquation, increment: Tensor) -> Tensor:
    """The increment d of a linear equation, d / sqrt(1 + d^2) of the others.

    An explicit step of a super-linear drift explodes once x is far out, whatever its length
    (Hutzenthaler et al. 2012). This one is never longer than 1, the size of the data, and for
    small d differs by d^3 / 2.
    """
    return increment if isinstance(sde, LinearEquation) else increment / (1 + increment**2).sqrt()


def guided(
    prior: Callable[..., Tensor], condition: Tensor | None, guidance: float
) -> Callable[[Tensor, Tensor], Tensor]:
    """Classifier-free guidance: prior + guidance (posterior - prior) (Ho & Salimans 2022).

    `prior(x, level)` and `prior(x, level, condition)` are a model's denoiser or its score.
    """
    if condition is None or guidance == 0:
        return prior
    if guidance == 1:
        return lambda x, level: prior(x, level, condition)

    def mixed(x: Tensor, level: Tensor) -> Tensor:
        free = prior(x, level)
        return free + guidance * (prior(x, level, condition) - free)

    return mixed


# The one place where the configuration's words become samplers. The first take a denoiser and noise
# levels, the others an equation, its score and times; all but the flows draw noise on the way.
Sampler = Callable[..., Tensor]
OF_DENOISERS: dict[str, Sampler] = {f.__name__: f for f in (heun, dpm_solver_2m, exponential)}
OF_SCORES: dict[str, Sampler] = {f.__name__: f for f in (splitting, euler_maruyama)}


def quick_sampler(sde: ChainEquation) -> Literal["dpm_solver_2m", "splitting"]:
    """The best sampler that asks the network once a step."""
    return "dpm_solver_2m" if isinstance(sde, LinearEquation) else "splitting"


def draw(
    model: ScoreModel,
    sampling: Sampling,
    seed: int,
    condition: Float[Tensor, "image feature"] | None = None,
) -> Float[Tensor, "image pixel_y pixel_x"]:
    """`sampling.count` images, one for each row of `condition` if there is one.

    Raises ConfigError for a sampler that wants a denoiser if the equation has none.
    """
    if condition is not None and len(condition) != sampling.count:
        raise ConfigError(f"sampler: {len(condition)} conditions for {sampling.count} images.")
    name = sampling.sampler
    if name == "auto":
        name = "exponential" if isinstance(model.sde, LinearEquation) else "splitting"
    generator = torch.Generator().manual_seed(seed)
    images = []
    for rows in progress(torch.arange(sampling.count).split(BATCH), "sampling images"):
        given = None if condition is None else condition[rows]
        zero = torch.zeros(len(rows), model.pixels, model.pixels, dtype=torch.float64)
        images.append(_drawn(model, name, sampling, zero, generator, given))
    return torch.cat(images).float()


def _drawn(
    model: ScoreModel,
    name: str,
    sampling: Sampling,
    zero: Tensor,
    generator: torch.Generator,
    condition: Tensor | None,
) -> Tensor:
    """Images shaped like `zero` by the sampler `name`; from a score, the last noise by Tweedie."""
    if name in OF_SCORES:
        sde, score = model.sde, guided(model.score, condition, sampling.guidance)
        times = sde.grid(sampling.steps).flip(0)[:-1]
        x = OF_SCORES[name](sde, score, sde.prior(zero, generator), times, generator)
        return within_range(tweedie(sde, score, x, times[-1]))
    levels = noise_levels(model.linear, sampling.steps, LOWEST_NOISE)
    mixed = guided(model.denoise, condition, sampling.guidance)

    def denoise(x: Tensor, level: Tensor) -> Tensor:
        # Guidance extrapolates; no mean of images lies beyond [-1, 1].
        return within_range(mixed(x, level))

    if name == "fractional":
        rough = FractionalVP(sampling.hurst)
        z = rough.prior(zero.expand(rough.terms + 1, *zero.shape), generator)
        falling = rough.times(sampling.steps, LOWEST_NOISE)
        return reverse_fractional(rough, denoise, z, falling, generator)
    x = model.pixel_mean + levels[0] * normal_like(zero, generator)
    return OF_DENOISERS[name](denoise, x, levels, generator)


def tweedie(sde: ChainEquation, score: Score, x: Tensor, t: Tensor) -> Tensor:
    """The data behind x at a small time t: x - t (b - g^2 s), to first order."""
    return x - t * (sde.drift(x, t) - sde.noise(t) ** 2 * score(x, t))
