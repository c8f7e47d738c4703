"""Tets that cover a solid, fine where its surface runs: Kuhn's cubes, bisected after Maubach.

Every tet has one of three shapes, and neighbours conform, whatever is bisected (Maubach 1995).
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from spinmesh.errors import MeshError
from spinmesh.skeletons.cones import RoundCones

EDGES = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
# Of edges at the surface, in local radii.
CUT_SIZE = 1.5
# Tets that are kept at most: some 3 GB at work.
MOST_TETS = 20_000_000
MOST_PLACES = 2.0**62  # of a grid whose places are numbered
# Edges at the surface are halved this often at the most to keep branches apart.
HALVINGS = 4


def expected_tets(cones: RoundCones, size: float, longest: float) -> float:
    """About how many tets the background has: by area and volume of the cones, not their union.

    17 for each square of the edge on the surface, as was counted on cells of 418 and 13,239 cones.
    """
    length = np.linalg.norm(cones.end - cones.start, axis=1)
    radius = (cones.start_radius + cones.end_radius) / 2
    area = 2 * np.pi * radius * (length + 2 * radius * (length == 0))
    volume = np.pi * radius**2 * (length + 4 / 3 * radius * (length == 0))
    edge = np.minimum(size * radius, longest)
    return float(17 * (area / edge**2).sum() + 6 * volume.sum() / longest**3)


def background(
    cones: RoundCones, size: float, longest: float, apart: bool = True
) -> tuple[Float[ndarray, "point 3"], Int[ndarray, "tet 4"], bool]:
    """Points (um) and conforming tets that cover the union of cones; whether branches are close.

    A tet that the surface crosses has edges of at most `size` local radii, others of at most
    `longest` um. With `apart` no edge goes from inside one branch into another across a gap between
    them. Tets surely outside are left away.
    """
    side = 2 * longest / np.sqrt(3)
    reach = cones.largest_radius[:, None] * 1.1 + 0.3 * side
    low = np.minimum(cones.start, cones.end).min(0) - reach.max() - side
    depth = max(2, int(np.ceil(np.log2(2 * side / (size * cones.smallest_radius)))) + 3)
    cubes = _cubes(cones, low, side, reach)
    room = np.log2(MOST_PLACES / np.prod(cubes.max(0) + 3.0)) / 3 - depth
    halvings = int(np.clip(room, 0, HALVINGS if apart else 0))
    bisected = _Bisected(cubes, depth + halvings)
    fresh = np.ones(len(bisected.tets), dtype=bool)
    gaps = _Gaps(cones, size * cones.smallest_radius / 2**halvings)
    close = False
    while True:
        points = low + bisected.corners * (side / bisected.unit)
        wide, outside = _judged(cones, points, bisected.tets, np.flatnonzero(fresh), size)
        marked = (wide | bisected.hanging)[~outside]
        if outside.any():
            bisected.keep(~outside)
        if not marked.any() and apart:
            marked = gaps.across(points, bisected.tets)
            close |= bool(marked.any())
        if not marked.any():
            return points, bisected.tets, close
        if len(bisected.tets) > MOST_TETS:
            raise MeshError("too many tets: give a larger --size.")
        fresh = bisected.bisect(np.flatnonzero(marked))


def _cubes(cones: RoundCones, low: ndarray, side: float, reach: ndarray) -> ndarray:
    """Whole coordinates of the cubes that come near a cone."""
    first = np.floor((np.minimum(cones.start, cones.end) - reach - low) / side).astype(int)
    last = np.floor((np.maximum(cones.start, cones.end) + reach - low) / side).astype(int)
    blocks = [
        start + np.moveaxis(np.indices(end - start + 1), 0, -1).reshape(-1, 3)
        for start, end in zip(first, last, strict=True)
    ]
    return np.unique(np.concatenate(blocks), axis=0)


def _judged(
    cones: RoundCones, points: ndarray, tets: ndarray, fresh: ndarray, size: float
) -> tuple[ndarray, ndarray]:
    """Which tets are crossed by the surface and too wide for it, and which lie outside."""
    corners = points[tets[fresh]]
    middle = corners.mean(1)
    reach = np.linalg.norm(corners - middle[:, None], axis=2).max(1)
    edge = np.max([np.linalg.norm(corners[:, a] - corners[:, b], axis=1) for a, b in EDGES], axis=0)
    tet, _, distance, radius = cones.near(middle, reach)
    nearest, allowed = np.full(len(fresh), np.inf), np.full(len(fresh), np.inf)
    np.minimum.at(nearest, tet, distance)
    crossed = (np.abs(distance) < reach[tet]) & (nearest[tet] > -reach[tet])
    np.minimum.at(allowed, tet[crossed], size * radius[crossed])
    wide, outside = np.zeros(len(tets), dtype=bool), np.zeros(len(tets), dtype=bool)
    wide[fresh] = edge > allowed * 1.0001
    outside[fresh] = np.isinf(nearest)
    return wide, outside


class _Gaps:
    """Where tets reach over a gap between branches, whose edges see no surface in between."""

    def __init__(self, cones: RoundCones, shortest: float) -> None:
        self.cones, self.shortest = cones, shortest
        self.distance, self.cone = np.zeros(0), np.zeros(0, dtype=int)

    def across(self, points: ndarray, tets: ndarray) -> ndarray:
        """Which tets have an edge, of two corners inside, that leaves the union in between.

        Only new tets are looked at: from call to call corners stay the same, new ones follow, and
        a tet made of another has one of them.
        """
        new = (tets >= len(self.distance)).any(1)
        there = points[len(self.distance) :]
        found = self.cones.distance(there, np.full(len(there), self.cones.median_radius))
        self.distance = np.concatenate([self.distance, found[0]])
        self.cone = np.concatenate([self.cone, found[2]])
        ends = np.sort(tets[new][:, np.array(EDGES)].reshape(-1, 2), 1)
        inside = (self.distance[ends] < 0).all(1) & (self.cone[ends[:, 0]] != self.cone[ends[:, 1]])
        edges, edge = np.unique(ends[inside], axis=0, return_inverse=True)
        wide = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1) > self.shortest
        wide[wide] = self.cones.apart(points[edges[wide]], self.cone[edges[wide]])
        hit = np.zeros(len(ends), dtype=bool)
        hit[inside] = wide[edge]
        across = np.zeros(len(tets), dtype=bool)
        across[new] = hit.reshape(-1, len(EDGES)).any(1)
        return across


class _Bisected:
    """Tets on a grid of whole numbers, so that the middle of an edge is exact.

    `stage` counts 3, 2, 1, 3, ...: a tet x0..x3 of stage g is halved at the middle of x0 and xg.
    `hanging` marks the tets that have the middle of one of their edges as a corner of another.
    """

    def __init__(self, cubes: Int[ndarray, "cube 3"], depth: int) -> None:
        self.unit = 1 << depth
        paths = []
        for path in permutations(range(3)):
            steps = np.cumsum([np.zeros(3, int), *(np.eye(3, dtype=int)[list(path)])], axis=0)
            paths.append(cubes[:, None] + steps)
        corners = np.concatenate(paths).reshape(-1, 3)
        corners, tets = np.unique(corners, axis=0, return_inverse=True)
        self.corners, self.tets = corners.astype(np.int64) * self.unit, tets.reshape(-1, 4)
        self.stage = np.full(len(self.tets), 3)
        self.hanging = np.zeros(len(self.tets), dtype=bool)
        self._span = (self.corners.max(0) + 2 * self.unit).tolist()
        if np.prod([float(number) for number in self._span]) > MOST_PLACES:
            raise MeshError("the cell is too long for its thinnest radius. Mesh it in pieces.")
        keys = self._keys(self.corners)
        self._order = np.argsort(keys)
        self._sorted = keys[self._order]

    def keep(self, which: ndarray) -> None:
        """Leave the other tets away."""
        self.tets, self.stage = self.tets[which], self.stage[which]
        self.hanging = self.hanging[which]

    def bisect(self, marked: Int[ndarray, " marked"]) -> ndarray:
        """Halve the marked tets; returns which tets are new."""
        tets, stage = self.tets[marked], self.stage[marked]
        double = self.corners[tets[:, 0]] + self.corners[tets[np.arange(len(tets)), stage]]
        if (double % 2).any():
            raise MeshError("radii differ by too much for one grid. Mesh the cell in pieces.")
        middle = self._corner_at(double // 2)
        first, second = np.empty_like(tets), np.empty_like(tets)
        for each in (1, 2, 3):
            at = stage == each
            tet, centre = tets[at], middle[at, None]
            first[at] = np.concatenate([tet[:, :each], centre, tet[:, each + 1 :]], 1)
            second[at] = np.concatenate([tet[:, 1 : each + 1], centre, tet[:, each + 1 :]], 1)
        after = np.where(stage > 1, stage - 1, 3)
        fresh = np.zeros(len(self.tets) + len(tets), dtype=bool)
        fresh[marked] = fresh[len(self.tets) :] = True
        self.tets[marked], self.stage[marked] = first, after
        self.tets = np.concatenate([self.tets, second])
        self.stage = np.concatenate([self.stage, after])
        self.hanging = np.zeros(len(self.tets), dtype=bool)
        # A tet that was there can hang on new corners only, if it has both of the corners that one
        # is between; a new tet on all.
        halved = np.zeros(len(self.corners), dtype=bool)
        halved[tets[:, 0]] = halved[tets[np.arange(len(tets)), stage]] = True
        which = np.flatnonzero(fresh | (halved[self.tets].sum(1) > 1))
        for a, b in EDGES:
            ends = self.corners[self.tets[which, a]] + self.corners[self.tets[which, b]]
            self.hanging[which] |= self._has(ends)
        return fresh

    def _keys(self, corners: ndarray) -> ndarray:
        _, y, z = self._span
        return (corners[:, 0] * y + corners[:, 1]) * z + corners[:, 2]

    def _corner_at(self, places: ndarray) -> ndarray:
        """The corner at each place, made where there is none."""
        keys, first, which = np.unique(self._keys(places), return_index=True, return_inverse=True)
        at = np.minimum(np.searchsorted(self._sorted, keys), len(self._sorted) - 1)
        there = self._sorted[at] == keys
        number = np.empty(len(keys), dtype=np.int64)
        number[there] = self._order[at[there]]
        number[~there] = len(self.corners) + np.arange((~there).sum())
        self.corners = np.concatenate([self.corners, places[first[~there]]])
        place = np.searchsorted(self._sorted, keys[~there])
        self._sorted = np.insert(self._sorted, place, keys[~there])
        self._order = np.insert(self._order, place, number[~there])
        return number[which.ravel()]

    def _has(self, double: ndarray) -> ndarray:
        """Whether the middle of each edge, given as the sum of its ends, is a corner."""
        wanted = self._keys(double >> 1)
        at = np.minimum(np.searchsorted(self._sorted, wanted), len(self._sorted) - 1)
        return (self._sorted[at] == wanted) & ~(double & 1).any(1)
