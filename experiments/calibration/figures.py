"""Ranks of each quantity, and coverage of all levels."""

from __future__ import annotations

from pathlib import Path

import torch

from experiments.calibration.calibration import Calibration
from spinmesh.report.style import picture

BINS = 10


def plot_calibration(calibration: Calibration, path: str | Path) -> None:
    """What a calibrated posterior gives in 95 % of all runs is in grey."""
    count, names = len(calibration.ranks), calibration.quantities
    half = 1.96 * (count / BINS * (1 - 1 / BINS)) ** 0.5
    steps = (calibration.draws + 1) // 2
    level = torch.arange(1, steps) / steps
    coverage = torch.stack([calibration.coverage(float(x)) for x in level])
    error = 1.96 * (level * (1 - level) / count).sqrt()
    with picture(path, 2 * (len(names) + 1), 2.3) as figure:
        axes = figure.subplots(1, len(names) + 1)
        for ax, name, ranks in zip(axes, names, calibration.ranks.T, strict=False):
            ax.hist(ranks.numpy(), bins=BINS, range=(-0.5, calibration.draws + 0.5))
            ax.axhspan(count / BINS - half, count / BINS + half, color="grey", alpha=0.3, lw=0)
            ax.set(title=name, xlabel="rank of the truth", ylim=(0, 2.5 * count / BINS))
            ax.set_yticks([] if ax is not axes[0] else [0, count // BINS])
        axes[0].set_ylabel(f"of {count} targets")
        axes[-1].fill_between(level, level - error, level + error, color="grey", alpha=0.3, lw=0)
        axes[-1].plot(level, coverage.numpy(), lw=0.8)
        axes[-1].plot(level, coverage.mean(1).numpy(), "k", lw=2)
        axes[-1].set(title="all (black)", xlabel="interval's level", ylabel="coverage")
