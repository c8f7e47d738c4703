"""A picture of one input: cut open where it has several compartments, with their colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy import ndarray

from spinmesh.mesh import TetMesh, tet_quality
from spinmesh.report.style import COLOURS, blank, picture, scale_bar
from spinmesh.report.surface import Surface, paint, surface, view

WATER = "#CBDDEA"
# Angle (rad) by which the mesh is turned about its z axis, and of the cut's walls to the viewer.
TURNED, WALL = -0.5, 0.95
# Above so many triangles their edges would cover the picture.
MOST_EDGES = 6000
MOST_WORDS = 12  # compartments in the legend
SIZE, LEAST = 7.0, 5.0  # inches: of the longer side, of the width with its words


def palette(mesh: TetMesh, notes: Sequence[str]) -> dict[int, tuple[str, str]]:
    """Colour and words of each compartment, by its label; of a store's notes, some name them."""
    colours = {}
    for number, label in enumerate(mesh.labels):
        start = f"compartment {label}: "
        name = next((note[len(start) :] for note in notes if note.startswith(start)), "")
        hue = WATER if name.startswith("water") else COLOURS[number % len(COLOURS)]
        colours[label] = (hue, f"{label} {name}")
    return colours


def plot_input(mesh: TetMesh, notes: Sequence[str], path: str | Path) -> Figure:
    """The mesh whole, or without a quarter towards the viewer if it has several compartments."""
    colours = palette(mesh, notes)
    cosine, sine = np.cos(TURNED), np.sin(TURNED)
    rotation = view(mesh) @ np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    if len(colours) > 1:
        shape = _cut_open(mesh, rotation, {label: hue for label, (hue, _) in colours.items()})
    else:
        shape = surface(mesh, rotation, [COLOURS[0]])
        if len(shape.edges) > MOST_EDGES:
            shape = replace(shape, edges=shape.edges[:0])
    low, high = shape.box[:, :2]
    longest = (high - low).max()
    width, height = (high - low) * SIZE / longest
    patches = [Patch(color=hue, label=_plain(words)[-70:]) for hue, words in colours.values()]
    legend = patches[:MOST_WORDS]
    with picture(path, max(width + 1.0, LEAST), height + 1.2 + 0.2 * len(legend)) as figure:
        axes = blank(figure.subplots())
        paint(axes, shape)
        scale_bar(axes, low[0], low[1] - 0.05 * longest, longest)
        details = f"{len(mesh.tets):,} tets, worst quality {float(tet_quality(mesh).min()):.2f}"
        words = f"{_plain(mesh.name)}\n{details}"
        figure.suptitle(words, x=0.02, ha="left", fontsize=11, weight="bold")
        figure.legend(handles=legend, loc="outside lower left")
    return figure


def _plain(words: str) -> str:
    """Words in which a dollar sign begins no formula."""
    return words.replace("$", r"\$")


def _cut_open(
    mesh: TetMesh, rotation: Float[ndarray, "3 3"], colours: Mapping[int, str]
) -> Surface:
    """What is left of the straight tets, turned, behind two walls that hold the mesh's z axis."""
    import pyvista

    points = mesh.points.detach().numpy() @ rotation.T
    corners = mesh.tets[:, :4].numpy()
    grid = pyvista.UnstructuredGrid({pyvista.CellType.TETRA: corners}, points)
    grid.cell_data["compartment"] = mesh.compartment.numpy()
    right = np.array([1.0, 0, 0])
    toward = np.cross(right, rotation[:, 2])
    first = np.cos(WALL) * toward - np.sin(WALL) * right
    second = np.cos(WALL) * right + np.sin(WALL) * toward
    behind, front = (grid.clip(first, origin=grid.center, invert=side) for side in (True, False))
    parts = [_outer(behind), _outer(front.clip(second, origin=grid.center))]
    faces, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
    colour = np.array([to_rgb(colours[label]) for label in labels.tolist()])
    return Surface(faces, colour, np.empty((0, 2, 3)))


def _outer(grid: Any) -> tuple[Float[ndarray, "face 3 3"], Int[ndarray, " face"]]:
    """Outer faces, corners counter-clockwise from outside, and their compartments."""
    shown = grid.extract_surface(pass_cellid=True, algorithm="dataset_surface").triangulate()
    faces = np.array(shown.points[shown.regular_faces], dtype=np.float64)
    normal = np.cross(faces[:, 1] - faces[:, 0], faces[:, 2] - faces[:, 0])
    # VTK's clip leaves them in any order.
    away = faces.mean(1) - grid.cell_centers().points[shown.cell_data["vtkOriginalCellIds"]]
    faces = np.where(((normal * away).sum(1) < 0)[:, None, None], faces[:, ::-1], faces)
    whole = np.linalg.norm(normal, axis=1) > 0
    return faces[whole], np.array(shown.cell_data["compartment"])[whole]
