"""Scores of two-dimensional sets at equal budget, beside the train-versus-test floor.

    python benchmarks/synthesis_2d.py [--iterations 1500] [--seeds 3] [--out DIR]

Trains EDM (VE, denoiser), VP (DSM) and the Malliavin weight (A) of a double well with one network,
one budget and one data set per seed, draws as many points as there are test points, and writes
synthesis_2d.csv and synthesis_2d.png. The distance is sliced W2; `floor` is that of the train to
the test points, which a perfect model of the truth would score on average. At the end, the cost of
the weight as a fraction of a training step on 32 x 32 images. The target of issue 5: every ratio
to the floor at most 1.15, and the cost at most 0.10.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import csv
import math
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import torch
from torch import Tensor

from spinmesh.synthesis import (
    VE,
    VP,
    Denoiser,
    DoubleWell,
    FitSpec,
    MeanWeight,
    Perceptron,
    WeightRegression,
    dpm_solver_2m,
    euler_maruyama,
    fit,
    noise_levels,
    problem,
    seeded_unet,
    sliced_w2,
)
from spinmesh.synthesis.sde import LinearSDE

POINTS, BATCH, WIDTH = 8000, 256, 128
MODELS = {
    "EDM": (VE(0.002, 20.0), "denoiser"),
    "VP": (VP(), "dsm"),
    "double well (A)": (DoubleWell(1.0, 0.7, 3.0), "malliavin-a"),
}


def eight_gaussians(n: int, generator: torch.Generator) -> Tensor:
    """Eight normal laws of deviation 0.1 on a circle."""
    angle = torch.randint(8, (n,), generator=generator) * (math.pi / 4)
    centre = torch.stack([angle.cos(), angle.sin()], 1) * math.sqrt(2)
    return centre + 0.1 * torch.randn(n, 2, generator=generator)


def checkerboard(n: int, generator: torch.Generator) -> Tensor:
    """Eight of the sixteen fields of a board."""
    corner = torch.randint(4, (n, 2), generator=generator)
    corner[:, 1] = 2 * (corner[:, 1] // 2) + corner[:, 0] % 2
    return (corner + torch.rand(n, 2, generator=generator) - 2) / 1.15


def swiss_roll(n: int, generator: torch.Generator) -> Tensor:
    """A spiral of one and a half turns, with noise."""
    angle = 1.5 * math.pi * (1 + 2 * torch.rand(n, generator=generator))
    roll = torch.stack([angle * angle.cos(), angle * angle.sin()], 1)
    return (roll + 0.4 * torch.randn(n, 2, generator=generator)) / 6.7


SETS = {"8 Gaussians": eight_gaussians, "checkerboard": checkerboard, "swiss roll": swiss_roll}


def draw(name: str, train: Tensor, seed: int, iterations: int, count: int) -> Tensor:
    """Train one model and draw `count` points."""
    sde, target = MODELS[name]
    generator = torch.Generator().manual_seed(seed)
    network = Perceptron(WIDTH, 2, generator)

    def supply(n: int, generator: torch.Generator) -> tuple[Tensor, tuple[Tensor, ...]]:
        return train[torch.randint(len(train), (n,), generator=generator)], ()

    moments = (float(train.mean()), float(train.std()))
    task = problem(sde, target, supply, BATCH, moments, (-1.2, 1.4), generator)
    fitted = fit(network, task, FitSpec(iterations, BATCH, 2e-3), generator)
    network.load_state_dict(fitted.state)
    noise = torch.randn(count, 2, generator=generator)
    with torch.no_grad():
        if isinstance(sde, LinearSDE):
            denoiser = Denoiser(network, *moments)
            levels = noise_levels(sde, 30, 0.005).float()
            start = moments[0] + levels[0] * noise
            return dpm_solver_2m(lambda x, s: denoiser(x, s.expand(count)), start, levels)
        assert isinstance(task, WeightRegression)
        weight = MeanWeight(network, sde, task.scalings)
        times = sde.grid(64).flip(0).float()
        times = times[times >= task.times[1]]
        # From forward-simulated data: nothing is assumed of the law at the horizon.
        *_, (x, _) = task.chain(supply(count, generator)[0], generator)

        def score(x: Tensor, t: Tensor) -> Tensor:
            return weight.score(x, t.expand(count))

        x = euler_maruyama(sde, score, x, times, generator)
        return x + times[-1] * (sde.sigma**2 * score(x, times[-1]) - sde.drift(x, times[-1]))


def weight_cost() -> float:
    """CPU time of the double well's chain over that of a training step, 32 x 32 images."""
    generator = torch.Generator().manual_seed(0)
    images = torch.sign(torch.randn(64, 32, 32, generator=generator))
    context = (torch.zeros(32, 4), torch.ones(32))

    def supply(n: int, generator: torch.Generator) -> tuple[Tensor, tuple[Tensor, ...]]:
        rows = torch.randint(64, (n,), generator=generator)
        return images[rows], tuple(c[:1].expand(n, *c.shape[1:]) for c in context)

    task = WeightRegression(DoubleWell(), "malliavin-a", supply, 32, generator)
    network = seeded_unet(32, 4, generator)

    def spent(work: Callable[[], object], times: int) -> float:
        work()
        start = time.process_time()
        for _ in range(times):
            work()
        return (time.process_time() - start) / times

    batch = task.draw(generator)
    drawing = spent(lambda: task.draw(generator), 16)
    return drawing / (drawing + spent(lambda: task.loss(network, batch).backward(), 8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    rows, shown = [], {}
    for seed in range(options.seeds):
        for title, make in SETS.items():
            generator = torch.Generator().manual_seed(1000 + seed)
            train, test = make(POINTS, generator), make(POINTS, generator)
            floor = sliced_w2(train, test, seed)
            shown[title, "test"] = test
            for name in MODELS:
                start = time.process_time()
                samples = draw(name, train, seed, options.iterations, POINTS)
                shown[title, name] = samples
                distance = sliced_w2(samples, test, seed)
                seconds = time.process_time() - start
                rows.append([title, name, seed, distance, floor, distance / floor, seconds])
                print(
                    ",".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in rows[-1]),
                    flush=True,
                )
    with (options.out / "synthesis_2d.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["set", "model", "seed", "sliced_w2", "floor", "ratio", "cpu_s"])
        writer.writerows(rows)
    for title in SETS:
        for name in MODELS:
            of = [row for row in rows if row[:2] == [title, name]]
            distance, floor = mean(row[3] for row in of), mean(row[4] for row in of)
            print(f"{title:14} {name:16} {distance:.4f}  floor {floor:.4f}  {distance / floor:.2f}")
    print(f"cost of weight (A) in a training step of images: {weight_cost():.3f} (target 0.10)")
    figure, grid = plt.subplots(len(SETS), len(MODELS) + 1, figsize=(9, 7), layout="constrained")
    for row, title in zip(grid, SETS, strict=True):
        for axes, name in zip(row, ("test", *MODELS), strict=True):
            axes.plot(*shown[title, name].T, ".", ms=1, alpha=0.3)
            axes.set(xlim=(-2.5, 2.5), ylim=(-2.5, 2.5), xticks=[], yticks=[], aspect="equal")
            axes.set_title(f"{title}, {name}", fontsize=8)
    figure.savefig(options.out / "synthesis_2d.png", dpi=120)


if __name__ == "__main__":
    main()
