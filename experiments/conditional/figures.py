"""Figure of the experiment: truth and samples side by side, and how well they are calibrated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.conditional.calibration import ABC, MODEL, PRIOR, TRUE_IMAGES, Calibration
from spinmesh.report.style import BLUE, GREEN, GREY, INK, ORANGE, picture
from spinmesh.report.synthesis import draw_grid

NAMES = {
    "volume_fraction": "volume fraction",
    "effective_radius": "effective radius (µm)",
    "surface_to_volume": "surface to volume (1/µm)",
}
COLOURS = {MODEL: BLUE, ABC: ORANGE, PRIOR: GREY}
MARKS = {"volume_fraction": "-", "effective_radius": "--", "surface_to_volume": ":"}
# Points of the coverage curve.
LEVELS = np.linspace(0.05, 0.95, 19)


def plot_calibration(calibration: Calibration, path: str | Path) -> Figure:
    """Truth and samples side by side; coverage; posterior against truth; misfit of the signal."""
    with picture(path, 13.0, 9.0) as figure:
        top, bottom = figure.subfigures(2, 1, height_ratios=(1.15, 1), squeeze=False)[:, 0]
        left, coverage = top.subplots(1, 2, width_ratios=(1.5, 1))
        truth, samples = calibration.gallery.split([1, calibration.gallery.shape[1] - 1], 1)
        rows = torch.cat([truth, torch.full_like(truth, torch.nan), samples], 1)
        draw_grid(left, rows.flatten(0, 1), calibration.field_of_view, rows.shape[1])
        left.set_title("Truth | samples given its noisy signal")
        _draw_coverage(coverage, calibration)
        axes = bottom.subplots(1, 4)
        for number, panel in enumerate(axes[:3]):
            _draw_scatter(panel, calibration, number)
        _draw_misfit(axes[3], calibration)
    return figure


def _draw_coverage(axes: Axes, calibration: Calibration) -> None:
    for method in (MODEL, ABC):
        coverage = torch.stack([calibration.coverage(method, float(p)) for p in LEVELS]).T
        for (name, dashes), inside in zip(MARKS.items(), coverage, strict=True):
            label = f"{method}: {NAMES[name].split(' (')[0]}"
            axes.plot(LEVELS, inside, color=COLOURS[method], ls=dashes, label=label)
    axes.plot([0, 1], [0, 1], color=INK, lw=0.8)
    count = len(calibration.truth)
    band = 1.96 * np.sqrt(LEVELS * (1 - LEVELS) / count)
    axes.fill_between(LEVELS, LEVELS - band, LEVELS + band, color=GREY, alpha=0.2, lw=0)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="level of the interval", ylabel="truths inside")
    axes.set_title(f"Coverage over {count} held-out signals")
    axes.legend(fontsize=8, loc="upper left")


def _draw_scatter(axes: Axes, calibration: Calibration, number: int) -> None:
    """Mean and central half of the posterior against the truth."""
    name = list(NAMES)[number]
    truth = calibration.truth[:, number]
    samples = calibration.samples[MODEL][..., number]
    mean = samples.mean(1)
    low, high = (mean - samples.quantile(0.25, 1)), (samples.quantile(0.75, 1) - mean)
    errors = torch.stack([low, high]).clamp_min(0)
    axes.errorbar(truth, mean, errors, fmt=".", ms=4, lw=0.6, color=BLUE, alpha=0.6)
    ends = [float(truth.min()), float(truth.max())]
    axes.plot(ends, ends, color=INK, lw=0.8)
    score = calibration.crps(MODEL)[number] / calibration.crps(ABC)[number]
    axes.set(xlabel=f"true {NAMES[name]}", ylabel="posterior mean, central half")
    axes.set_title(f"CRPS {float(score):.2f} of ABC's", fontsize=10)


def _draw_misfit(axes: Axes, calibration: Calibration) -> None:
    colours = {TRUE_IMAGES: GREEN, MODEL: BLUE, ABC: ORANGE}
    edges = np.linspace(0, 5, 41)
    for name, colour in colours.items():
        values = calibration.misfit[name]
        values = values[values.isfinite()]
        label = f"{name}: median {float(values.median()) if len(values) else np.nan:.2f}"
        axes.hist(
            values.clamp_max(5), edges.tolist(), density=True, histtype="step", lw=1.8,
            color=colour, label=label,
        )  # fmt: skip
    axes.set(xlabel="χ² per measurement", yticks=[])
    axes.set_title("Simulated again", fontsize=10)
    axes.legend(fontsize=8)
