"""Samples of a posterior from Gaussians at its modes, by annealed importance sampling.

Sequential Monte Carlo (Del Moral, Doucet & Jasra 2006) from the mixture q of Gaussians to the
posterior p along q^(1-t) p^t. The weight of a particle is a power of p/q; its moves are those of
preconditioned Crank-Nicolson about the Gaussian it was drawn from (Cotter et al. 2013; Rudolf &
Sprungk 2018). With the Gaussian's label as a further unknown such a move is accepted by the ratio
of p/q alone, so where the Gaussians are right everything is accepted and weights are equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spinmesh.inversion.unknowns import Point
from spinmesh.progress import progress

# The next temperature is the largest that leaves this fraction of the particles effective.
EFFECTIVE = 0.5
# A posterior's tails may be heavier than its Gaussian's; wider ones cost few particles.
WIDENING = 1.15
# First length of a move, 1 being independent of where it starts, and the acceptance aimed at.
FIRST_LENGTH, ACCEPTED, SHORTEST = 0.6, 0.3, 0.05


@runtime_checkable
class Chart(Protocol):
    """Steps between points; `Unknowns` is one. Only `unique` steps are the `step` to their end."""

    def moved(self, point: Point, step: Tensor) -> Point: ...

    def step(self, start: Point, end: Point) -> Tensor: ...

    def log_volume(self, step: Tensor) -> float: ...

    def unique(self, step: Tensor) -> bool: ...


@dataclass(frozen=True, eq=False)
class Component:
    """A Gaussian of steps about a point; `weight` is its share of the mixture."""

    centre: Point
    factor: Float[Tensor, "unknown unknown"]  # Cholesky factor of the covariance
    weight: float

    def log_density(self, step: Float[Tensor, " unknown"]) -> float:
        """Of a step, without the constant that all components share."""
        white = torch.linalg.solve_triangular(self.factor, step[:, None], upper=False)
        scale = self.factor.diagonal().log().sum()
        return float(-white.square().sum() / 2 - scale)


@dataclass(frozen=True, eq=False)
class Mixture:
    """Gaussians at the modes of a posterior."""

    components: tuple[Component, ...]
    chart: Chart

    def log_density(self, point: Point) -> float:
        """Of a point, up to a constant."""
        terms = []
        for part in self.components:
            step = self.chart.step(part.centre, point)
            terms.append(
                math.log(part.weight) + part.log_density(step) - self.chart.log_volume(step)
            )
        return float(torch.logsumexp(torch.tensor(terms, dtype=torch.float64), 0))

    def draw(self, generator: torch.Generator) -> tuple[int, Point]:
        """A component and a point from it; steps more than half a turn are drawn again."""
        weights = torch.tensor([part.weight for part in self.components], dtype=torch.float64)
        label = int(torch.multinomial(weights, 1, generator=generator))
        part = self.components[label]
        while True:
            noise = torch.randn(len(part.factor), generator=generator, dtype=torch.float64)
            if self.chart.unique(part.factor @ noise):
                return label, self.chart.moved(part.centre, part.factor @ noise)

    def neighbour(
        self, label: int, point: Point, length: float, generator: torch.Generator
    ) -> Point | None:
        """A Crank-Nicolson move, reversible with respect to the component; None is to stay."""
        part = self.components[label]
        noise = torch.randn(len(part.factor), generator=generator, dtype=torch.float64)
        step = self.chart.step(part.centre, point)
        step = math.sqrt(1 - length**2) * step + length * (part.factor @ noise)
        return self.chart.moved(part.centre, step) if self.chart.unique(step) else None

    def widened(self) -> Mixture:
        """The same with every Gaussian `WIDENING` times as wide."""
        parts = [Component(c.centre, WIDENING * c.factor, c.weight) for c in self.components]
        return Mixture(tuple(parts), self.chart)


@dataclass(frozen=True, eq=False)
class Draws:
    """Points of equal weight, and how much the Gaussians had to be corrected.

    `effective` is the share of the first draws that importance weights leave: 1 where the Gaussians
    are exact (about 0.5 in 20 dimensions once widened).
    """

    points: tuple[Point, ...]
    effective: float
    acceptance: float
    temperatures: int


def anneal(
    log_posterior: Callable[[Sequence[Point]], Sequence[float]],
    mixture: Mixture,
    count: int,
    moves: int,
    generator: torch.Generator,
) -> Draws:
    """`count` points of the posterior.

    `log_posterior` takes many points at once and is -inf where one means nothing. Costs
    count * (1 + temperatures * moves) evaluations.
    """
    mixture = mixture.widened()

    def ratio_at(points: Sequence[Point]) -> Tensor:
        known = torch.tensor(log_posterior(points), dtype=torch.float64)
        return known - torch.tensor([mixture.log_density(point) for point in points]).double()

    drawn = [mixture.draw(generator) for _ in range(count)]
    labels, points = [label for label, _ in drawn], [point for _, point in drawn]
    ratio = ratio_at(points)
    effective = _effective(ratio) / count
    temperature, temperatures, length = 0.0, 0, FIRST_LENGTH
    rates: list[float] = []
    while temperature < 1.0:
        ahead = _next_temperature(ratio, temperature)
        kept = _resampled((ahead - temperature) * ratio, generator)
        labels, points, ratio = [labels[i] for i in kept], [points[i] for i in kept], ratio[kept]
        temperature, temperatures = ahead, temperatures + 1
        for _ in progress(range(moves), f"moving draws (temperature {temperature:.2g})"):
            pairs = list(zip(labels, points, strict=True))
            found = [mixture.neighbour(*pair, length, generator) for pair in pairs]
            trials = [
                point if trial is None else trial
                for trial, point in zip(found, points, strict=True)
            ]
            new = ratio_at(trials)
            chance = torch.rand(count, generator=generator, dtype=torch.float64)
            accepted = chance.log() < temperature * (new - ratio)
            accepted &= torch.tensor([trial is not None for trial in found])
            points = [trials[i] if accepted[i] else points[i] for i in range(count)]
            ratio = torch.where(accepted, new, ratio)
            rates.append(float(accepted.double().mean()))
            length = min(1.0, max(SHORTEST, length * math.exp(rates[-1] - ACCEPTED)))
    rate = sum(rates) / max(len(rates), 1)
    return Draws(tuple(points), effective, rate, temperatures)


def _effective(log_weight: Float[Tensor, " draw"]) -> float:
    """Kish's effective number of draws."""
    weight = torch.softmax(log_weight, 0)
    return float(1 / weight.square().sum())


def _next_temperature(ratio: Float[Tensor, " draw"], temperature: float) -> float:
    """The largest temperature that leaves `EFFECTIVE` of the draws, by bisection."""
    least = EFFECTIVE * len(ratio)
    if _effective((1 - temperature) * ratio) >= least:
        return 1.0
    low, high = temperature, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        enough = _effective((middle - temperature) * ratio) >= least
        low, high = (middle, high) if enough else (low, middle)
    return high


def _resampled(log_weight: Float[Tensor, " draw"], generator: torch.Generator) -> list[int]:
    """Systematic resampling: each draw as often as its weight asks, to within one."""
    count = len(log_weight)
    start = torch.rand((), generator=generator, dtype=torch.float64)
    places = (start + torch.arange(count)) / count
    edges = torch.softmax(log_weight, 0).cumsum(0)
    found: Int[Tensor, " draw"] = torch.searchsorted(edges, places).clamp(max=count - 1)
    return [int(i) for i in found]
