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
from functools import partial
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.bodies import MOST_DENSE_ON_CPU
from spinmesh.fem import function_space
from spinmesh.inversion.descent import Problem, State
from spinmesh.inversion.forward import predict, predict_batch
from spinmesh.inversion.result import Gaussian, Posterior, Samples
from spinmesh.inversion.unknowns import Point, Unknowns, opposite_points
from spinmesh.mesh import TetMesh
from spinmesh.progress import progress

# Draws from the Gaussians that may fold before the rest is given up.
ATTEMPTS = 100
# The next temperature is the largest that leaves this fraction of the draws effective.
EFFECTIVE = 0.5
# A posterior's tails may be heavier than its Gaussian's; wider ones cost few draws.
WIDENING = 1.15
# First length of a move, 1 being independent of where it starts, and the acceptance aimed at.
FIRST_LENGTH, ACCEPTED, SHORTEST = 0.6, 0.3, 0.05


@dataclass(frozen=True, eq=False)
class Mixture:
    """Gaussians of steps about the modes of a posterior, and their shares."""

    unknowns: Unknowns
    centres: tuple[Point, ...]
    factors: Float[Tensor, "component unknown unknown"]  # Cholesky factors of the covariances
    weights: Float[Tensor, " component"]

    def log_density(self, point: Point) -> float:
        """Of a point, up to a constant."""
        steps = torch.stack([self.unknowns.step(centre, point) for centre in self.centres])
        white = torch.linalg.solve_triangular(self.factors, steps[..., None], upper=False)
        scale = self.factors.diagonal(dim1=1, dim2=2).log().sum(1)
        scale = scale + torch.tensor([self.unknowns.log_volume(step) for step in steps])
        terms = self.weights.log() - white.square().sum((1, 2)) / 2 - scale
        return float(torch.logsumexp(terms, 0))

    def noise(self, label: int, generator: torch.Generator) -> Float[Tensor, " unknown"]:
        """A step drawn from one of the Gaussians."""
        normal = torch.randn(self.factors.shape[1], generator=generator, dtype=torch.float64)
        return self.factors[label] @ normal

    def draw(self, generator: torch.Generator) -> tuple[int, Point]:
        """A component and a point from it; steps more than half a turn are drawn again."""
        label = int(torch.multinomial(self.weights, 1, generator=generator))
        while True:
            step = self.noise(label, generator)
            if self.unknowns.unique(step):
                return label, self.unknowns.moved(self.centres[label], step)

    def neighbour(
        self, label: int, point: Point, length: float, generator: torch.Generator
    ) -> Point:
        """A Crank-Nicolson move, reversible with respect to the component, or the same point."""
        centre, unknowns = self.centres[label], self.unknowns
        noise = self.noise(label, generator)
        step = math.sqrt(1 - length**2) * unknowns.step(centre, point) + length * noise
        return unknowns.moved(centre, step) if unknowns.unique(step) else point


def anneal(
    log_posterior: Callable[[Sequence[Point]], Sequence[float]],
    mixture: Mixture,
    count: int,
    moves: int,
    generator: torch.Generator,
) -> tuple[list[Point], dict[str, float]]:
    """`count` points of the posterior, and how much the Gaussians had to be corrected.

    `log_posterior` takes many points at once and is -inf where one means nothing. Costs
    count * (1 + temperatures * moves) evaluations. `sampler_effective_share` is the share of the
    first draws that importance weights leave: 1 where the Gaussians are exact (about 0.5 in 20
    dimensions once widened).
    """
    mixture = replace(mixture, factors=WIDENING * mixture.factors)

    def ratio_at(points: Sequence[Point]) -> Float[Tensor, " draw"]:
        posterior = torch.tensor(log_posterior(points), dtype=torch.float64)
        return posterior - torch.tensor([mixture.log_density(point) for point in points]).double()

    labels, points = map(list, zip(*(mixture.draw(generator) for _ in range(count)), strict=True))
    ratio = ratio_at(points)
    share = _effective(ratio) / count
    temperature, temperatures, length = 0.0, 0, FIRST_LENGTH
    rates: list[float] = []
    while temperature < 1.0:
        ahead = _next_temperature(ratio, temperature)
        index = _resampled((ahead - temperature) * ratio, generator)
        labels, points, ratio = [labels[i] for i in index], [points[i] for i in index], ratio[index]
        temperature, temperatures = ahead, temperatures + 1
        for _ in progress(range(moves), f"moving draws (temperature {temperature:.2g})"):
            pairs = zip(labels, points, strict=True)
            trials = [mixture.neighbour(*pair, length, generator) for pair in pairs]
            new = ratio_at(trials)
            chance = torch.rand(count, generator=generator, dtype=torch.float64)
            accepted = chance.log() < temperature * (new - ratio)
            accepted &= torch.tensor([a is not b for a, b in zip(trials, points, strict=True)])
            points = [trials[i] if accepted[i] else points[i] for i in range(count)]
            ratio = torch.where(accepted, new, ratio)
            rates.append(float(accepted.double().mean()))
            length = min(1.0, max(SHORTEST, length * math.exp(rates[-1] - ACCEPTED)))
    return points, {
        "sampler_effective_share": share,
        "sampler_acceptance": sum(rates) / max(len(rates), 1),
        "sampler_temperatures": float(temperatures),
    }


def _effective(log_weight: Float[Tensor, " draw"]) -> float:
    """Kish's effective number of draws."""
    return float(1 / torch.softmax(log_weight, 0).square().sum())


def _next_temperature(ratio: Float[Tensor, " draw"], temperature: float) -> float:
    """The largest temperature that leaves `EFFECTIVE` of the draws, by bisection."""
    if _effective((1 - temperature) * ratio) >= EFFECTIVE * len(ratio):
        return 1.0
    low, high = temperature, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        enough = _effective((middle - temperature) * ratio) >= EFFECTIVE * len(ratio)
        low, high = (middle, high) if enough else (low, middle)
    return high


def _resampled(log_weight: Float[Tensor, " draw"], generator: torch.Generator) -> list[int]:
    """Systematic resampling: each draw as often as its weight asks, to within one."""
    count = len(log_weight)
    start = torch.rand((), generator=generator, dtype=torch.float64)
    edges = torch.softmax(log_weight, 0).cumsum(0)
    index = torch.searchsorted(edges, (start + torch.arange(count)) / count)
    return [int(i) for i in index.clamp(max=count - 1)]


def posterior_at(problem: Problem, modes: list[State], seed: int) -> Posterior:
    """Laplace's approximation at every mode, weighed by its evidence, and samples.

    `modes` with the best first; its Gaussian is the one reported. Evidence is exp(-cost/2) times
    the root of the covariance's determinant.
    """
    unknowns, settings = problem.unknowns, problem.settings
    normals = torch.stack([problem.curvature(mode, problem.noise).normal for mode in modes])
    cost = torch.tensor([problem.cost(mode) for mode in modes], dtype=torch.float64)
    weights = torch.softmax(-(cost + torch.linalg.slogdet(normals).logabsdet) / 2, 0)
    covariances = torch.linalg.inv(normals)
    centres = tuple(mode.point for mode in modes)
    mixture = Mixture(unknowns, centres, torch.linalg.cholesky(covariances), weights)
    size = unknowns.parts[0]
    law = Gaussian(centres[0].z, covariances[0, :size, :size])
    information = torch.linalg.eigvalsh(torch.linalg.inv(law.covariance)).flip(0) - 1
    generator = torch.Generator().manual_seed(seed)
    diagnostics: dict[str, float] = {}
    if settings.moves > 0 and settings.samples > 0:
        log_posterior = partial(log_posteriors, problem)
        points, diagnostics = anneal(
            log_posterior, mixture, settings.samples, settings.moves, generator
        )
    else:
        draws = (mixture.draw(generator)[1] for _ in range(ATTEMPTS * settings.samples))
        valid = (point for point in draws if problem.valid(unknowns.shape(point)))
        points = list(islice(valid, settings.samples))
    return Posterior(law, information, weights, _gathered(unknowns, points, diagnostics))


def log_posteriors(
    problem: Problem, points: Sequence[Point], batched: bool | None = None
) -> list[float]:
    """Log posteriors up to a constant; -inf where the mesh folds.

    Shapes are a batch where one tissue and a basis of fixed size on a small template allow it
    (`batched` None), otherwise computed one by one.
    """
    unknowns, basis, acquisition = (
        problem.unknowns,
        problem.settings.basis,
        problem.target.acquisition,
    )
    if batched is None:
        fixed = basis.kind == "krylov" and not basis.adaptive and not unknowns.free
        size = len(function_space(unknowns.model.basis.template))
        batched = fixed and size <= MOST_DENSE_ON_CPU
    result = [float("-inf")] * len(points)
    valid = {i: p for i, p in enumerate(points) if problem.valid(unknowns.shape(p))}
    if valid and batched:
        signals = list(predict_batch(unknowns, list(valid.values()), acquisition, basis))
    else:
        signals = [
            predict(unknowns, point, acquisition, basis).attenuation
            for point in progress(list(valid.values()), "weighing draws")
        ]
    for (i, point), signal in zip(valid.items(), signals, strict=True):
        result[i] = -problem.cost_of(point, signal, problem.noise) / 2
    return result


def _gathered(unknowns: Unknowns, points: list[Point], diagnostics: dict[str, float]) -> Samples:
    quantities = tuple(free.label for free in unknowns.free)
    latent = torch.zeros(len(points), unknowns.parts[0], dtype=torch.float64)
    rotation = torch.zeros(len(points), 3, 3, dtype=torch.float64)
    physics = torch.zeros(len(points), len(quantities), dtype=torch.float64)
    for row, point in enumerate(points):
        latent[row], rotation[row] = point.z, point.rotation
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
    direct, mirrored = ((x - centred).square().sum(-1) for x in (sampled, reflected))
    nearer = mirrored.sum(1, keepdim=True) < direct.sum(1, keepdim=True)
    return torch.where(nearer, mirrored, direct).mean(0).sqrt()
