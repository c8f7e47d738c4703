"""The posterior around the modes that a search has found, and draws from it.

Laplace's approximation is a mixture of Gaussians, one at each mode. Annealed importance sampling
(Neal 2001) corrects it: its draws go from the mixture q to the posterior p through densities
q^(1-t) p^t, resampled and moved at every temperature. A move is a Crank-Nicolson step about the
Gaussian it was drawn from (Cotter et al. 2013; Rudolf & Sprungk 2018). With the Gaussian's label as
a further unknown such a move is accepted by the ratio of p/q alone, so where the Gaussians are
right everything is accepted and weights are equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spinmesh.bloch_torrey import MOST_DENSE_ON_CPU
from spinmesh.fem import function_space
from spinmesh.inversion.descent import Problem, State
from spinmesh.inversion.forward import predict, predict_batch
from spinmesh.inversion.result import Posterior, Samples
from spinmesh.inversion.unknowns import Point, Unknowns, opposite_points
from spinmesh.mesh import TetMesh
from spinmesh.progress import progress
from spinmesh.shapes import Gaussian

# Draws from the Gaussians that may fold before the rest is given up.
ATTEMPTS = 100
# The next temperature is the largest that leaves this fraction of the draws effective.
EFFECTIVE = 0.5
# A posterior's tails may be heavier than its Gaussian's; wider ones cost few draws.
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

    def noise(self, generator: torch.Generator) -> Float[Tensor, " unknown"]:
        """A step drawn from the Gaussian."""
        normal = torch.randn(len(self.factor), generator=generator, dtype=torch.float64)
        return self.factor @ normal

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

    @cached_property
    def weights(self) -> Float[Tensor, " component"]:
        """Shares of the components."""
        return torch.tensor([part.weight for part in self.components], dtype=torch.float64)

    def log_density(self, point: Point) -> float:
        """Of a point, up to a constant."""
        terms = []
        for part in self.components:
            step = self.chart.step(part.centre, point)
            density = part.log_density(step) - self.chart.log_volume(step)
            terms.append(math.log(part.weight) + density)
        return float(torch.logsumexp(torch.tensor(terms, dtype=torch.float64), 0))

    def draw(self, generator: torch.Generator) -> tuple[int, Point]:
        """A component and a point from it; steps more than half a turn are drawn again."""
        label = int(torch.multinomial(self.weights, 1, generator=generator))
        part = self.components[label]
        while True:
            step = part.noise(generator)
            if self.chart.unique(step):
                return label, self.chart.moved(part.centre, step)

    def neighbour(
        self, label: int, point: Point, length: float, generator: torch.Generator
    ) -> Point | None:
        """A Crank-Nicolson move, reversible with respect to the component; None is to stay."""
        part = self.components[label]
        noise = part.noise(generator)
        step = math.sqrt(1 - length**2) * self.chart.step(part.centre, point) + length * noise
        return self.chart.moved(part.centre, step) if self.chart.unique(step) else None

    def widened(self) -> Mixture:
        """The same with every Gaussian `WIDENING` times as wide."""
        parts = [replace(part, factor=WIDENING * part.factor) for part in self.components]
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
        posterior = torch.tensor(log_posterior(points), dtype=torch.float64)
        return posterior - torch.tensor([mixture.log_density(point) for point in points]).double()

    labels, points = map(list, zip(*(mixture.draw(generator) for _ in range(count)), strict=True))
    ratio = ratio_at(points)
    effective = _effective(ratio) / count
    temperature, temperatures, length = 0.0, 0, FIRST_LENGTH
    rates: list[float] = []
    while temperature < 1.0:
        ahead = _next_temperature(ratio, temperature)
        index = _resampled((ahead - temperature) * ratio, generator)
        labels, points, ratio = [labels[i] for i in index], [points[i] for i in index], ratio[index]
        temperature, temperatures = ahead, temperatures + 1
        for _ in progress(range(moves), f"moving draws (temperature {temperature:.2g})"):
            pairs = list(zip(labels, points, strict=True))
            moved = [mixture.neighbour(*pair, length, generator) for pair in pairs]
            trials = [old if new is None else new for new, old in zip(moved, points, strict=True)]
            new = ratio_at(trials)
            chance = torch.rand(count, generator=generator, dtype=torch.float64)
            accepted = chance.log() < temperature * (new - ratio)
            accepted &= torch.tensor([trial is not None for trial in moved])
            points = [trials[i] if accepted[i] else points[i] for i in range(count)]
            ratio = torch.where(accepted, new, ratio)
            rates.append(float(accepted.double().mean()))
            length = min(1.0, max(SHORTEST, length * math.exp(rates[-1] - ACCEPTED)))
    rate = sum(rates) / max(len(rates), 1)
    return Draws(tuple(points), effective, rate, temperatures)


def _effective(log_weight: Float[Tensor, " draw"]) -> float:
    """Kish's effective number of draws."""
    return float(1 / torch.softmax(log_weight, 0).square().sum())


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
    index: Int[Tensor, " draw"] = torch.searchsorted(edges, places).clamp(max=count - 1)
    return [int(i) for i in index]


def posterior_at(problem: Problem, modes: list[State], seed: int) -> Posterior:
    """Laplace's approximation at every mode, weighed by its evidence, and samples.

    `modes` with the best first; its Gaussian is the one reported.
    """
    unknowns = problem.unknowns
    normals = [problem.curvature(mode, problem.noise).normal for mode in modes]
    mixture = _mixture(problem, modes, normals)
    size = unknowns.parts[0]
    covariance = torch.linalg.inv(normals[0])[:size, :size]
    prior = unknowns.prior
    latent = Gaussian(prior.colour(modes[0].point.y), prior.factor @ covariance @ prior.factor.T)
    information = torch.linalg.eigvalsh(torch.linalg.inv(covariance)).flip(0) - 1
    return Posterior(latent, information, mixture.weights, _samples(problem, mixture, seed))


def _mixture(problem: Problem, modes: list[State], normals: list[Tensor]) -> Mixture:
    """Weights are evidences: exp(-cost/2) times the root of the covariance's determinant."""
    pairs = list(zip(modes, normals, strict=True))
    evidence = torch.tensor(
        [-problem.cost(m) / 2 - float(torch.linalg.slogdet(n).logabsdet) / 2 for m, n in pairs],
        dtype=torch.float64,
    )
    parts = [
        Component(mode.point, torch.linalg.cholesky(torch.linalg.inv(normal)), weight)
        for (mode, normal), weight in zip(pairs, torch.softmax(evidence, 0).tolist(), strict=True)
        if weight > 0
    ]
    return Mixture(tuple(parts), problem.unknowns)


def _samples(problem: Problem, mixture: Mixture, seed: int) -> Samples:
    """Annealed if the settings grant moves, else valid draws from the Gaussians."""
    settings, unknowns = problem.settings, problem.unknowns
    generator = torch.Generator().manual_seed(seed)
    if settings.moves == 0 or settings.samples == 0:
        points = (mixture.draw(generator)[1] for _ in range(ATTEMPTS * settings.samples))
        valid = (point for point in points if problem.valid(unknowns.shape(point)))
        return _gathered(unknowns, list(islice(valid, settings.samples)), {})
    draws = anneal(
        partial(log_posteriors, problem), mixture, settings.samples, settings.moves, generator
    )
    diagnostics = {
        "sampler_effective_share": draws.effective,
        "sampler_acceptance": draws.acceptance,
        "sampler_temperatures": float(draws.temperatures),
    }
    return _gathered(unknowns, list(draws.points), diagnostics)


def log_posteriors(
    problem: Problem, points: Sequence[Point], batched: bool | None = None
) -> list[float]:
    """Log posteriors up to a constant; -inf where the mesh folds.

    Shapes are a batch where one tissue and a basis of fixed size on a small template allow it
    (`batched` None), otherwise computed one by one.
    """
    unknowns, basis = problem.unknowns, problem.settings.basis
    if batched is None:
        fixed = basis.kind == "krylov" and not basis.adaptive and not unknowns.free
        size = len(function_space(unknowns.model.basis.template))
        batched = fixed and size <= MOST_DENSE_ON_CPU
    result = [float("-inf")] * len(points)
    valid = [i for i, point in enumerate(points) if problem.valid(unknowns.shape(point))]
    if valid and batched:
        some = [points[i] for i in valid]
        signals = list(predict_batch(unknowns, some, problem.target.acquisition, basis))
    else:
        acquisition = problem.target.acquisition
        signals = [
            predict(unknowns, points[i], acquisition, basis).attenuation
            for i in progress(valid, "weighing draws")
        ]
    for i, signal in zip(valid, signals, strict=True):
        result[i] = -problem.cost_of(points[i], signal, problem.noise) / 2
    return result


def _gathered(unknowns: Unknowns, points: list[Point], diagnostics: dict[str, float]) -> Samples:
    quantities = tuple(free.label for free in unknowns.free)
    latent = torch.zeros(len(points), unknowns.parts[0], dtype=torch.float64)
    rotation = torch.zeros(len(points), 3, 3, dtype=torch.float64)
    physics = torch.zeros(len(points), len(quantities), dtype=torch.float64)
    for row, point in enumerate(points):
        latent[row], rotation[row] = unknowns.prior.colour(point.y), point.rotation
        physics[row] = torch.tensor(list(unknowns.values(point).values()), dtype=torch.float64)
    return Samples(latent, rotation, physics, quantities, diagnostics)


def vertex_spread(
    shape: TetMesh, template: TetMesh, points: Float[Tensor, "sample point 3"]
) -> Float[Tensor, " point"]:
    """RMS distance (um) of each point of `shape` from where the samples have it.

    Modulo what the signal cannot see: each sample is centred, and reflected through its centre if
    that brings it nearer. A reflected tube has its ends exchanged, so its points are compared with
    those that lie opposite on the template.
    """
    centred = shape.points - shape.points.mean(0)
    sampled = points - points.mean(1, keepdim=True)
    reflected = -sampled[:, opposite_points(template)]
    direct, mirrored = (x - centred for x in (sampled, reflected))
    nearer = mirrored.square().sum((1, 2)) < direct.square().sum((1, 2))
    apart = torch.where(nearer[:, None, None], mirrored, direct)
    return apart.square().sum(-1).mean(0).sqrt()
