"""Tets inside a solid, cut from a background: watertight by construction, without a surface mesh.

Corners near a crossing are moved onto it; other crossings cut their tets by templates of signs. The
parts conform and never overlap because the background does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from spinmesh.meshing.tets import parts_by_faces, pinches, positive, quality, volumes
from spinmesh.skeletons.background import EDGES
from spinmesh.skeletons.cones import RoundCones

# A corner moves to a crossing nearer than SNAP of the edge, unless a tet gets worse than WORST.
SNAP = 0.3
WORST = 0.05
# Where a corner does not move, its edges are cut off it by this share at least.
CLEAR = 0.03
ROUNDS = 20
# A part of a union of round cones holds a ball of the radius at each of its places; one with less
# than this share of such a ball is a crumb of the grid.
CRUMB = 0.1


@dataclass(frozen=True, eq=False)
class Crossings:
    """Edges of tets (two corners, ascending, sorted) that the surface crosses, and where."""

    edges: Int[ndarray, "edge 2"]
    share: Float[ndarray, " edge"]
    points: Float[ndarray, "edge 3"]

    def clear_of_corners(self, points: ndarray) -> Crossings:
        """The same, each away from the ends of its edge, lest tets be cut off that are flat."""
        first, second = points[self.edges[:, 0]], points[self.edges[:, 1]]
        share = np.clip(self.share, CLEAR, 1 - CLEAR)
        return replace(self, share=share, points=first + share[:, None] * (second - first))

    def number(self, first: ndarray, second: ndarray, count: int) -> ndarray:
        """The point of an edge, numbered after `count` corners."""
        keys = self.edges[:, 0] * count + self.edges[:, 1]
        wanted = np.minimum(first, second) * count + np.maximum(first, second)
        return count + np.searchsorted(keys, wanted)


def cut(
    cones: RoundCones, points: Float[ndarray, "point 3"], tets: Int[ndarray, "tet 4"]
) -> tuple[Float[ndarray, "corner 3"], Int[ndarray, "cell 4"]]:
    """The tets inside the union of cones, with corners of their own."""
    length = np.zeros(len(points))
    for a, b in EDGES:
        edge = np.linalg.norm(points[tets[:, a]] - points[tets[:, b]], axis=1)
        np.maximum.at(length, tets[:, a], edge)
        np.maximum.at(length, tets[:, b], edge)
    distance, _, cone = cones.distance(points, length)
    distance = np.where(distance == 0, 1e-12, distance)
    inside = distance < 0
    tets = positive(points, tets[inside[tets].any(1)])
    crossed = tets[~inside[tets].all(1)]
    crossings = _crossings(cones, points, crossed, distance)
    snapped, moved = _snapped(points, tets, crossings)
    _let_go(cones, points, tets, inside, cone, snapped, moved)
    crossings = crossings.clear_of_corners(points)
    for _ in range(ROUNDS):
        sign = np.where(snapped, 0, np.where(inside, -1, 1))
        every, cells = _cut(cones, moved, tets, sign, crossings)
        pinched = pinches(cells)
        pinched = pinched[pinched < len(points)]
        undo = pinched[snapped[pinched]]
        if not len(undo):
            break
        snapped[undo], moved[undo] = False, points[undo]
    used, cells = np.unique(cells, return_inverse=True)
    return every[used], cells.reshape(-1, 4)


def _crossings(
    cones: RoundCones, points: ndarray, crossed: ndarray, distance: ndarray
) -> Crossings:
    """Where each edge passes the surface, by two steps of regula falsi."""
    ends = np.concatenate([crossed[:, pair] for pair in EDGES])
    edges = np.unique(np.sort(ends, 1), axis=0)
    edges = edges[(distance[edges[:, 0]] < 0) != (distance[edges[:, 1]] < 0)]
    first, axis = points[edges[:, 0]], points[edges[:, 1]] - points[edges[:, 0]]
    at_first, at_second = distance[edges[:, 0]], distance[edges[:, 1]]
    share = at_first / (at_first - at_second)
    for _ in range(2):
        here = cones.distance(first + share[:, None] * axis, np.linalg.norm(axis, axis=1))[0]
        same = (here < 0) == (at_first < 0)
        onward = share + (1 - share) * here / np.where(same, here - at_second, 1)
        share = np.where(same, onward, share * at_first / np.where(same, 1, at_first - here))
    share = np.clip(share, 1e-4, 1 - 1e-4)
    return Crossings(edges, share, first + share[:, None] * axis)


def _snapped(points: ndarray, tets: ndarray, crossings: Crossings) -> tuple[ndarray, ndarray]:
    """Which corners are moved to their nearest crossing, and all corners after that."""
    nearest, crossing = np.full(len(points), np.inf), np.full(len(points), -1)
    for end, share in ((0, crossings.share), (1, 1 - crossings.share)):
        corner = crossings.edges[:, end]
        order = np.argsort(-share, kind="stable")
        order = order[share[order] < nearest[corner[order]]]
        nearest[corner[order]], crossing[corner[order]] = share[order], order
    snapped, moved = nearest < SNAP, points.copy()
    moved[snapped] = crossings.points[crossing[snapped]]
    for _ in range(ROUNDS):
        bad = (quality(moved, tets) < WORST) & snapped[tets].any(1)
        if not bad.any():
            break
        undo = np.unique(tets[bad])
        undo = undo[snapped[undo]]
        snapped[undo], moved[undo] = False, points[undo]
    return snapped, moved


def _let_go(
    cones: RoundCones,
    points: ndarray,
    tets: ndarray,
    inside: ndarray,
    cone: ndarray,
    snapped: ndarray,
    moved: ndarray,
) -> None:
    """Corners go back from the surface where an edge of theirs leads over a gap to another one."""
    some = tets[snapped[tets].any(1)]
    edges = np.unique(np.sort(some[:, np.array(EDGES)].reshape(-1, 2), 1), axis=0)
    edges = edges[(snapped | inside)[edges].all(1) & snapped[edges].any(1)]
    there, cone = np.unique(edges), cone.copy()
    there = there[snapped[there]]
    reach = np.full(len(there), cones.median_radius)
    cone[there] = cones.distance(moved[there], reach)[2]
    edges = edges[(cone[edges[:, 0]] != cone[edges[:, 1]]) & (cone[edges] >= 0).all(1)]
    undo = np.unique(edges[cones.apart(moved[edges], cone[edges])])
    undo = undo[snapped[undo]]
    snapped[undo], moved[undo] = False, points[undo]


def _cut(
    cones: RoundCones, points: ndarray, tets: ndarray, sign: ndarray, crossings: Crossings
) -> tuple[ndarray, ndarray]:
    """Corners with crossings after them, and the tets on the negative side, without crumbs."""
    every = np.concatenate([points, crossings.points])
    signs = sign[tets]
    low, high = (signs < 0).sum(1), (signs > 0).sum(1)
    cells = [tets[(high == 0) & (low > 0)]]
    flat = tets[(high == 0) & (low == 0)]
    if len(flat):
        middle = points[flat].mean(1)
        reach = np.linalg.norm(points[flat] - middle[:, None], axis=2).max(1)
        cells.append(flat[cones.distance(middle, reach)[0] < 0])
    # Corners inside first, then those on the surface, then those outside; each by number.
    order = np.argsort(signs.astype(np.int64) * 4 * len(points) + tets, axis=1)
    ordered = np.take_along_axis(tets, order, 1)

    def at(first: ndarray, second: ndarray) -> ndarray:
        return crossings.number(first, second, len(points))

    cells += templates(ordered, low, high, at, every)
    cell = positive(every, np.concatenate(cells))
    part = parts_by_faces(cell)
    volume = np.bincount(part, volumes(every, cell))
    corners = every[cell[np.unique(part, return_index=True)[1]]]
    middle = corners.mean(1)
    reach = np.linalg.norm(corners - middle[:, None], axis=2).max(1)
    ball = 4 / 3 * np.pi * cones.distance(middle, reach)[1] ** 3
    return every, cell[(volume > CRUMB * ball)[part]]


def templates(
    ordered: ndarray,
    low: ndarray,
    high: ndarray,
    at: Callable[[ndarray, ndarray], ndarray],
    every: ndarray,
) -> list[ndarray]:
    """What is left of tets with `low` corners inside and `high` outside, in tets."""
    cells = []
    for outside in (1, 2, 3):  # one corner inside: a smaller tet
        tet = ordered[(low == 1) & (high == outside)]
        on = 4 - outside
        corners = [tet[:, 0], *(tet[:, i] for i in range(1, on))]
        corners += [at(tet[:, 0], tet[:, i]) for i in range(on, 4)]
        cells.append(np.stack(corners, 1))
    a, b, on, c = ordered[(low == 2) & (high == 1)].T  # a pyramid over a, b and their crossings
    ac, bc = at(a, c), at(b, c)
    cells += [np.stack([on, a, b, bc], 1), np.stack([on, a, bc, ac], 1)]
    a, b, c, d = ordered[(low == 3) & (high == 1)].T  # a prism below the crossings
    ad, bd, cd = at(a, d), at(b, d), at(c, d)
    prism = ([a, ad, bd, cd], [a, b, bd, cd], [a, b, c, cd])
    cells += [np.stack(corners, 1) for corners in prism]
    a, b, c, d = ordered[(low == 2) & (high == 2)].T  # a wedge; its square takes the short diagonal
    ac, ad, bc, bd = at(a, c), at(a, d), at(b, c), at(b, d)
    cells.append(np.stack([a, b, bc, bd], 1))
    first = np.linalg.norm(every[ac] - every[bd], axis=1)
    short = first < np.linalg.norm(every[ad] - every[bc], axis=1)
    cells += [
        np.stack([a, ac, ad, bd], 1)[short],
        np.stack([a, ac, bd, bc], 1)[short],
        np.stack([a, ac, ad, bc], 1)[~short],
        np.stack([a, ad, bd, bc], 1)[~short],
    ]
    return cells
