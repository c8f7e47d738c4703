"""Curved six-node triangles between (and inside) packed disks, periodic in both directions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.spatial import Delaunay

from spinmesh.errors import MeshError
from spinmesh.mesh.packing import Disks
from spinmesh.mesh.tetmesh import shape_functions

# Sides of a triangle by their corners; mid-side nodes 3, 4, 5 follow this order.
SIDES = np.array([[0, 1], [1, 2], [2, 0]])
# A circle has at least so many nodes; where a side of it is missing it gets a quarter more.
FEWEST, MORE = 10, 1.25
ATTEMPTS = 24
# Triangles of a plane that will be deformed keep their Jacobian above this part of its mean.
MARGIN = 0.3
# Lattice points stay this far from circles, in units of the size, and are shaken by a little, since
# points on common circles have no unique Delaunay triangulation and images would disagree.
CLEARANCE, SHAKEN = 0.6, 0.05
# What a triangle, and a tet of a bundle, is filled with.
AXON, WATER, MYELIN = 1, 2, 3


@dataclass(frozen=True, eq=False)
class PeriodicPlane:
    """Six-node triangles that tile a part of a periodic square.

    A triangle's `points` lie together even where it crosses the cell's edge; `nodes` are equal
    where points are images of each other. Nodes 0-2 are vertices, 3-5 the middles of `SIDES`;
    vertices have the lower numbers.
    """

    points: Float[ndarray, "triangle 6 2"]  # um
    nodes: Int[ndarray, "triangle 6"]
    disk: Int[ndarray, " triangle"]  # in which it lies, or -1
    label: Int[ndarray, " triangle"]  # AXON, WATER or MYELIN
    cell: float  # um


def mesh_plane(
    disks: Disks, size: float, seed: int, *, inside: bool = False, g_ratio: float | None = None
) -> PeriodicPlane:
    """Triangles of about `size` um between all disks; `inside` them too; curved along the circles.

    With a `g_ratio` each disk is an axon of that part of its radius in a sheath of myelin.
    Delaunay triangles of nodes on the circles and of a triangular lattice. A circle with a side
    that is not among them, or that folds one, gets more nodes. Raises MeshError if disks overlap,
    the size is not small beside the cell, or circles are too close to be told apart.
    """
    if not 0 < 4 * size <= disks.cell:
        raise MeshError(f"plane: size {size} um in a cell of {disks.cell:g} um. Give 0 to cell/4.")
    disks.refuse_overlap()
    rng = np.random.default_rng(seed)
    circles = disks if g_ratio is None else _with_cores(disks, g_ratio)
    count = np.maximum(FEWEST, np.ceil(2 * np.pi * circles.radii / size)).astype(int)
    turn = rng.random(len(count))
    lattice, lattice_circle = _lattice(circles, len(disks.radii), size, inside, rng)
    for _ in range(ATTEMPTS):
        around, around_circle, following = _around(circles, count, turn)
        points = np.concatenate([around, lattice]) % disks.cell
        corners, nodes = _periodic_delaunay(points, disks.cell)
        circle = np.concatenate([around_circle, lattice_circle])
        disk, label = _filling(circle[nodes], corners.mean(1), disks, g_ratio is not None)
        chosen = (label == WATER) | inside
        corners, nodes, disk, label = corners[chosen], nodes[chosen], disk[chosen], label[chosen]
        sides, side, membrane = _sides(nodes, label)
        present = {tuple(pair) for pair in sides[membrane].tolist()}
        pairs = np.sort(np.stack([np.arange(len(following)), following], 1), 1).tolist()
        crowded = around_circle[[tuple(pair) not in present for pair in pairs]]
        if len(crowded) == 0:
            on_circle = np.where(membrane, circle[sides[:, 0]], -1)[side]
            points6, numbers = _curved(corners, nodes, side, on_circle, circles)
            crowded = circle[nodes[_folded(points6, MARGIN if inside else 0.0)]].ravel()
            if len(crowded) == 0:
                return PeriodicPlane(points6, numbers, disk, label, disks.cell)
        crowded = np.unique(crowded[crowded >= 0])
        count[crowded] = np.ceil(MORE * count[crowded]).astype(int)
    raise MeshError(
        f"plane: {len(crowded)} circles touch their neighbours at a resolution of {size:g} um "
        f"(first: radius {circles.radii[crowded[0]]:.3g} um). Widen the gap between disks or lower "
        "the size."
    )


def _with_cores(disks: Disks, g_ratio: float) -> Disks:
    """The disks, then the axons in them; these overlap, as they must."""
    if not 0 < g_ratio < 1:
        raise MeshError(f"plane: g-ratio {g_ratio:g}. Give the axon's part of the radius, 0 to 1.")
    radii = np.concatenate([disks.radii, g_ratio * disks.radii])
    return Disks(np.concatenate([disks.centres] * 2), radii, disks.cell)


def _filling(
    circle: Int[ndarray, "triangle 3"],
    centre: Float[ndarray, "triangle 2"],
    disks: Disks,
    sheathed: bool,
) -> tuple[Int[ndarray, " triangle"], Int[ndarray, " triangle"]]:
    """Disk (or -1) and label of triangles by the circles on or in which their corners lie.

    Three corners on one circle may also be on images of it, with water between.
    """
    count = len(disks.radii)
    disk = np.where(circle >= 0, circle % max(count, 1), -1)
    same = np.flatnonzero((disk[:, 0] >= 0) & (disk == disk[:, :1]).all(1))
    first = disk[same, 0]
    offset = centre[same] - disks.centres[first]
    offset -= disks.cell * np.round(offset / disks.cell)
    inside = np.linalg.norm(offset, axis=1) < disks.radii[first]
    within = np.zeros(len(disk), dtype=bool)
    within[same[inside]] = True
    axon = within & ((circle >= count).all(1) if sheathed else True)
    label = np.where(axon, AXON, np.where(within, MYELIN, WATER))
    return np.where(within, disk[:, 0], -1), label


def _around(
    circles: Disks, count: Int[ndarray, " circle"], turn: Float[ndarray, " circle"]
) -> tuple[ndarray, ndarray, ndarray]:
    """Nodes on all circles, the circle of each, and the node that follows it around."""
    circle = np.repeat(np.arange(len(count)), count)
    start = np.repeat(np.cumsum(count) - count, count)
    place = np.arange(len(circle)) - start
    angle = 2 * np.pi * (place + turn[circle]) / count[circle]
    around = np.column_stack([np.cos(angle), np.sin(angle)])
    points = circles.centres[circle] + circles.radii[circle, None] * around
    return points, circle, start + (place + 1) % count[circle]


def _lattice(
    circles: Disks, disks: int, size: float, inside: bool, rng: np.random.Generator
) -> tuple[ndarray, ndarray]:
    """Points of a shaken triangular lattice clear of all circles; the innermost one around each.

    -1 stands for those between disks. Centres of disks are always among the points: an empty circle
    has no unique triangulation.
    """
    columns = max(4, round(circles.cell / size))
    rows = 2 * max(2, round(circles.cell / (size * 3**0.5)))
    i, j = np.divmod(np.arange(columns * rows), rows)
    grid = np.column_stack([(i + 0.5 * (j % 2)) / columns, j / rows]) * circles.cell
    grid += SHAKEN * size * rng.standard_normal(grid.shape)
    if disks == 0:
        return grid, np.full(len(grid), -1)
    distance = np.linalg.norm(circles.offsets(grid), axis=-1)
    depth = distance - circles.radii
    clear = (depth > CLEARANCE * size).all(1)
    if inside:
        clear = np.minimum(np.abs(depth), distance).min(1) > CLEARANCE * size
    # Axons are listed after the sheaths around them, so the last circle around a point is its own.
    last = depth.shape[1] - 1 - (depth < 0)[:, ::-1].argmax(1)
    circle = np.where((depth < 0).any(1), last, -1)[clear]
    centres = len(circles.radii) - disks + np.arange(disks)
    return np.concatenate([circles.centres[:disks], grid[clear]]), np.concatenate([centres, circle])


def _periodic_delaunay(
    points: Float[ndarray, "point 2"], cell: float
) -> tuple[Float[ndarray, "triangle 3 2"], Int[ndarray, "triangle 3"]]:
    """Triangles with their centre in the cell, of the points and their images nearby.

    Raises MeshError unless they tile the cell.
    """
    shifts = cell * np.array([(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1)])
    images = (points + shifts[:, None]).reshape(-1, 2)
    number = np.tile(np.arange(len(points)), len(shifts))
    near = (np.abs(images - cell / 2) < cell).all(1)
    place, which = images[near], number[near]
    triangles = Delaunay(place).simplices
    centre = place[triangles].mean(1)
    triangles = triangles[((centre >= 0) & (centre < cell)).all(1)]
    corners, nodes = place[triangles], which[triangles]
    # Euler on a torus: twice as many triangles as points; and they fill the cell.
    area = np.abs(np.linalg.det(corners[:, 1:] - corners[:, :1])).sum() / (2 * cell**2)
    if len(nodes) != 2 * len(points) or abs(area - 1) > 1e-9:
        raise MeshError(f"plane: triangles fill {area:.6f} of the cell. Give another seed or size.")
    return corners, nodes


def _sides(
    nodes: Int[ndarray, "triangle 3"], label: Int[ndarray, " triangle"]
) -> tuple[ndarray, ndarray, ndarray]:
    """Pairs of nodes, the pair of each triangle's sides, and whether a membrane is there.

    It is where the labels of both triangles differ, or only one triangle is left.
    """
    ends = np.sort(nodes[:, SIDES], -1).reshape(-1, 2)
    pairs, first, side, count = np.unique(
        ends, axis=0, return_index=True, return_inverse=True, return_counts=True
    )
    total = np.bincount(side.ravel(), np.repeat(label, 3))
    membrane = (count == 1) | (total != 2 * label[first // 3])
    return pairs, side.reshape(nodes.shape), membrane


def _curved(
    corners: Float[ndarray, "triangle 3 2"],
    nodes: Int[ndarray, "triangle 3"],
    side: Int[ndarray, "triangle 3"],
    on_circle: Int[ndarray, "triangle 3"],
    circles: Disks,
) -> tuple[Float[ndarray, "triangle 6 2"], Int[ndarray, "triangle 6"]]:
    """Points and nodes with mid-side nodes, numbered by `side`; on their circle where one is."""
    middle = corners[:, SIDES].mean(2)
    curved = on_circle >= 0
    circle = on_circle[curved]
    offset = middle[curved] - circles.centres[circle]
    offset -= circles.cell * np.round(offset / circles.cell)
    stretch = circles.radii[circle] / np.linalg.norm(offset, axis=-1) - 1
    middle[curved] += stretch[:, None] * offset
    numbers = np.concatenate([nodes, nodes.max() + 1 + side], 1)
    _, numbers = np.unique(numbers, return_inverse=True)
    return np.concatenate([corners, middle], 1), numbers.reshape(-1, 6)


def _folded(points: Float[ndarray, "triangle 6 2"], least: float) -> Int[ndarray, " folded"]:
    """Triangles whose map turns over at one of their nodes, where a curved side folds first.

    Or shrinks areas there to `least` of their mean.
    """
    corner = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    places = torch.from_numpy(np.concatenate([corner, corner[SIDES].mean(1)]))
    gradient = shape_functions(places, 6)[1].numpy()
    jacobian = np.einsum("tna,qnb->tqab", points, gradient, optimize=True)
    determinant = np.linalg.det(jacobian)
    mean = determinant.mean(1, keepdims=True)
    return np.flatnonzero((determinant * np.sign(mean) <= least * np.abs(mean)).any(1))
