"""Figure of stage 1: what the shapes look like, and how they are spread."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from spinmesh.mesh import FAMILIES, Substrates, TetMesh
from spinmesh.report.quality import tet_quality
from spinmesh.report.render import render_scene
from spinmesh.report.style import (
    COLOURS,
    FAMILY_COLOURS,
    GREY,
    INK,
    VERMILLION,
    blank,
    picture,
    scale_bar,
)  # fmt: skip
from spinmesh.report.surface import Surface, paint, surface, view

# Parameter -> symbol, unit and factor to it; direction, phase and count say little in a title.
SHOWN = {
    "radius": ("r", "µm", 1.0),
    "ellipticity": ("ellipticity", "", 1.0),
    "bend": ("bend", "", 1.0),
    "twist": ("twist", "°", 180 / np.pi),
    "bead_amplitude": ("beads", "", 1.0),
    "fan_angle": ("fan", "°", 180 / np.pi),
    "undulation_amplitude": ("waves", "µm", 1.0),
}
GAP = 3.0  # um between two shapes
PIXELS = 2000


def plot_meshes(
    substrates: Substrates, target: Substrates, user: TetMesh | None, path: str | Path
) -> Figure:
    """Each family's most deformed substrate, the target, the user mesh cut open; histograms."""
    with picture(path, 13.0, 7.4) as figure:
        top, bottom = figure.subfigures(2, 1, height_ratios=(2.1, 1), squeeze=False)[:, 0]
        _draw_shapes(top.subplots(), substrates, target, user)
        _draw_histograms(bottom, substrates, target, user)
    return figure


def _draw_shapes(
    axes: Axes, substrates: Substrates, target: Substrates, user: TetMesh | None
) -> None:
    shapes, words, scales = [], [], []
    for family in dict.fromkeys(substrates.family):
        index = most_deformed(substrates, family)
        mesh = substrates.mesh(index)
        shapes.append(surface(mesh, view(mesh), [FAMILY_COLOURS.get(family, GREY)]))
        words.append((family.replace("_", " + "), _parameters_in_words(substrates, index)))
    mesh = target.mesh(0)
    shapes.append(surface(mesh, view(mesh), [VERMILLION]))
    words.append(("target", _parameters_in_words(target, 0)))
    height = max(float(s.high[1] - s.low[1]) for s in shapes)
    scales = [1.0] * len(shapes)
    if user is not None:
        shapes.append(_cut_open(user))
        words.append((user.name, f"{len(user.tets):,} tets, cut open"))
        size = float((shapes[-1].high - shapes[-1].low)[:2].max())
        # A user mesh much larger or smaller than the axons gets a scale bar of its own.
        scales.append(1.0 if 0.2 < size / height < 1 else 0.7 * height / size)
    placed, x = [], 0.0
    for shape, scale in zip(shapes, scales, strict=True):
        placed.append(shape.placed(x, 0.0, scale))
        x = float(placed[-1].high[0]) + GAP
    box = (-GAP / 2, x - GAP / 2, -0.02 * height, 1.02 * height)
    draw_scene(axes, placed, box)
    for shape, (name, details) in zip(placed, words, strict=True):
        middle = float(shape.low[0] + shape.high[0]) / 2
        axes.text(middle, -0.06 * height, name, ha="center", va="top", weight="bold", fontsize=11)
        axes.text(middle, -0.13 * height, details, ha="center", va="top", fontsize=8.5, color=INK)
    scale_bar(axes, 0.0, 1.1 * height, height)
    if user is not None and scales[-1] != 1:
        x, y = float(placed[-1].low[0]), float(placed[-1].high[1]) + 0.12 * height
        scale_bar(axes, x, y, height / scales[-1], scales[-1])
    lines = max(details.count("\n") + 1 for _, details in words)
    axes.set(xlim=box[:2], ylim=(-(0.14 + 0.045 * lines) * height, 1.13 * height))


def draw_scene(axes: Axes, surfaces: list[Surface], box: tuple[float, float, float, float]) -> None:
    """Draw view-coordinate surfaces within `box`, rendered by pyvista if it works here."""
    blank(axes).set_aspect("equal")
    triangles = np.concatenate([s.triangles for s in surfaces])
    colour = np.concatenate([s.colour for s in surfaces])
    edges = np.concatenate([s.edges for s in surfaces])
    image = render_scene(triangles, colour, edges, box, PIXELS)
    if image is None:
        paint(axes, Surface(triangles, colour, edges))
    else:
        axes.imshow(image, extent=box, interpolation="antialiased")


def most_deformed(substrates: Substrates, family: str) -> int:
    """The member of a family with the highest sum of parameters, each relative to its largest."""
    columns = [substrates.names.index(n) for n in SHOWN if n in substrates.names and n != "radius"]
    values = substrates.parameters[:, columns].abs()
    score = (values / values.amax(0).clamp_min(1e-12)).sum(1)
    members = torch.tensor([f == family for f in substrates.family])
    return int(torch.where(members, score, -1.0).argmax())


def _parameters_in_words(substrates: Substrates, index: int) -> str:
    """The parameters of one substrate that differ from zero, one per line."""
    lines = []
    for name, (symbol, unit, factor) in SHOWN.items():
        if name in substrates.names:
            value = float(substrates.parameters[index, substrates.names.index(name)]) * factor
            if abs(value) > 1e-9:
                lines.append(f"{symbol} {value:.3g}{'' if unit == '°' else ' '}{unit}".rstrip())
    return "\n".join(lines)


def _cut_open(mesh: TetMesh) -> Surface:
    """The mesh without the eighth that points to the viewer's upper right."""
    rotation = view(mesh)
    centre = (mesh.points[mesh.tets[:, :4]].mean(1) - mesh.bounding_box.mean(0)).numpy()
    toward = centre @ (np.array([0.6, 0.0, 1.0]) @ rotation) > 0
    right = centre @ rotation[0] > 0
    upper = centre[:, 2] > 0
    return surface(mesh, rotation, list(COLOURS[4:] + COLOURS[:4]), ~(toward & right & upper))


def _draw_histograms(
    figure: SubFigure, substrates: Substrates, target: Substrates, user: TetMesh | None
) -> None:
    names = [n for n in SHOWN if n in substrates.names and n != "twist"]
    spread = {n: float(substrates.parameters[:, substrates.names.index(n)].std()) for n in names}
    names = [n for n in names if spread[n] > 1e-9][:4]
    axes = figure.subplots(1, len(names) + 1)
    for ax, name in zip(axes, names, strict=False):
        _draw_parameter(ax, name, substrates, target)
    axes[0].set_ylabel("substrates")
    axes[0].set_title("- - target", fontsize=9, color=VERMILLION)
    _draw_quality(axes[-1], substrates, target, user)


def _draw_parameter(axes: Axes, name: str, substrates: Substrates, target: Substrates) -> None:
    """Stacked histogram over the families that vary this parameter."""
    symbol, unit, factor = SHOWN[name]
    values = substrates.parameters[:, substrates.names.index(name)].numpy() * factor
    families = [f for f in dict.fromkeys(substrates.family) if name in FAMILIES.get(f, (name,))]
    stacks = [values[[f == g for g in substrates.family]] for f in families]
    axes.hist(
        stacks,
        bins=12,
        stacked=True,
        color=[FAMILY_COLOURS.get(f, GREY) for f in families],
        edgecolor="white",
        linewidth=0.4,
    )
    own = float(target.parameters[0, target.names.index(name)]) * factor
    axes.axvline(own, color=VERMILLION, lw=2, ls="--")
    label = {"r": "radius", "beads": "bead amplitude", "fan": "fan angle"}.get(symbol, symbol)
    axes.set_xlabel(f"{label} ({unit})" if unit else label)
    axes.grid(axis="x", visible=False)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))


def _draw_quality(
    axes: Axes, substrates: Substrates, target: Substrates, user: TetMesh | None
) -> None:
    every = torch.cat([tet_quality(substrates.mesh(i)) for i in range(len(substrates))])
    rows = [("substrates", every, GREY), ("target", tet_quality(target.mesh(0)), VERMILLION)]
    if user is not None:
        rows.append((user.name, tet_quality(user), COLOURS[4]))
    for name, quality, colour in rows:
        axes.hist(
            quality.numpy(),
            bins=np.linspace(0, 1, 41).tolist(),
            density=True,
            histtype="step",
            color=colour,
            lw=1.8,
            label=f"{name}, worst {float(quality.min()):.2f}",
        )
    axes.set(xlabel="tet quality (1: regular)", ylabel="density", xlim=(0, 1))
    axes.margins(y=0.5)
    axes.legend(loc="upper left", fontsize=8, borderaxespad=0.1)
