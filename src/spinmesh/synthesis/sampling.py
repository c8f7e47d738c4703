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
from spinmesh.synthesis.fractional import FractionalVP, reverse_fractional
from spinmesh.synthesis.model import ScoreModel
from spinmesh.synthesis.scalings import within_range
from spinmesh.synthesis.sde import (
    LOWEST_NOISE,
    SDE,
    ChainSDE,
    Denoise,
    LinearSDE,
    Score,
    noise_levels,
    normal_like,
)
from spinmesh.synthesis.targets import CHAIN_STEPS

Levels = Float[Tensor, " level"]
Times = Float[Tensor, " time"]
DENOISER_SAMPLERS = ("heun", "dpm_solver_2m", "exponential", "fractional")
SCORE_SAMPLERS = ("splitting", "euler_maruyama")
SAMPLERS = ("auto", *DENOISER_SAMPLERS, *SCORE_SAMPLERS)
# Images denoised at once.
BATCH = 64


@dataclass(frozen=True)
class SampleSpec:
    """How to sample. `guidance` 0 ignores the signal, 1 is the posterior, more exaggerates it.

    `sampler` auto is exponential for linear equations and splitting for the others: both reverse
    SDEs, whose fresh noise lets the network mend what it did at higher levels. `hurst` is that of
    the fractional noise, for the sampler `fractional`.
    """

    sampler: str = "auto"
    steps: int = 96
    count: int = 256
    guidance: float = 1.0
    hurst: float = 0.8

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
        FractionalVP(self.hurst)


def heun(denoise: Denoise, x: Tensor, levels: Levels) -> Tensor:
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


def dpm_solver_2m(denoise: Denoise, x: Tensor, levels: Levels) -> Tensor:
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
    sde: SDE, score: Score, x: Tensor, times: Times, generator: torch.Generator
) -> Tensor:
    """The reverse SDE from times[0] down to times[-1]; `x` has the law of the first.

    The drift's increment is tamed if the drift outgrows x: see `tamed`.
    """
    for now, after in pairwise(times):
        drift, g = sde.reverse(score, x, now)
        noise = normal_like(x[:1] if sde.shared_noise else x, generator)
        x = x + tamed(sde, (after - now) * drift) + g * (now - after).sqrt() * noise
    return x


def splitting(
    sde: ChainSDE, score: Score, x: Tensor, times: Times, generator: torch.Generator
) -> Tensor:
    """The reverse SDE with its stiff part by the chain's own step; arguments of `euler_maruyama`.

    The reverse drift -b + g^2 s is b + g^2 (s - 2b/g^2): the forward drift, which holds x back, and
    an excess that is nothing once the limit law is reached. Each step takes x through the chain's
    step F, then adds the excess there. Euler's explicit step of the same drift throws x outward
    where h |b'| > 2, to where no network was trained.
    """
    for now, after in pairwise(times):
        h = float(now - after)
        x = sde.move(x, after, h)
        excess = sde.noise(now) ** 2 * score(x, now) - 2 * sde.drift(x, now)
        x = x + tamed(sde, h * excess) + sde.kick(after, h) * normal_like(x, generator)
    return x


def probability_flow(sde: SDE, score: Score, x: Tensor, times: Times) -> Tensor:
    """The probability-flow ODE of any equation by Heun's method, tamed like the reverse SDE."""
    for now, after in pairwise(times):
        slope, _ = sde.reverse(score, x, now, churn=0.0)
        there = x + tamed(sde, (after - now) * slope)
        second, _ = sde.reverse(score, there, after, churn=0.0)
        x = x + tamed(sde, 0.5 * (after - now) * (slope + second))
    return x


def tamed(sde: SDE, increment: Tensor) -> Tensor:
    """The increment d, or d / sqrt(1 + d^2) if the drift is super-linear.

    An explicit step of a super-linear drift explodes once x is far out, whatever its length
    (Hutzenthaler et al. 2012). This one is never longer than 1, the size of the data, and for
    small d differs by d^3 / 2.
    """
    return increment / (1 + increment**2).sqrt() if sde.superlinear else increment


def guided(
    prior: Callable[..., Tensor], condition: Tensor | None, guidance: float
) -> Callable[[Tensor, Tensor], Tensor]:
    """Classifier-free guidance: prior + guidance (posterior - prior) (Ho & Salimans 2022).

    `prior(x, level)` and `prior(x, level, condition)` are a model's denoiser or its score.
    """
    if condition is None or guidance == 0:
        return lambda x, level: prior(x, level)
    if guidance == 1:
        return lambda x, level: prior(x, level, condition)

    def mixed(x: Tensor, level: Tensor) -> Tensor:
        free = prior(x, level)
        return free + guidance * (prior(x, level, condition) - free)

    return mixed


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
    check_sampler(model.sde, spec.sampler)
    generator = torch.Generator().manual_seed(seed)
    batches = torch.arange(spec.count).split(BATCH)
    images = []
    for rows in progress(batches, "sampling images"):
        given = None if condition is None else condition[rows]
        size = (len(rows), *shape)
        if isinstance(model.sde, LinearSDE):
            images.append(_draw_linear(model, model.sde, spec, size, generator, given))
        else:
            images.append(_draw_nonlinear(model, spec, size, generator, given))
    return torch.cat(images).float()


def _draw_linear(
    model: ScoreModel,
    sde: LinearSDE,
    spec: SampleSpec,
    shape: tuple[int, ...],
    generator: torch.Generator,
    condition: Tensor | None,
) -> Tensor:
    mixed = guided(model.denoise, condition, spec.guidance)

    def denoise(x: Tensor, level: Tensor) -> Tensor:
        # Guidance extrapolates; no mean of images lies beyond [-1, 1].
        return within_range(mixed(x, level))

    levels = noise_levels(sde, spec.steps, LOWEST_NOISE)
    sampler = "exponential" if spec.sampler == "auto" else spec.sampler
    if sampler == "fractional":
        return _draw_fractional(denoise, spec, shape, generator)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    if sampler in DENOISER_SAMPLERS:
        x = model.pixel_mean + levels[0] * noise
        if sampler == "exponential":
            return exponential(denoise, x, levels, generator)
        return {"heun": heun, "dpm_solver_2m": dpm_solver_2m}[sampler](denoise, x, levels)
    times = sde.time_of(levels[:-1])

    def score(x: Tensor, t: Tensor) -> Tensor:
        Y = sde.mean_factor(t)
        return (Y * denoise(x / Y, sde.noise_level(t)) - x) / sde.gamma(t)

    x = sde.mean_factor(times[0]) * model.pixel_mean + sde.std(times[0]) * noise
    x = _reverse(sampler)(sde, score, x, times, generator)
    return denoise(x / sde.mean_factor(times[-1]), levels[-2])


def _draw_fractional(
    denoise: Denoise, spec: SampleSpec, shape: tuple[int, ...], generator: torch.Generator
) -> Tensor:
    sde = FractionalVP(spec.hurst)
    z = sde.prior(torch.zeros(sde.terms + 1, *shape, dtype=torch.float64), generator)
    return reverse_fractional(sde, denoise, z, sde.times(spec.steps, LOWEST_NOISE), generator)


def _draw_nonlinear(
    model: ScoreModel,
    spec: SampleSpec,
    shape: tuple[int, ...],
    generator: torch.Generator,
    condition: Tensor | None,
) -> Tensor:
    """From the chain's limit back to the first step, and its noise removed by Tweedie's formula."""
    sde, score = model.sde, guided(model.score, condition, spec.guidance)
    times = sde.grid(spec.steps).flip(0)[:-1]
    x = settled(sde, sde.prior(torch.zeros(shape, dtype=torch.float64), generator), generator)
    x = _reverse(spec.sampler)(sde, score, x, times, generator)
    last = times[-1]
    clean = x - last * (sde.drift(x, last) - sde.noise(last) ** 2 * score(x, last))
    return within_range(clean)


def quick_sampler(sde: ChainSDE) -> str:
    """The best sampler that asks the network once a step."""
    return "dpm_solver_2m" if isinstance(sde, LinearSDE) else "splitting"


def check_sampler(sde: ChainSDE, sampler: str) -> None:
    """ConfigError if `sampler` wants a denoiser and the score of this equation is none."""
    if sampler in DENOISER_SAMPLERS and not isinstance(sde, LinearSDE):
        raise ConfigError(
            f"sampler: {sampler} wants a denoiser, and the score of {type(sde).__name__} is none. "
            f"Use {' or '.join(SCORE_SAMPLERS)}."
        )


def _reverse(sampler: str) -> Callable[..., Tensor]:
    return euler_maruyama if sampler == "euler_maruyama" else splitting


def settled(sde: ChainSDE, x: Tensor, generator: torch.Generator) -> Tensor:
    """Draws of the limit law after another run of the chain that a score is trained on.

    Its steps are long at the horizon, where its own limit law differs from the equation's by as
    much as some ten per cent of the variance.
    """
    for now, after in pairwise(sde.grid(CHAIN_STEPS).tolist()):
        t = x.new_tensor(now)
        x = sde.move(x, t, after - now) + sde.kick(t, after - now) * normal_like(x, generator)
    return x
