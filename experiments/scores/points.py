"""Scores of two-dimensional sets whose law is known, at equal budget, beside their floor.

A model is judged by the sliced W2 from its points to fresh draws of the true law, and the floor is
that of its train points to the same draws: the ratio is 1 for a model that knows what they know.
A model that learned the train points exactly, drawn as few times as there are train points, would
score up to 1.4 by chance alone (docs/methods/scores.md), so `draws` exceeds `points`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from experiments.scores.measures import sliced_w2
from experiments.scores.models import Row
from experiments.scores.settings import PointEvaluation
from spinmesh.learning import Batch, fit
from spinmesh.scores import VE, VP, DoubleWell
from spinmesh.scores.denoiser import Denoiser, MeanWeight
from spinmesh.scores.equations import ChainEquation, LinearEquation, noise_levels
from spinmesh.scores.network import fourier
from spinmesh.scores.samplers import heun, splitting, tweedie
from spinmesh.scores.targets import Denoising, WeightRegression, recipe
from spinmesh.stored import quantity, store

Points = Float[Tensor, "_ 2"]
MODELS: dict[str, tuple[ChainEquation, str]] = {
    "edm": (VE(0.002, 20.0), "denoiser"),
    "vp": (VP(beta_max=12.0), "dsm"),  # The highest noise level is that of VE.
    "double-well": (DoubleWell(1.0, 0.7, 3.0), "malliavin-a"),
}
# Fourier features of the noise level: with eight of them a perceptron's answer changes from one
# level to the next where the true one does not.
FREQUENCIES = 4
# Mean and deviation of log sigma in training, for the target `denoiser`.
NOISE = (-1.2, 1.4)
LOWEST = 0.005
# Fresh draws of the law that a set is compared with, and directions of the comparison.
TESTS = 4
DIRECTIONS = 64


@store("spinmesh/points", version=2, stage="synthesis")
@dataclass(frozen=True, eq=False)
class PointDraws:
    """Points of the set `name`: those trained on and those that every model drew from each seed.

    `seconds` are of CPU, for training and drawing.
    """

    name: str
    models: tuple[str, ...]
    seeds: tuple[int, ...]
    train: Float[Tensor, "seed point 2"]
    drawn: Float[Tensor, "seed model draw 2"]
    seconds: Float[Tensor, "seed model"] = quantity("s")


def eight_gaussians(n: int, generator: torch.Generator) -> Points:
    """Eight normal laws of deviation 0.1 on a circle."""
    angle = torch.randint(8, (n,), generator=generator) * (math.pi / 4)
    centre = torch.stack([angle.cos(), angle.sin()], 1) * math.sqrt(2)
    return centre + 0.1 * torch.randn(n, 2, generator=generator)


def checkerboard(n: int, generator: torch.Generator) -> Points:
    """Eight of the sixteen fields of a board."""
    corner = torch.randint(4, (n, 2), generator=generator)
    corner[:, 1] = 2 * (corner[:, 1] // 2) + corner[:, 0] % 2
    return (corner + torch.rand(n, 2, generator=generator) - 2) / 1.15


def swiss_roll(n: int, generator: torch.Generator) -> Points:
    """A spiral of one and a half turns, with noise."""
    angle = 1.5 * math.pi * (1 + 2 * torch.rand(n, generator=generator))
    roll = torch.stack([angle * angle.cos(), angle * angle.sin()], 1)
    return (roll + 0.4 * torch.randn(n, 2, generator=generator)) / 6.7


SETS: dict[str, Callable[[int, torch.Generator], Points]] = {
    "eight-gaussians": eight_gaussians,
    "checkerboard": checkerboard,
    "swiss-roll": swiss_roll,
}


def draw_points(name: str, plane: PointEvaluation, seed: int) -> PointDraws:
    """Train every model on the set `name` from every seed, and draw from each."""
    models, seeds = plane.models, range(seed, seed + plane.seeds)
    trains, drawn, seconds = [], [], []
    for seed in seeds:
        train = SETS[name](plane.points, _generator(seed, 0))
        trains.append(train)
        for model in models:
            start = time.process_time()
            drawn.append(_drawn(*MODELS[model], train, plane, seed))
            seconds.append(time.process_time() - start)
    shape = (len(seeds), len(models))
    return PointDraws(
        name,
        tuple(models),
        tuple(seeds),
        torch.stack(trains),
        torch.stack(drawn).unflatten(0, shape),
        torch.tensor(seconds, dtype=torch.float64).reshape(shape),
    )


def score_points(draws: PointDraws) -> list[Row]:
    """One row per model and seed: sliced W2 to the law, the floor's, and their ratio."""
    rows: list[Row] = []
    for i, seed in enumerate(draws.seeds):
        fresh = _generator(seed, 1)
        tests = [SETS[draws.name](draws.train.shape[1], fresh) for _ in range(TESTS)]
        floor = _distance(draws.train[i], tests, seed)
        for k, model in enumerate(draws.models):
            distance = _distance(draws.drawn[i, k], tests, seed)
            rows.append(
                {
                    "set": draws.name,
                    "model": model,
                    "seed": seed,
                    "sliced_w2": distance,
                    "floor": floor,
                    "ratio": distance / floor,
                    "seconds": float(draws.seconds[i, k]),
                }
            )
    return rows


def score_all_points(sets: Sequence[PointDraws]) -> list[Row]:
    """The scores of several sets, one below the other."""
    return [row for draws in sets for row in score_points(draws)]


def summarise_points(rows: Sequence[Row]) -> list[Row]:
    """One row per set and model: means over seeds; the ratio is that of the means."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((str(row["set"]), str(row["model"])), []).append(row)
    table: list[Row] = []
    for (name, model), members in groups.items():
        means = {
            key: mean(float(row[key]) for row in members)
            for key in ("sliced_w2", "floor", "seconds")
        }
        ratio = means["sliced_w2"] / means["floor"]
        worst = max(float(row["ratio"]) for row in members)
        line: Row = {"set": name, "model": model, "seeds": len(members)}
        table.append(line | means | {"ratio": ratio, "worst_ratio": worst})
    return table


class Perceptron(nn.Module):
    """Residual multilayer perceptron for points of a few dimensions; 70,000 parameters at 128."""

    def __init__(self, width: int, dimension: int, generator: torch.Generator) -> None:
        super().__init__()
        with torch.device("meta"):
            self.entry = nn.Linear(dimension + 2 * FREQUENCIES, width)
            self.middle = nn.ModuleList([nn.Linear(width, width) for _ in range(4)])
            self.exit = nn.Linear(width, dimension)
        self.to_empty(device=generator.device)
        for parameter in self.parameters():
            if parameter.ndim == 1 or parameter is self.exit.weight:
                nn.init.zeros_(parameter)
            else:
                nn.init.kaiming_uniform_(parameter, a=5**0.5, generator=generator)

    def forward(
        self, x: Float[Tensor, "batch d"], noise: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch d"]:
        """`noise` as for the UNet."""
        h = self.entry(torch.cat([x, fourier(noise, FREQUENCIES)], 1))
        for layer in self.middle:
            h = h + layer(functional.silu(h))
        out: Tensor = self.exit(functional.silu(h))
        return out


def _distance(points: Points, tests: Sequence[Points], seed: int) -> float:
    """Root mean square over the test sets."""
    squares = [sliced_w2(points, test, seed, DIRECTIONS) ** 2 for test in tests]
    return mean(squares) ** 0.5


def _drawn(
    sde: ChainEquation, target: str, train: Points, plane: PointEvaluation, seed: int
) -> Points:
    """Points of one model, trained for this."""
    generator = _generator(seed, 2)
    network = Perceptron(plane.width, 2, generator)

    def supply(n: int, generator: torch.Generator) -> tuple[Tensor, Batch]:
        return train[torch.randint(len(train), (n,), generator=generator)], ()

    moments = (float(train.mean()), float(train.std()))
    task: Denoising | WeightRegression
    if isinstance(sde, LinearEquation):
        task = Denoising(sde, target, supply, plane.batch, moments, NOISE)
    else:
        task = WeightRegression(sde, target, supply, plane.batch, generator)
    budget = recipe(plane.iterations, plane.learning_rate)
    network.load_state_dict(fit(network, task, budget, generator, "training on points").state)
    start = torch.randn(plane.draws, 2, generator=generator)
    with torch.no_grad():
        if isinstance(sde, LinearEquation):
            denoiser = Denoiser(network, *moments)
            levels = noise_levels(sde, plane.evaluations // 2, LOWEST).float()
            x = moments[0] + levels[0] * start
            return heun(lambda x, s: denoiser(x, s.expand(len(x))), x, levels)
        assert isinstance(task, WeightRegression)
        return _reversed(sde, task, network, supply(plane.draws, generator)[0], plane, generator)


def _reversed(
    sde: ChainEquation,
    task: WeightRegression,
    network: Perceptron,
    data: Points,
    plane: PointEvaluation,
    generator: torch.Generator,
) -> Points:
    """The reverse of a chain from `data` simulated forward: nothing is assumed of the horizon."""
    weight = MeanWeight(network, sde, task.scalings)

    def score(x: Tensor, t: Tensor) -> Tensor:
        return weight.score(x, t.expand(len(x)))

    *_, (x, _) = task.chain(data, generator)
    times = sde.grid(plane.evaluations).flip(0)[:-1].float()
    x = splitting(sde, score, x, times, generator)
    return tweedie(sde, score, x, times[-1])


def _generator(seed: int, use: int) -> torch.Generator:
    """One stream for each use of a seed: 0 train points, 1 test points, 2 training and drawing."""
    return torch.Generator().manual_seed(1000 * seed + use)
