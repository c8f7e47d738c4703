"""Calibration of the posterior over many targets: a table and rank histograms.

python benchmarks/calibration.py --count 200 --out results/calibration

About 3.7 CPU s per target. The table is rewritten after every ten targets.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import torch
from matplotlib import pyplot as plt

import spinmesh
from spinmesh.inversion import Calibration, calibrate
from spinmesh.writing import complete_or_absent

BLOCK = 10
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
    """Ranks of `--count` targets drawn from the prior, at SNR 50."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/calibration"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model, acquisition, spec = shape_model(), protocol(), reconstruction()
    parts: list[Calibration] = []
    for first in range(0, arguments.count, BLOCK):
        count = min(BLOCK, arguments.count - first)
        seed = arguments.seed + first
        water = spinmesh.Tissue.uniform(2.0)
        parts.append(calibrate(model, water, acquisition, spec, 50.0, count, seed))
        whole = joined(parts)
        write_table(whole, arguments.out / "coverage.csv")
    plot(whole, arguments.out / "ranks.png")


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
    """Two modes, 39 annealed draws, a basis of fixed size shared with the target."""
    return spinmesh.ReconstructionSpec(
        starts=2, scouts=1, modes=2, iterations=8, noise_floor=1e-4, samples=39, moves=2,
        basis=spinmesh.Basis(blocks=1),
    )  # fmt: skip


def joined(parts: list[Calibration]) -> Calibration:
    """Several runs of the same experiment."""
    ranks = torch.cat([part.ranks for part in parts])
    laplace = torch.cat([part.laplace for part in parts])
    return Calibration(parts[0].quantities, ranks, parts[0].draws, laplace)


def write_table(calibration: Calibration, path: Path) -> None:
    """Coverage of 50 % and 90 % intervals, one row per quantity."""
    rows = [{"targets": len(calibration.ranks), **row} for row in calibration.rows()]
    with complete_or_absent(path) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def plot(calibration: Calibration, path: Path) -> None:
    """Histograms of the ranks; grey is where 95 % of the bars of a calibrated posterior lie."""
    count, names = len(calibration.ranks), calibration.quantities
    figure, axes = plt.subplots(1, len(names), figsize=(2.2 * len(names), 2.4), sharey=True)
    half = 1.96 * (count / BINS * (1 - 1 / BINS)) ** 0.5
    for ax, name, ranks in zip(axes, names, calibration.ranks.T, strict=True):
        ax.hist(ranks.numpy(), bins=BINS, range=(-0.5, calibration.draws + 0.5))
        ax.axhspan(count / BINS - half, count / BINS + half, color="grey", alpha=0.3, lw=0)
        ax.set(title=name, xlabel="rank of the truth")
    axes[0].set_ylabel(f"of {count} targets")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
