"""Figure of stage 1: what the shapes look like, and how good their tetrahedra are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spinmesh.mesh import Substrates, tet_quality
from spinmesh.report.style import FAMILY_COLOURS, GREY, VERMILLION, blank, picture, scale_bar
from spinmesh.report.surface import Surface, paint, surface, view

# Parameter -> symbol, unit and factor to it; direction, phase and count say little in a title.
SHOWN = {
    "radius": ("radius", " µm", 1.0),
    "ellipticity": ("ellipticity", "", 1.0),
    "bend": ("bend", "", 1.0),
    "twist": ("twist", "°", 180 / np.pi),
    "bead_amplitude": ("beads", "", 1.0),
    "fan_angle": ("fan", "°", 180 / np.pi),
    "undulation_amplitude": ("waves", " µm", 1.0),
}
GAP = 3.0  # um between two shapes
# Substrates whose tets are drawn as a histogram; of a larger table as many, evenly spread.
MEASURED = 1000


def plot_meshes(substrates: Substrates, target: Substrates, path: str | Path) -> Figure:
    """Each family's most deformed substrate, and the target; their quality."""
    with picture(path, 13.0, 7.0) as figure:
        above, below = figure.subplots(2, 1, height_ratios=(2.6, 1))
        _draw_shapes(blank(above), substrates, target)
        _draw_quality(below, substrates, target)
    return figure


def _draw_shapes(axes: Axes, substrates: Substrates, target: Substrates) -> None:
    rows = [(substrates, most_deformed(substrates, f), f) for f in dict.fromkeys(substrates.family)]
    shapes: list[tuple[Surface, str, str]] = []
    for table, index, family in [*rows, (target, 0, "target")]:
        mesh = table.mesh(index)
        colour = VERMILLION if table is target else FAMILY_COLOURS.get(family, GREY)
        words = family.replace("_", " + "), "\n".join(parameters_in_words(table, index))
        shapes.append((surface(mesh, view(mesh), [colour]), *words))
    height = max(float(np.ptp(shape.box[:, 1])) for shape, *_ in shapes)
    scale_bar(axes, 0.0, 1.1 * height, height)
    x = 0.0
    for shape, name, details in shapes:
        low, high = shape.box
        paint(axes, shape.moved(np.array([x - low[0], -low[1], 0])))
        middle = x + float(high[0] - low[0]) / 2
        axes.text(middle, -0.03 * height, name, ha="center", va="top", weight="bold", fontsize=11)
        axes.text(middle, -0.10 * height, details, ha="center", va="top", fontsize=8.5)
        x += float(high[0] - low[0]) + GAP
    axes.set(xlim=(-GAP / 2, x - GAP / 2), ylim=(-0.02 * height, 1.13 * height))


def most_deformed(substrates: Substrates, family: str) -> int:
    """The member of a family with the highest sum of parameters, each relative to its largest."""
    columns = [substrates.names.index(n) for n in SHOWN if n in substrates.names and n != "radius"]
    values = substrates.parameters[:, columns].abs()
    score = (values / values.amax(0).clamp_min(1e-12)).sum(1)
    members = torch.tensor([f == family for f in substrates.family])
    return int(torch.where(members, score, -1.0).argmax())


def parameters_in_words(substrates: Substrates, index: int) -> list[str]:
    """The parameters of one substrate that differ from zero, with their units."""
    values = dict(zip(substrates.names, substrates.parameters[index].tolist(), strict=True))
    return [
        f"{symbol} {values[name] * factor:.3g}{unit}"
        for name, (symbol, unit, factor) in SHOWN.items()
        if abs(values.get(name, 0.0)) > 1e-9
    ]


def _draw_quality(axes: Axes, substrates: Substrates, target: Substrates) -> None:
    step = -(-len(substrates) // MEASURED)
    drawn = range(0, len(substrates), step)
    some = torch.cat([tet_quality(substrates.mesh(i)) for i in drawn])
    worst = some if substrates.quality is None else substrates.quality
    name = "substrates" if step == 1 else f"{len(drawn):,} of {len(substrates):,} substrates"
    aim = tet_quality(target.mesh(0))
    rows = [(name, some, worst, GREY), ("target", aim, aim, VERMILLION)]
    bins = np.linspace(0, 1, 41).tolist()
    for name, quality, worst, colour in rows:
        label = f"{name}, worst {float(worst.min()):.2f}"
        axes.hist(
            quality.numpy(), bins, density=True, histtype="step", color=colour, lw=1.8, label=label
        )
    axes.set(xlabel="tet quality (1: regular)", ylabel="density", xlim=(0, 1))
    axes.legend(loc="upper left")
