"""What a score network regresses: a problem draws batches and knows its loss."""

from __future__ import annotations

from collections.abc import Iterator
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
    LOWEST_NOISE,
    ChainEquation,
    LinearEquation,
    SeparableEquation,
    normal_like,
)
from spinmesh.scores.features import ImageMean, Supply
from spinmesh.scores.malliavin import (
    bismut_chain,
    forward_chain,
    linear_weight,
    local_gains,
    pilot_gains,
)

# Targets: the closed weight of a linear equation, and Malliavin weights of a simulated chain.
DENOISER, DSM = CLOSED = ("denoiser", "dsm")
FORWARD, BISMUT, LOCAL, ITO = "malliavin-a", "malliavin-c", "local-dsm", "ito"
# Steps of a chain; one path gives PICKS training pairs, at random times, to as many batches.
CHAIN_STEPS = 64
PICKS = 4
# Numbers stepped at once, at least: below that, overhead is all the cost.
BLOCK = 32_768
# Paths from which gains and scalings are found.
PILOTS = 256
# Half-life of the weight average, and the warm-up, as fractions of the run.
EMA_HALF_LIFE = 0.02
WARM_UP = 0.03


def targets_of(sde: ChainEquation) -> tuple[str, ...]:
    """What can be regressed for an equation: weights of its chain, and closed ones if linear."""
    of_chain = (
        (FORWARD, BISMUT, LOCAL, ITO) if isinstance(sde, SeparableEquation) else (BISMUT, LOCAL)
    )
    return (*CLOSED, *of_chain) if isinstance(sde, LinearEquation) else of_chain


def check_target(sde: ChainEquation, target: str) -> None:
    """ConfigError if `target` cannot be regressed for this equation."""
    if target not in targets_of(sde):
        raise ConfigError(
            f"target: {target!r} is not for {type(sde).__name__}. Choose from "
            f"{', '.join(targets_of(sde))}."
        )


def recipe(iterations: int, learning_rate: float) -> Recipe:
    """Adam, up during WARM_UP of the iterations and then half a cosine down; averaged weights."""

    def factor(iteration: int) -> float:
        done = (iteration + 1) / iterations
        fall = 0.5 * (1 + torch.cos(torch.tensor(torch.pi * done)))
        return min(1.0, done / WARM_UP) * float(fall)

    return Recipe(
        iterations,
        lambda network: [torch.optim.Adam(network.parameters(), learning_rate, (0.9, 0.99))],
        lambda optimiser, _: LambdaLR(optimiser, factor),
        clip=1.0,
        half_life=EMA_HALF_LIFE,
    )


class Denoising(Problem):
    """The closed weight of a linear equation, gamma^-1 (X_t - Y X_0).

    `denoiser`: log sigma is normal with mean and deviation `noise`, and the loss is the same at
    every noise level before training (Karras et al. 2022). `dsm`: t is uniform and the loss is
    that of the noise itself, E |sqrt(gamma) (s + delta)|^2 (Song et al. 2021).
    """

    def __init__(
        self,
        sde: LinearEquation,
        target: str,
        supply: Supply,
        batch: int,
        moments: tuple[float, float],
        noise: tuple[float, float],
        image_mean: ImageMean | None = None,
    ) -> None:
        check_target(sde, target)
        self.sde, self.target, self.supply, self.batch = sde, target, supply, batch
        self.image_mean = image_mean
        (self.mean, self.std), self.noise = moments, noise
        self.highest = sde.noise_level(torch.ones((), dtype=torch.float64))

    def draw(self, generator: torch.Generator) -> Batch:
        """Clean data, noise, its level, context."""
        x0, context = self.supply(self.batch, generator)
        sigma = self.level(generator)
        return x0, normal_like(x0, generator), sigma, *context

    def level(self, generator: torch.Generator) -> Float[Tensor, " batch"]:
        """A noise level for each row, as even within the batch as chance allows."""
        u = evenly(self.batch, generator)
        if self.target == DENOISER:
            mean, std = self.noise
            sigma = torch.exp(mean + std * torch.special.ndtri(u))
        else:
            sigma = self.sde.noise_level(u)
        return sigma.clamp_min(0.1 * LOWEST_NOISE).minimum(self.highest.to(sigma))

    def loss(self, network: Network, batch: Batch) -> Tensor:
        """Mean square error of sqrt(gamma) delta, the analogue of noise prediction.

        The factor 1 + (sigma / std)^2 of `denoiser` gives every level the same initial loss.
        """
        x0, noise, sigma, *context = batch
        t = per_row(self.sde.time_of(sigma), x0)
        Y, root, t = (v.to(x0.dtype) for v in (self.sde.mean_factor(t), self.sde.std(t), t))
        x, delta = linear_weight(self.sde, x0, noise, t)
        level = sigma.to(x0.dtype)
        denoiser = Denoiser(network, self.mean, self.std, self.image_mean)
        clean = denoiser(x / Y, level, *context)
        error = (x - Y * clean) / root - root * delta
        if self.target == DENOISER:
            error = per_row((1 + (level / self.std) ** 2).sqrt(), x0) * error
        return (error**2).mean()

    def state(self) -> list[Batch]:
        return []

    def restore(self, state: list[Batch]) -> None:
        """Nothing waits: every batch is drawn afresh."""


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
        steps: int = CHAIN_STEPS,
    ) -> None:
        check_target(sde, target)
        self.sde, self.target, self.supply, self.batch = sde, target, supply, batch
        self.times = sde.grid(steps)
        self.gains: list[Tensor] = []
        self.waiting: list[Batch] = []
        pilots = supply(PILOTS, generator)[0]
        self.batches = max(1, BLOCK // (batch * pilots[0].numel()))
        if target == BISMUT:
            self.gains = pilot_gains(sde, pilots, self.times, generator)
        elif target == LOCAL:
            self.gains = local_gains(self.times)
        fresh = supply(PILOTS, generator)[0]
        self.scalings: Scalings = pilot_scalings(sde, self.chain(fresh, generator), self.times[1:])

    def chain(self, x0: Tensor, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """X and delta after every step."""
        if self.gains:
            yield from bismut_chain(self.sde, x0, self.times, generator, self.gains)
            return
        assert isinstance(self.sde, SeparableEquation)
        for x, weight in forward_chain(self.sde, x0, self.times, generator):
            yield x, weight.ito if self.target == ITO else weight.delta

    def draw(self, generator: torch.Generator) -> Batch:
        """X, delta, t, context."""
        if not self.waiting:
            self.waiting = self._simulate(generator)
        return self.waiting.pop()

    def _simulate(self, generator: torch.Generator) -> list[Batch]:
        x0, context = self.supply(self.batches * self.batch, generator)
        steps = len(self.times) - 1
        even = [evenly(self.batch, generator) for _ in range(PICKS * self.batches)]
        step = 1 + (steps * torch.cat(even)).long().reshape(PICKS, len(x0))
        # Only the rows picked at a step are kept: `x[k, i]` is path i at step[k, i].
        x, delta = (x0.new_empty(PICKS, *x0.shape) for _ in range(2))
        picks = step.cpu()
        for n, pair in enumerate(self.chain(x0, generator), 1):
            k, row = torch.nonzero(picks == n, as_tuple=True)
            x[k, row], delta[k, row] = pair[0][row], pair[1][row]
        t = self.times.to(x0)[step]
        rows = torch.arange(len(x0), device=x0.device).split(self.batch)
        return [
            (x[k, r], delta[k, r], t[k, r], *(c[r] for c in context))
            for k in range(PICKS)
            for r in rows
        ]

    def loss(self, network: Network, batch: Batch) -> Tensor:
        return MeanWeight(network, self.sde, self.scalings).loss(*batch)

    def state(self) -> list[Batch]:
        return self.waiting

    def restore(self, state: list[Batch]) -> None:
        self.waiting = state


def evenly(n: int, generator: torch.Generator) -> Float[Tensor, " batch"]:
    """n numbers of [0, 1) in random order, one in each n-th of it: each is uniform by itself.

    A batch that has all noise levels in their shares gives a gradient of less variance.
    """
    where: dict[str, Any] = {"generator": generator, "device": generator.device}
    order = torch.randperm(n, **where)
    return (order + torch.rand(n, dtype=torch.float64, **where)) / n


def problem(
    sde: ChainEquation,
    target: str,
    supply: Supply,
    batch: int,
    moments: tuple[float, float],
    noise: tuple[float, float],
    generator: torch.Generator,
    image_mean: ImageMean | None = None,
) -> Problem:
    """The regression of `target` for `sde`; `moments` are mean and deviation of the data.

    `image_mean` is of `Denoising` alone.
    """
    if target in CLOSED and isinstance(sde, LinearEquation):
        return Denoising(sde, target, supply, batch, moments, noise, image_mean)
    return WeightRegression(sde, target, supply, batch, generator)
