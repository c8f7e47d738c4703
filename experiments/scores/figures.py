"""Figures of the comparison of score models: every metric, images of each, and point sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from experiments.scores.measures import two_point
from experiments.scores.models import Drawn, reference
from experiments.scores.points import PointDraws
from spinmesh.bundles import ImageSet
from spinmesh.images import radial_spectrum
from spinmesh.report.style import BLUE, COLOURS, GREY, INK, VERMILLION, blank, picture
from spinmesh.report.synthesis import draw_grid

Row = dict[str, str | float]
TITLES = {
    "edm": "EDM (VE, denoiser)",
    "vp": "VP (denoising score matching)",
    "double-well": "Double well, Malliavin (A)",
    "local": "Double well, local",
    "ito": "Double well, Ito part (control)",
    "allen-cahn": "Allen-Cahn, Malliavin (C)",
    "fractional": "Fractional noise, EDM weights",
    "train images": "Train images (floor)",
    "nearest signal": "Nearest signal (ABC)",
    "white noise": "White noise (control)",
}
PANELS = {
    "spectrum_log_error": "Radial spectrum, log error",
    "two_point_error": "Two-point function, error",
    "pixel_w1": "Grey levels, W1",
    "sliced_w2": "8 x 8 patches, sliced W2",
    "mmd": "MMD of features (and p)",
    "memorisation": "Memorisation (1: new, 0: copy)",
}
FLOOR = "train images"
# Points drawn in a panel: more make one blot.
SHOWN = 4000


def plot_models(
    rows: Sequence[Row], images: ImageSet, drawn: Sequence[Drawn], path: str | Path
) -> Figure:
    """Every metric of every model, one dot a seed, beside the floor; spectra over the true one."""
    with picture(path, 15.0, 8.4) as figure:
        grid = figure.subplots(2, 4)
        for axes, (metric, title) in zip(grid[:, :3].flat, PANELS.items(), strict=True):
            _draw_metric(axes, rows, metric)
            axes.set_title(title)
        for axes in grid[:, 1:3].flat:
            axes.tick_params(labelleft=False)
        _draw_curves(list(grid[:, 3]), images, drawn)
    return figure


def _draw_metric(axes: Axes, rows: Sequence[Row], metric: str) -> None:
    names = list(dict.fromkeys(str(row["model"]) for row in rows))
    for place, name in enumerate(names):
        own = [row for row in rows if row["model"] == name]
        values = [float(row[metric]) for row in own]
        colour = GREY if name == FLOOR else BLUE
        axes.plot(values, [place] * len(values), "o", color=colour, ms=6)
        if metric == "mmd":
            p = mean(float(row["mmd_p"]) for row in own)
            axes.annotate(f"{p:.2g}", (max(values), place), (7, -3), textcoords="offset points")
    floor = mean(float(row[metric]) for row in rows if row["model"] == FLOOR)
    axes.axvline(floor, color=VERMILLION, ls="--", lw=1.2)
    axes.set_yticks(range(len(names)), [TITLES.get(name, name) for name in names])
    axes.invert_yaxis()
    axes.set_xscale("linear" if metric == "memorisation" else "log")
    # Labels of minor ticks would run into each other.
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.15)


def _draw_curves(panels: Sequence[Axes], images: ImageSet, drawn: Sequence[Drawn]) -> None:
    """Spectra and two-point functions of the first seed's samples, relative to held-out images."""
    truth = reference(images).images
    first = min(one.trained_from for one in drawn)
    spectrum, pairs = radial_spectrum(truth), two_point(truth)
    pixel = images.field_of_view / truth.shape[-1]
    frequency = np.arange(1, len(spectrum) + 1) / images.field_of_view
    for number, one in enumerate(d for d in drawn if d.trained_from == first):
        colour, dashes = COLOURS[number % len(COLOURS)], "-" if number < len(COLOURS) else "--"
        label = TITLES.get(one.model, one.model)
        ratio = radial_spectrum(one.samples) / spectrum
        panels[0].plot(frequency, ratio, color=colour, ls=dashes, label=label)
        distance = pixel * np.arange(len(pairs))
        panels[1].plot(distance, two_point(one.samples) - pairs, color=colour, ls=dashes)
    panels[0].axhline(1, color=INK, lw=1)
    panels[0].set(yscale="log", xlabel="spatial frequency (1/µm)")
    panels[0].set_title("Spectrum, ratio to held out")
    panels[0].legend(fontsize=7)
    panels[1].axhline(0, color=INK, lw=1)
    panels[1].set(xlabel="distance (µm)")
    panels[1].set_title("Two-point function, difference")


def plot_gallery(images: ImageSet, drawn: Sequence[Drawn], path: str | Path) -> Figure:
    """A grid of images from each model's first seed, after held-out ones."""
    first = min(one.trained_from for one in drawn)
    boards: list[tuple[str, torch.Tensor]] = [("Held out", reference(images).images)]
    boards += [(TITLES.get(d.model, d.model), d.samples) for d in drawn if d.trained_from == first]
    columns = min(4, len(boards))
    lines = -(-len(boards) // columns)
    with picture(path, 3.9 * columns, 4.2 * lines) as figure:
        panels = figure.subplots(lines, columns, squeeze=False).flat
        for axes in panels:
            blank(axes)
        for axes, (title, members) in zip(figure.axes, boards, strict=False):
            draw_grid(axes, members, images.field_of_view)
            axes.set_title(title)
    return figure


def plot_points(rows: Sequence[Row], sets: Sequence[PointDraws], path: str | Path) -> Figure:
    """Train points, and what each model drew from the first seed with its ratio to the floor."""
    width = 1 + max(len(draws.models) for draws in sets)
    with picture(path, 3.0 * width, 3.2 * len(sets)) as figure:
        grid = figure.subplots(len(sets), width, squeeze=False)
        for line, draws in zip(grid, sets, strict=True):
            clouds = {"train points": draws.train[0]}
            clouds |= dict(zip(draws.models, draws.drawn[0], strict=True))
            for axes, (name, points) in zip(line, clouds.items(), strict=False):
                x, y = points[:SHOWN].T
                blank(axes).plot(x, y, ".", ms=1, alpha=0.4, color=BLUE if name in TITLES else GREY)
                axes.set(xlim=(-2.5, 2.5), ylim=(-2.5, 2.5), aspect="equal")
                axes.set_title(f"{draws.name}: {_caption(name, draws.name, rows)}", fontsize=9)
    return figure


def _caption(model: str, name: str, rows: Sequence[Row]) -> str:
    own = [row for row in rows if (row["set"], row["model"]) == (name, model)]
    if not own:
        return model
    distance, floor = (mean(float(row[key]) for row in own) for key in ("sliced_w2", "floor"))
    return f"{model}, {distance / floor:.2f}"
