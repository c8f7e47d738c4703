"""The look all figures share, and the way they reach the disk: complete or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spinmesh.files.writing import complete_or_absent

# Okabe & Ito (2008), told apart with any common colour blindness.
BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, INK, GREY = "#CC79A7", "#56B4E9", "#222222", "#8A8A8A"
COLOURS = (BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION)
FAMILY_COLOURS = {
    "straight": GREY,
    "bend_twist": BLUE,
    "beading": GREEN,
    "fanning": ORANGE,
    "undulating": SKY,
    "combined": PURPLE,
}

STYLE: dict[Any, Any] = {
    "figure.constrained_layout.w_pad": 0.08,
    "figure.constrained_layout.h_pad": 0.08,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "axes.prop_cycle": cycler(color=COLOURS),
}
DPI = 150


@contextmanager
def picture(path: str | Path, width: float, height: float) -> Iterator[Figure]:
    """An empty figure (inches) in the shared style, at `path` once the block succeeds."""
    with complete_or_absent(Path(path)) as partial, mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        figure.savefig(partial, format="png", dpi=DPI, facecolor="white")


def blank(axes: Axes) -> Axes:
    """The same axes without ticks, frame or grid, for pictures and text."""
    axes.set_axis_off()
    return axes


def scale_bar(axes: Axes, x: float, y: float, extent: float, unit: float = 1.0) -> None:
    """A bar of a round length up to a quarter of `extent` um; one um is `unit` on the axes."""
    choices = [digit * 10.0**power for power in range(-3, 5) for digit in (1, 2, 5)]
    length = max((c for c in choices if c <= extent / 4), default=choices[0])
    axes.plot([x, x + length * unit], [y, y], color=INK, lw=2.5, solid_capstyle="butt")
    axes.annotate(
        f"{length:g} µm", (x + length * unit, y), (5, 0), textcoords="offset points",
        va="center", fontsize=9,
    )  # fmt: skip
