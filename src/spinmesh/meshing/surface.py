"""Closed triangulated surfaces: what a lab has of its cells, and what a mesher fills."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from spinmesh.errors import MeshError

# Rows of a table of solid angles, triangles times points, that are in memory at once.
BLOCK = 2_000_000
# A part of a smaller share of the largest one's area is a crumb.
CRUMB = 1e-3
# Triangles of a cluster that counts as one dipole from farther than this many of its radii.
CLUSTER, FAR = 64, 4.0


@dataclass(frozen=True, eq=False)
class Surface:
    """Triangles in parts, each a surface of its own; corners counter-clockwise from outside.

    `part` is the number of each triangle's part, and `names` has a name for each part; parts of
    one file share theirs.
    """

    points: Float[ndarray, "point 3"]  # um
    triangles: Int[ndarray, "triangle 3"]
    part: Int[ndarray, " triangle"]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not len(self.triangles):
            raise MeshError(f"{', '.join(self.names) or 'surface'}: no triangles. Export it again.")
        parts = np.unique(self.part)
        if len(self.part) != len(self.triangles) or len(parts) != len(self.names):
            raise MeshError(f"{self.names[0]}: {len(parts)} parts with {len(self.names)} names.")

    @cached_property
    def corners(self) -> Float[ndarray, "triangle 3 3"]:
        """Coordinates (um) of the three corners of each triangle."""
        return self.points[self.triangles]

    @cached_property
    def area_vectors(self) -> Float[ndarray, "triangle 3"]:
        """Outward normal of each triangle, as long as its area (um^2)."""
        a, b, c = np.moveaxis(self.corners, 1, 0)
        return np.cross(b - a, c - a) / 2

    @property
    def areas(self) -> Float[ndarray, " part"]:
        """Area of each part, um^2."""
        return self._by_part(np.linalg.norm(self.area_vectors, axis=1))

    @property
    def volumes(self) -> Float[ndarray, " part"]:
        """Volume that each part encloses, um^3; negative if it is inside out.

        Of a surface with holes it is the volume when each hole is closed by a cone to the middle of
        the part's box.
        """
        height = self.corners.mean(1) - self.boxes.mean(1)[self.part]
        return self._by_part(np.einsum("ij,ij->i", height, self.area_vectors) / 3)

    @property
    def usual_edge(self) -> float:
        """Median length (um) of the edges, without those of crumbs."""
        large = (self.areas > CRUMB * self.areas.max())[self.part]
        corners = self.corners[large]
        return float(np.median(np.linalg.norm(corners - np.roll(corners, 1, 1), axis=2)))

    @property
    def box(self) -> Float[ndarray, "2 3"]:
        """Lowest and highest corner, um."""
        return np.stack([self.corners.min((0, 1)), self.corners.max((0, 1))])

    @property
    def length(self) -> float:
        """Longest side of the bounding box, um."""
        return float(np.ptp(self.box, axis=0).max())

    @cached_property
    def boxes(self) -> Float[ndarray, "part 2 3"]:
        """Lowest and highest corner of each part, um."""
        order = np.argsort(self.part, kind="stable")
        start = np.searchsorted(self.part[order], np.arange(len(self.names)))
        low = np.minimum.reduceat(self.corners.min(1)[order], start)
        return np.stack([low, np.maximum.reduceat(self.corners.max(1)[order], start)], 1)

    def _by_part(self, values: ndarray) -> ndarray:
        return np.bincount(self.part, values, len(self.names))


def united(surfaces: Sequence[Surface]) -> Surface:
    """One surface with the parts of all."""
    first_point = np.cumsum([0, *(len(each.points) for each in surfaces)])
    first_part = np.cumsum([0, *(len(each.names) for each in surfaces)])
    pairs = list(zip(surfaces, first_point, first_part, strict=False))
    return Surface(
        np.concatenate([each.points for each in surfaces]),
        np.concatenate([each.triangles + start for each, start, _ in pairs]),
        np.concatenate([each.part + start for each, _, start in pairs]),
        tuple(name for each in surfaces for name in each.names),
    )


def edges_of(triangles: Int[ndarray, "triangle 3"]) -> tuple[ndarray, ndarray, ndarray]:
    """Edges (two corners, ascending), the triangle of each, and whether it runs downwards there.

    Sorted, so that the triangles of one edge stand side by side.
    """
    ends = np.stack([triangles, np.roll(triangles, -1, 1)], 2).reshape(-1, 2)
    edges = np.sort(ends, 1)
    order = np.lexsort((edges[:, 1], edges[:, 0]))
    return edges[order], order // 3, (ends[:, 0] > ends[:, 1])[order]


def parts_of(triangles: Int[ndarray, "triangle 3"]) -> Int[ndarray, " triangle"]:
    """The number of each triangle's part: triangles that share an edge are in one part."""
    edges, triangle, _ = edges_of(triangles)
    same = (edges[1:] == edges[:-1]).all(1)
    pairs = (triangle[:-1][same], triangle[1:][same])
    graph = coo_array((np.ones(len(pairs[0])), pairs), shape=(len(triangles),) * 2)
    return connected_components(graph, directed=False)[1].astype(np.int64)


def winding_numbers(
    points: Float[ndarray, "point 3"], corners: Float[ndarray, "triangle 3 3"]
) -> Float[ndarray, " point"]:
    """How often a surface goes round each point: 1 inside a closed one, 0 outside; to 1e-2.

    Of a surface with holes, a fraction. Sum of solid angles (van Oosterom & Strackee 1983), of
    clusters of triangles far away the first moment (Barill et al. 2018).
    """
    turns, tree = np.zeros(len(points)), cKDTree(points)
    for cluster in _clusters(corners):
        a, b, c = np.moveaxis(cluster, 1, 0)
        moment, middle = np.cross(b - a, c - a).sum(0) / 2, cluster.mean((0, 1))
        reach = FAR * np.linalg.norm(cluster - middle, axis=2).max()
        near = np.array(tree.query_ball_point(middle, reach), dtype=np.int64)
        away = middle - points
        apart = np.maximum(np.linalg.norm(away, axis=1), reach)
        share = away @ moment / (4 * np.pi * apart**3)
        share[near] = _turns(points[near], cluster)
        turns += share
    return turns


def _clusters(corners: ndarray) -> Iterator[ndarray]:
    """Halves of halves of the triangles, along their longest extent."""
    if len(corners) <= CLUSTER:
        yield corners
        return
    middle = corners.mean(1)
    order = np.argsort(middle[:, np.ptp(middle, axis=0).argmax()])
    for part in np.array_split(order, 2):
        yield from _clusters(corners[part])


def _turns(points: ndarray, corners: ndarray) -> ndarray:
    step = max(1, BLOCK // len(corners))
    turns = np.empty(len(points))
    for start in range(0, len(points), step):
        a, b, c = np.moveaxis(corners[None] - points[start : start + step, None, None], 2, 0)
        la, lb, lc = (np.linalg.norm(each, axis=-1) for each in (a, b, c))
        above = np.einsum("pti,pti->pt", a, np.cross(b, c))
        below = (
            la * lb * lc
            + np.einsum("pti,pti->pt", a, b) * lc
            + np.einsum("pti,pti->pt", b, c) * la
            + np.einsum("pti,pti->pt", c, a) * lb
        )
        turns[start : start + step] = np.arctan2(above, below).sum(1) / (2 * np.pi)
    return turns


def parents(surface: Surface) -> Int[ndarray, " part"]:
    """The part that each part lies directly in; -1 for those that lie in none.

    Of parts that do not cross: where one point of a part is, all of it is.
    """
    boxes, volume = surface.boxes, np.abs(surface.volumes)
    parent = np.full(len(boxes), -1)
    for part, (low, high) in enumerate(boxes):
        around = (boxes[:, 0] <= low).all(1) & (boxes[:, 1] >= high).all(1)
        around[part] = False
        if not around.any():
            continue
        corners_of_part = surface.corners[surface.part == part].reshape(-1, 3)
        # Three corners: one may touch the other part.
        count = len(corners_of_part)
        places = corners_of_part[[0, count // 3, 2 * count // 3]]
        for other in sorted(np.flatnonzero(around), key=lambda number: volume[number]):
            corners = surface.corners[surface.part == other]
            if np.median(np.abs(winding_numbers(places, corners))) > 0.5:
                parent[part] = other
                break
    return parent


def depths(
    parent: Int[ndarray, " part"], kind: Int[ndarray, " part"] | None = None
) -> Int[ndarray, " part"]:
    """In how many parts each part lies; in how many of its own kind, if kinds are given."""
    depth, above = np.zeros(len(parent), dtype=np.int64), parent
    kind = np.zeros(len(parent), dtype=np.int64) if kind is None else kind
    while (above >= 0).any():
        depth += (above >= 0) & (kind[above] == kind)
        above = np.where(above >= 0, parent[above], -1)
    return depth
