"""What a score network regresses: a problem draws batches and knows its loss."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from spinmesh.errors import ConfigError
from spinmesh.learning import Batch, Problem, Recipe
from spinmesh.scores.denoiser import (
    Denoiser,
    MeanWeight,
    Network,
    Scalings,
    per_row,
    pilot_scalings,
)
from spinmesh.scores.equations import (
    CHAIN_STEPS,
    LOWEST_NOISE,
    ChainEquation,
    LinearEquation,
    SeparableEquation,
    normal_like,
)
from spinmesh.scores.features import ImageMean, Supply
from spinmesh.scores.malliavin import bismut_chain, forward_chain

# Targets: the closed weight of a linear equation, and Malliavin weights of a simulated chain.
DENOISER, DSM = CLOSED = ("denoiser", "dsm")
FORWARD, BISMUT, LOCAL, ITO = "malliavin-a", "malliavin-c", "local-dsm", "ito"
# One path gives PICKS training pairs, at random times, to as many batches.
PICKS = 4
# Numbers stepped at once, at least: below that, overhead is all the cost.
BLOCK = 32_768
# Paths from which gains and scalings are found.
PILOTS = 256
# Half-life of the weight average, and the warm-up, as fractions of the run.
EMA_HALF_LIFE = 0.02
WARM_UP = 0.03


def recipe(iterations: int, learning_rate: float) -> Recipe:
    """Adam, up during WARM_UP of the iterations and then half a cosine down; averaged weights."""

    def factor(iteration: int) -> float:
        done = (iteration + 1) / iterations
        return min(1.0, done / WARM_UP) * 0.5 * (1 + math.cos(math.pi * done))

    return Recipe(
        iterations,
        lambda network: [torch.optim.Adam(network.parameters(), learning_rate, (0.9, 0.99))],
        lambda optimiser, _: LambdaLR(optimiser, factor),
        clip=1.0,
        half_life=EMA_HALF_LIFE,
    )


@dataclass(frozen=True, eq=False)
class Denoising(Problem):
    """The closed weight of a linear equation, gamma^-1 (X_t - Y X_0): the noise over its deviation.

    `denoiser`: log sigma is normal with mean and deviation `noise`, and the loss is the same at
    every noise level before training (Karras et al. 2022). `dsm`: t is uniform and the loss is
    that of the noise itself, E |sqrt(gamma) (s + delta)|^2 (Song et al. 2021). `moments` are mean
    and deviation of the data.
    """

    sde: LinearEquation
    target: str
    supply: Supply
    batch: int
    moments: tuple[float, float]
    noise: tuple[float, float]
    image_mean: ImageMean | None = None

    def draw(self, generator: torch.Generator, done: int) -> list[Batch]:
        """Clean data, noise, its level (as even within the batch as chance allows), context."""
        x0, context = self.supply(self.batch, generator)
        u = evenly(self.batch, generator)
        if self.target == DENOISER:
            mean, std = self.noise
            sigma = torch.exp(mean + std * torch.special.ndtri(u))
        else:
            sigma = self.sde.noise_level(u)
        highest = self.sde.noise_level(torch.ones_like(u))
        sigma = sigma.clamp_min(0.1 * LOWEST_NOISE).minimum(highest)
        return [(x0, normal_like(x0, generator), sigma, *context)]

    def loss(self, network: Network, batch: Batch) -> Tensor:
        """Mean square error of sqrt(gamma) delta, the analogue of noise prediction.

        The factor 1 + (sigma / std)^2 of `denoiser` gives every level the same initial loss.
        """
        x0, noise, sigma, *context = batch
        t = per_row(self.sde.time_of(sigma), x0)
        Y, root = (v.to(x0.dtype) for v in (self.sde.mean_factor(t), self.sde.std(t)))
        x, level = Y * x0 + root * noise, sigma.to(x0.dtype)
        denoiser = Denoiser(network, *self.moments, self.image_mean)
        error = (x - Y * denoiser(x / Y, level, *context)) / root - noise
        if self.target == DENOISER:
            error = per_row((1 + (level / self.moments[1]) ** 2).sqrt(), x0) * error
        return (error**2).mean()


class WeightRegression(Problem):
    """A Malliavin weight of the simulated chain of any equation with one.

    Gains of (C) and scalings come from a pilot run. Each simulated path serves PICKS batches.
    """

    def __init__(
        self,
        sde: ChainEquation,
        target: str,
        supply: Supply,
        batch: int,
        generator: torch.Generator,
    ) -> None:
        needed = SeparableEquation if target in (FORWARD, ITO) else ChainEquation
        if target in CLOSED or not isinstance(sde, needed):
            raise ConfigError(f"target: {target!r} is not for {type(sde).__name__}.")
        self.sde, self.target, self.supply, self.batch = sde, target, supply, batch
        self.times = sde.grid(CHAIN_STEPS)
        self.gains = [torch.ones(())] * CHAIN_STEPS  # of local-dsm
        pilots = supply(PILOTS, generator)[0]
        self.batches = max(1, BLOCK // (batch * pilots[0].numel()))
        if target == BISMUT:
            self.gains = [K for *_, K in bismut_chain(sde, pilots, self.times, generator)]
        fresh = supply(PILOTS, generator)[0]
        self.scalings: Scalings = pilot_scalings(sde, self.chain(fresh, generator), self.times[1:])

    def chain(self, x0: Tensor, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """X and delta after every step."""
        if self.target in (BISMUT, LOCAL):
            for x, delta, _ in bismut_chain(self.sde, x0, self.times, generator, self.gains):
                yield x, delta
            return
        assert isinstance(self.sde, SeparableEquation)
        for x, weight in forward_chain(self.sde, x0, self.times, generator):
            yield x, weight.ito if self.target == ITO else weight.delta

    def draw(self, generator: torch.Generator, done: int) -> list[Batch]:
        """X, delta, t, context; PICKS batches of every path."""
        x0, context = self.supply(self.batches * self.batch, generator)
        even = [evenly(self.batch, generator) for _ in range(PICKS * self.batches)]
        step = (CHAIN_STEPS * torch.cat(even)).long().reshape(PICKS, len(x0))
        x, delta = (torch.stack(values) for values in zip(*self.chain(x0, generator), strict=True))
        t = self.times[1:].to(x0)
        rows = torch.arange(len(x0), device=x0.device).split(self.batch)
        return [
            (x[step[k, r], r], delta[step[k, r], r], t[step[k, r]], *(c[r] for c in context))
            for k in range(PICKS)
            for r in rows
        ]

    def loss(self, network: Network, batch: Batch) -> Tensor:
        return MeanWeight(network, self.sde, self.scalings).loss(*batch)


def evenly(n: int, generator: torch.Generator) -> Float[Tensor, " batch"]:
    """n numbers of [0, 1) in random order, one in each n-th of it: each is uniform by itself.

    A batch that has all noise levels in their shares gives a gradient of less variance.
    """
    where: dict[str, Any] = {"generator": generator, "device": generator.device}
    order = torch.randperm(n, **where)
    return (order + torch.rand(n, dtype=torch.float64, **where)) / n
