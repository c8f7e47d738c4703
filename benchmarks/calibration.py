"""Calibration of the posterior over many targets: ranks, coverage and a figure.

python benchmarks/calibration.py --count 240 --out benchmarks/results

Targets are drawn from the prior and seen with Rician noise at SNR 50. About 1.3 CPU s each; every
target is added to `calibration_targets.csv` as soon as it is known, and a run that was stopped goes
on from there.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib import pyplot as plt

import spinmesh
from spinmesh.inversion import Calibration, calibrate
from spinmesh.writing import complete_or_absent

SNR = 50.0
DRAWS = 39
BINS = 10
RANGES = {
    "radius": (1.5, 2.5),
    "length": (8.0, 12.0),
    "bend": (0.0, 0.2),
    "bend_direction": (0.0, 6.28),
    "bead_amplitude": (0.0, 0.3),
    "bead_count": (1.0, 2.0),
    "bead_phase": (0.0, 6.28),
}


def main() -> None:
    """Ranks of `--count` targets, and what they say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=240)
    parser.add_argument("--out", type=Path, default=Path("results"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table = arguments.out / "calibration_targets.csv"
    done = {row["target"] for row in read(table)}
    missing = [number for number in range(arguments.count) if str(number) not in done]
    if missing:
        model, acquisition, spec = shape_model(), protocol(), reconstruction()
        water = spinmesh.Tissue.uniform(2.0)
        for number in missing:
            add(table, number, calibrate(model, water, acquisition, spec, SNR, 1, seed=number))
    whole = calibration(read(table))
    rows = [{"targets": len(whole.ranks), **row} for row in whole.rows()]
    write(arguments.out / "calibration.csv", rows)
    plot(whole, arguments.out / "calibration.png")


def read(path: Path) -> list[dict[str, str]]:
    """Rows of a table, none if it is not there."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """A table; numbers with four digits."""
    with complete_or_absent(path) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            short = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()}
            writer.writerow(short)


def add(path: Path, number: int, one: Calibration) -> None:
    """A row: rank of every quantity, and distances from Laplace's mean in its spreads."""
    ranks = dict(zip(one.quantities, one.ranks[0].tolist(), strict=True))
    laplace = {f"laplace {i}": value for i, value in enumerate(one.laplace[0].tolist())}
    write(path, [*read(path), {"target": number, **ranks, **laplace}])


def calibration(rows: list[dict[str, str]]) -> Calibration:
    """All targets of a table together."""
    heads = [name for name in rows[0] if name != "target"]
    names = tuple(name for name in heads if not name.startswith("laplace"))
    distances = [name for name in heads if name.startswith("laplace")]
    ranks = torch.tensor([[int(row[name]) for name in names] for row in rows])
    laplace = torch.tensor([[float(row[name]) for name in distances] for row in rows])
    return Calibration(names, ranks, DRAWS, laplace.double())


def shape_model() -> spinmesh.ShapeModel:
    """Bent or beaded axons of 42 points, five latent numbers."""
    template = spinmesh.swept_disk(spinmesh.SweptDisk(1, 5, 2.0, 10.0, order=1))
    counts, split = {"bend_twist": 60, "beading": 60}, {"train": 0.9, "validation": 0.1}
    table = spinmesh.sample_substrates(template, counts, RANGES, split, seed=1)
    spec = spinmesh.ShapeModelSpec(kind="pca", latent=5, modes=40, scores=10, width=8, epochs=1)
    return spinmesh.train_shape_model(table, spec, seed=0)


def protocol() -> spinmesh.Acquisition:
    """24 measurements: b = 2 and 8 ms/um^2 in 12 directions, 6 and 30 ms."""
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn((12, 3), generator=generator, dtype=torch.float64)
    direction = torch.nn.functional.normalize(direction).repeat(2, 1)
    b = torch.tensor([2.0, 8.0]).repeat_interleave(12)
    return spinmesh.Acquisition.pgse(b, direction, 6.0, 30.0)


def reconstruction() -> spinmesh.ReconstructionSpec:
    """From the prior's mean; annealed draws; a basis of fixed size shared with the target.

    A second start and the point reflection (`modes: 2`) led to the same mode and the same draws for
    every one of five targets tried, at twice the cost of the search.
    """
    return spinmesh.ReconstructionSpec(
        starts=1, scouts=1, iterations=30, noise_floor=1e-4, samples=DRAWS, moves=10,
        basis=spinmesh.Basis(blocks=1),
    )  # fmt: skip


def plot(calibration: Calibration, path: Path) -> None:
    """Ranks of each quantity, and coverage of all levels; 95 % of a calibrated one is in grey."""
    count, names = len(calibration.ranks), calibration.quantities
    figure, axes = plt.subplots(1, len(names) + 1, figsize=(2 * (len(names) + 1), 2.3))
    half = 1.96 * (count / BINS * (1 - 1 / BINS)) ** 0.5
    for ax, name, ranks in zip(axes, names, calibration.ranks.T, strict=False):
        ax.hist(ranks.numpy(), bins=BINS, range=(-0.5, calibration.draws + 0.5))
        ax.axhspan(count / BINS - half, count / BINS + half, color="grey", alpha=0.3, lw=0)
        ax.set(title=name, xlabel="rank of the truth", ylim=(0, 2.5 * count / BINS))
        ax.set_yticks([] if ax is not axes[0] else [0, count // BINS])
    axes[0].set_ylabel(f"of {count} targets")
    steps = (calibration.draws + 1) // 2
    level = torch.arange(1, steps) / steps
    own = torch.stack([calibration.coverage(float(x)) for x in level])
    error = 1.96 * (level * (1 - level) / count).sqrt()
    axes[-1].fill_between(level, level - error, level + error, color="grey", alpha=0.3, lw=0)
    axes[-1].plot(level, own.numpy(), lw=0.8)
    axes[-1].plot(level, own.mean(1).numpy(), "k", lw=2)
    axes[-1].set(title="all (black)", xlabel="interval's level", ylabel="coverage")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
