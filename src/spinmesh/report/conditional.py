"""Figures of images given a signal: a gallery, and how well the posterior is calibrated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from spinmesh.images import Calibration, Draws
from spinmesh.images.conditional import ABC, MODEL, PRIOR, TRUE_IMAGES
from spinmesh.report.style import BLUE, GREEN, GREY, INK, ORANGE, blank, picture, scale_bar
from spinmesh.report.synthesis import GAP, TISSUE

NAMES = {
    "volume_fraction": "volume fraction",
    "effective_radius": "effective radius (µm)",
    "surface_to_volume": "surface to volume (1/µm)",
}
COLOURS = {MODEL: BLUE, ABC: ORANGE, PRIOR: GREY}
MARKS = {"volume_fraction": "-", "effective_radius": "--", "surface_to_volume": ":"}
# Images of a gallery, at most.
MOST = 64
# Points of the coverage curve.
LEVELS = np.linspace(0.05, 0.95, 19)


def plot_draws(draws: Draws, path: str | Path) -> Figure:
    """Up to 64 of the images, side by side."""
    images = draws.images[:MOST]
    columns = int(np.ceil(len(images) ** 0.5))
    rows = -(-len(images) // columns)
    with picture(path, 0.9 * columns + 0.3, 0.9 * rows + 0.5) as figure:
        axes = figure.subplots()
        _board(axes, images, columns, draws.field_of_view)
        axes.set_title("given the signal" if draws.measured is not None else "without a signal")
    return figure


def plot_calibration(calibration: Calibration, path: str | Path) -> Figure:
    """Truth and samples side by side; coverage; posterior against truth; misfit of the signal."""
    with picture(path, 13.0, 9.0) as figure:
        top, bottom = figure.subfigures(2, 1, height_ratios=(1.15, 1), squeeze=False)[:, 0]
        left, coverage = top.subplots(1, 2, width_ratios=(1.5, 1))
        rows = calibration.gallery
        _board(left, rows.flatten(0, 1), rows.shape[1], calibration.field_of_view, parted=True)
        left.set_title("Truth | samples given its noisy signal")
        _draw_coverage(coverage, calibration)
        axes = bottom.subplots(1, 4)
        for number, own in enumerate(axes[:3]):
            _draw_scatter(own, calibration, number)
        _draw_misfit(axes[3], calibration)
    return figure


def _board(
    axes: Axes, images: Tensor, columns: int, field_of_view: float, *, parted: bool = False
) -> None:
    """Images in rows; `parted` sets the first column off."""
    pixels = images.shape[-1]
    step, shift = pixels + GAP, 3 * GAP if parted else 0
    rows = -(-len(images) // columns)
    board = np.full((rows * step - GAP, columns * step - GAP + shift), np.nan)
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        left = column * step + (shift if column else 0)
        board[row * step : row * step + pixels, left : left + pixels] = image
    blank(axes).imshow(board, cmap=TISSUE, vmin=-1, vmax=1, interpolation="nearest")
    scale_bar(axes, 0.0, board.shape[0] + 3.0, 3 * field_of_view, pixels / field_of_view)


def _draw_coverage(axes: Axes, calibration: Calibration) -> None:
    for method in (MODEL, ABC):
        held = torch.stack([calibration.coverage(method, float(p)) for p in LEVELS]).T
        for (name, dashes), own in zip(MARKS.items(), held, strict=True):
            label = f"{method}: {NAMES[name].split(' (')[0]}"
            axes.plot(LEVELS, own, color=COLOURS[method], ls=dashes, label=label)
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
        known = values[values.isfinite()]
        label = f"{name}: median {float(known.median()) if len(known) else np.nan:.2f}"
        known = known.clamp_max(5)
        axes.hist(
            known, edges.tolist(), density=True, histtype="step", lw=1.8, color=colour, label=label
        )
    axes.set(xlabel="χ² per measurement", yticks=[])
    axes.set_title("Simulated again", fontsize=10)
    axes.legend(fontsize=8)
