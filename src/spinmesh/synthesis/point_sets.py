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
from torch import Tensor

from spinmesh.errors import ConfigError
from spinmesh.learning import Batch, fit
from spinmesh.synthesis.comparison import Row
from spinmesh.synthesis.evaluation import sliced_w2
from spinmesh.synthesis.network import Perceptron
from spinmesh.synthesis.nonlinear import DoubleWell
from spinmesh.synthesis.sampling import heun, splitting
from spinmesh.synthesis.scalings import Denoiser, MeanWeight
from spinmesh.synthesis.sde import VE, VP, ChainSDE, LinearSDE, noise_levels
from spinmesh.synthesis.targets import WeightRegression, problem, recipe

Points = Float[Tensor, "_ 2"]
MODELS: dict[str, tuple[ChainSDE, str]] = {
    "edm": (VE(0.002, 20.0), "denoiser"),
    "vp": (VP(beta_max=12.0), "dsm"),  # The highest noise level is that of VE.
    "double-well": (DoubleWell(1.0, 0.7, 3.0), "malliavin-a"),
}
# Mean and deviation of log sigma in training, for the target `denoiser`.
NOISE = (-1.2, 1.4)
LOWEST = 0.005
# Fresh draws of the law that a set is compared with, and directions of the comparison.
TESTS = 4
DIRECTIONS = 64


@dataclass(frozen=True)
class PointSpec:
    """The budget, the same for every model: points, points drawn, network, training, sampling.

    `evaluations` are those of the network for one drawn point.
    """

    points: int = 8000
    draws: int = 32_000
    iterations: int = 3000
    batch: int = 256
    width: int = 128
    learning_rate: float = 4e-3
    evaluations: int = 80

    def __post_init__(self) -> None:
        if min(self.iterations, self.batch) < 1 or not self.learning_rate > 0:
            raise ConfigError(f"points: {self}: iterations, batch and rate must be positive.")
        if min(self.points, self.draws, self.width) < 2 or self.evaluations < 4:
            raise ConfigError(
                f"points: points {self.points}, draws {self.draws}, width {self.width}, "
                f"evaluations {self.evaluations}; give at least 2, 2, 2 and 4."
            )


@dataclass(frozen=True, eq=False)
class PointDraws:
    """Points of one set: those trained on and those that every model drew, for several seeds."""

    name: str  # of the set
    models: tuple[str, ...]
    seeds: tuple[int, ...]
    train: Float[Tensor, "seed point 2"]
    drawn: Float[Tensor, "seed model draw 2"]
    seconds: Float[Tensor, "seed model"]  # CPU, training and drawing


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


def draw_points(
    name: str, models: Sequence[str], seeds: Sequence[int], spec: PointSpec
) -> PointDraws:
    """Train every model on the set `name` from every seed, and draw from each.

    Raises ConfigError for an unknown set or model.
    """
    wanted = [(name, list(SETS)), *((model, list(MODELS)) for model in models)]
    for word, known in wanted:
        if word not in known:
            raise ConfigError(f"points: {word!r} is unknown. Choose from {', '.join(known)}.")
    trains, drawn, seconds = [], [], []
    for seed in seeds:
        train = SETS[name](spec.points, _generator(seed, 0))
        trains.append(train)
        for model in models:
            start = time.process_time()
            drawn.append(_drawn(*MODELS[model], train, spec, seed))
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


def _distance(points: Points, tests: Sequence[Points], seed: int) -> float:
    """Root mean square over the test sets."""
    squares = [sliced_w2(points, test, seed, DIRECTIONS) ** 2 for test in tests]
    return mean(squares) ** 0.5


def _drawn(sde: ChainSDE, target: str, train: Points, spec: PointSpec, seed: int) -> Points:
    """Points of one model, trained for this."""
    generator = _generator(seed, 2)
    network = Perceptron(spec.width, 2, generator)

    def supply(n: int, generator: torch.Generator) -> tuple[Tensor, Batch]:
        return train[torch.randint(len(train), (n,), generator=generator)], ()

    moments = (float(train.mean()), float(train.std()))
    task = problem(sde, target, supply, spec.batch, moments, NOISE, generator)
    budget = recipe(spec.iterations, spec.learning_rate)
    network.load_state_dict(fit(network, task, budget, generator, "training on points").state)
    start = torch.randn(spec.draws, 2, generator=generator)
    with torch.no_grad():
        if isinstance(sde, LinearSDE):
            denoiser = Denoiser(network, *moments)
            levels = noise_levels(sde, spec.evaluations // 2, LOWEST).float()
            x = moments[0] + levels[0] * start
            return heun(lambda x, s: denoiser(x, s.expand(len(x))), x, levels)
        assert isinstance(task, WeightRegression)
        return _reversed(sde, task, network, supply(spec.draws, generator)[0], spec, generator)


def _reversed(
    sde: ChainSDE,
    task: WeightRegression,
    network: Perceptron,
    data: Points,
    spec: PointSpec,
    generator: torch.Generator,
) -> Points:
    """The reverse of a chain from `data` simulated forward: nothing is assumed of the horizon."""
    weight = MeanWeight(network, sde, task.scalings)

    def score(x: Tensor, t: Tensor) -> Tensor:
        return weight.score(x, t.expand(len(x)))

    *_, (x, _) = task.chain(data, generator)
    times = sde.grid(spec.evaluations).flip(0)[:-1].float()
    x = splitting(sde, score, x, times, generator)
    last = times[-1]
    return x - last * (sde.drift(x, last) - sde.noise(last) ** 2 * score(x, last))


def _generator(seed: int, use: int) -> torch.Generator:
    """One stream for each use of a seed: 0 train points, 1 test points, 2 training and drawing."""
    return torch.Generator().manual_seed(1000 * seed + use)
