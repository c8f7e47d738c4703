"""Curved six-node triangles between (or inside) packed disks, periodic in both directions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.spatial import Delaunay

from spinmesh.bundles.packing import Disks
from spinmesh.errors import MeshError
from spinmesh.mesh import shape_functions

# Sides of a triangle by their corners; mid-side nodes 3, 4, 5 follow this order.
SIDES = np.array([[0, 1], [1, 2], [2, 0]])
# A circle has at least so many nodes; where a side of it is missing it gets a quarter more.
FEWEST, MORE = 10, 1.25
ATTEMPTS = 8
# Lattice points stay this far from circles, in units of the size, and are shaken by a little, since
# points on common circles have no unique Delaunay triangulation and images would disagree.
CLEARANCE, SHAKEN = 0.6, 0.05


@dataclass(frozen=True, eq=False)
class PeriodicPlane:
    """Six-node triangles that tile a part of a periodic square.

    A triangle's `points` lie together even where it crosses the cell's edge; `nodes` are equal
    where points are images of each other. Nodes 0-2 are vertices, 3-5 the middles of `SIDES`.
    """

    points: Float[ndarray, "triangle 6 2"]  # um
    nodes: Int[ndarray, "triangle 6"]
    cell: float  # um


def mesh_plane(disks: Disks, size: float, seed: int, *, inside: bool = False) -> PeriodicPlane:
    """Triangles of about `size` um outside all disks, or inside them; curved along the circles.

    Delaunay triangles of nodes on the circles and of a triangular lattice. A circle with a side
    that is not among them, or that folds one, gets more nodes. Raises MeshError if disks overlap,
    the size is not small beside the cell, or circles are too close to be told apart.
    """
    if not 0 < 4 * size <= disks.cell:
        raise MeshError(f"plane: size {size} um in a cell of {disks.cell:g} um. Give 0 to cell/4.")
    disks.refuse_overlap()
    rng = np.random.default_rng(seed)
    count = np.maximum(FEWEST, np.ceil(2 * np.pi * disks.radii / size)).astype(int)
    turn = rng.random(len(count))
    lattice, lattice_disk = _lattice(disks, size, inside, rng)
    for _ in range(ATTEMPTS):
        circles, circle_disk, following = _circles(disks, count, turn)
        points = np.concatenate([circles, lattice]) % disks.cell
        corners, nodes = _periodic_delaunay(points, disks.cell)
        disk = np.concatenate([circle_disk, lattice_disk])[nodes]
        within = (disk[:, 0] >= 0) & (disk == disk[:, :1]).all(1)
        chosen = within if inside else ~within
        corners, nodes, disk = corners[chosen], nodes[chosen], disk[chosen]
        sides, side, sharing = _sides(nodes)
        outer = sharing == 1
        present = {tuple(pair) for pair in sides[outer].tolist()}
        around = np.sort(np.stack([np.arange(len(following)), following], 1), 1).tolist()
        crowded = circle_disk[[tuple(pair) not in present for pair in around]]
        if len(crowded) == 0:
            plane = _curved(corners, nodes, side, outer[side], disks)
            crowded = disk[_folded(plane.points)].ravel()
            if len(crowded) == 0:
                return plane
        crowded = np.unique(crowded[crowded >= 0])
        count[crowded] = np.ceil(MORE * count[crowded]).astype(int)
    raise MeshError(
        f"plane: {len(crowded)} circles touch their neighbours at a resolution of {size:g} um "
        f"(first: radius {disks.radii[crowded[0]]:.3g} um). Widen the gap between disks or lower "
        "the size."
    )


def _circles(
    disks: Disks, count: Int[ndarray, " disk"], turn: Float[ndarray, " disk"]
) -> tuple[ndarray, ndarray, ndarray]:
    """Nodes on all circles, the disk of each, and the node that follows it around."""
    disk = np.repeat(np.arange(len(count)), count)
    start = np.repeat(np.cumsum(count) - count, count)
    place = np.arange(len(disk)) - start
    angle = 2 * np.pi * (place + turn[disk]) / count[disk]
    around = np.column_stack([np.cos(angle), np.sin(angle)])
    points = disks.centres[disk] + disks.radii[disk, None] * around
    return points, disk, start + (place + 1) % count[disk]


def _lattice(
    disks: Disks, size: float, inside: bool, rng: np.random.Generator
) -> tuple[ndarray, ndarray]:
    """Points of a shaken triangular lattice clear of all circles, and the disk of each, or -1.

    Centres of disks are always among them: an empty circle has no unique triangulation.
    """
    columns = max(4, round(disks.cell / size))
    rows = 2 * max(2, round(disks.cell / (size * 3**0.5)))
    i, j = np.divmod(np.arange(columns * rows), rows)
    grid = np.column_stack([(i + 0.5 * (j % 2)) / columns, j / rows]) * disks.cell
    grid += SHAKEN * size * rng.standard_normal(grid.shape)
    if len(disks.radii) == 0:
        return grid, np.full(len(grid), -1)
    distance = np.linalg.norm(disks.offsets(grid), axis=-1)
    depth, nearest = (distance - disks.radii).min(1), (distance - disks.radii).argmin(1)
    clear = depth > CLEARANCE * size
    if inside:
        clear = (np.abs(depth) > CLEARANCE * size) & (distance.min(1) > CLEARANCE * size)
    disk = np.where(depth < 0, nearest, -1)[clear]
    centre = np.arange(len(disks.radii))
    return np.concatenate([disks.centres, grid[clear]]), np.concatenate([centre, disk])


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


def _sides(nodes: Int[ndarray, "triangle 3"]) -> tuple[ndarray, ndarray, ndarray]:
    """Pairs of nodes, the pair of each triangle's sides, and how many triangles share a pair."""
    ends = np.sort(nodes[:, SIDES], -1).reshape(-1, 2)
    pairs, side, count = np.unique(ends, axis=0, return_inverse=True, return_counts=True)
    return pairs, side.reshape(nodes.shape), count


def _curved(
    corners: Float[ndarray, "triangle 3 2"],
    nodes: Int[ndarray, "triangle 3"],
    side: Int[ndarray, "triangle 3"],
    outer: Bool[ndarray, "triangle 3"],
    disks: Disks,
) -> PeriodicPlane:
    """With mid-side nodes, numbered by `side`; those of outer sides are moved onto their circle."""
    middle = corners[:, SIDES].mean(2)
    if len(disks.radii):
        offset = disks.offsets(middle[outer])
        length = np.linalg.norm(offset, axis=-1)
        nearest = np.abs(length - disks.radii).argmin(1)
        row = np.arange(len(nearest))
        stretch = disks.radii[nearest] / length[row, nearest] - 1
        middle[outer] += stretch[:, None] * offset[row, nearest]
    numbers = np.concatenate([nodes, nodes.max() + 1 + side], 1)
    _, numbers = np.unique(numbers, return_inverse=True)
    points = np.concatenate([corners, middle], 1)
    return PeriodicPlane(points, numbers.reshape(-1, 6), disks.cell)


def _folded(points: Float[ndarray, "triangle 6 2"]) -> Int[ndarray, " folded"]:
    """Triangles whose map turns over at one of their nodes, where a curved side folds first."""
    corner = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    places = torch.from_numpy(np.concatenate([corner, corner[SIDES].mean(1)]))
    gradient = shape_functions(places, 6)[1].numpy()
    jacobian = np.einsum("tna,qnb->tqab", points, gradient, optimize=True)
    determinant = np.linalg.det(jacobian)
    return np.flatnonzero((determinant * np.sign(determinant.sum(1))[:, None] <= 0).any(1))
