"""From the triangles of a file to parts that face outwards; what was wrong, and what was mended."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from spinmesh.errors import MeshError
from spinmesh.meshing.surface import Surface, edges_of, parts_of

# Corners nearer than this fraction of the surface, or of its shortest edge, are one.
WELD = (1e-6, 1e-2)
# Triangles of a worse shape have no good tet beside them.
SLIVER = 0.05
# A new triangle looks where the old ones beside it look, up to this angle's cosine (60 degrees).
SAME_SIDE = 0.5
# Slivers beside slivers are mended one after the other.
PASSES = 8


@dataclass(frozen=True)
class Fault:
    """One kind of fault of a surface or a mesh, how often it is there, and where first (um)."""

    what: str
    count: int
    place: tuple[float, float, float]
    mended: bool = False

    def __str__(self) -> str:
        where = ", ".join(f"{x:.5g}" for x in self.place)
        return f"{self.count:,} {self.what} (first at {where})" + (", mended" * self.mended)


def mended(
    points: Float[ndarray, "point 3"], triangles: Int[ndarray, "triangle 3"], name: str
) -> tuple[Surface, tuple[Fault, ...]]:
    """A surface in parts, each turned outwards, and the faults that were mended on the way.

    Corners at one place become one (no fault: .stl has them so), and so do those that nearly are;
    triangles without area, and second copies, are dropped; within each part all triangles follow
    the sense of the majority. Raises MeshError where a corner is not
    finite or not there, or no triangle is left.
    """
    points, triangles = _sound(points, triangles, name)
    welded, triangles = _welded(points, triangles)
    faults = [_fault("corners that nearly lay on others", welded, points)]
    whole, dropped = _without_lines(points, triangles)
    faults += [_fault("triangles without area", dropped[:, 0], points)]
    triangles, again = _without_copies(whole)
    faults += [_fault("triangles twice", again[:, 0], points)]
    if not len(triangles):
        raise MeshError(f"{name}: no triangle has an area. Export it again.")
    used, triangles = np.unique(triangles, return_inverse=True)
    triangles, points = triangles.reshape(-1, 3), points[used]
    part = parts_of(triangles)
    triangles, turned = _in_one_sense(triangles)
    faults += [_fault("triangles turned against their part", triangles[turned, 0], points)]
    surface = Surface(points, triangles, part, (name,) * int(part.max() + 1))
    inside_out = surface.volumes < 0
    triangles = np.where(inside_out[part][:, None], triangles[:, ::-1], triangles)
    _, first = np.unique(part, return_index=True)
    faults += [_fault("parts inside out", triangles[first[inside_out], 0], points)]
    outward = Surface(points, triangles, part, surface.names)
    return outward, tuple(fault for fault in faults if fault.count)


def _fault(what: str, corners: ndarray, points: ndarray) -> Fault:
    place = points[corners[0]] if len(corners) else np.zeros(3)
    return Fault(what, len(corners), tuple(place.tolist()), mended=True)


def _sound(points: ndarray, triangles: ndarray, name: str) -> tuple[ndarray, ndarray]:
    if points.ndim != 2 or points.shape[1] != 3 or triangles.shape[1:] != (3,):
        raise MeshError(f"{name}: no triangles with corners in space. Export a surface.")
    if not len(triangles):
        raise MeshError(f"{name}: no triangles. Export the surface, not its points alone.")
    low, high = int(triangles.min()), int(triangles.max())
    if low < 0 or high >= len(points):
        raise MeshError(
            f"{name}: triangles point at corners {low}..{high} of {len(points)}. The file is "
            "damaged; export it again."
        )
    used = np.unique(triangles)
    wrong = used[~np.isfinite(points[used]).all(1)]
    if len(wrong):
        raise MeshError(
            f"{name}: {len(wrong):,} of {len(points):,} corners are not finite (first: {wrong[0]})."
            " Export it again."
        )
    if np.abs(points[used]).max() > 1e12:
        raise MeshError(f"{name}: coordinates up to {np.abs(points[used]).max():.3g}. Mend them.")
    return np.where(np.isfinite(points), points, 0.0), triangles.astype(np.int64)


def _welded(points: ndarray, triangles: ndarray) -> tuple[ndarray, ndarray]:
    """The corners that were moved, and triangles that point at the first corner of each place."""
    used = np.unique(triangles)
    extent = np.ptp(points[used], axis=0).max()
    edges = np.linalg.norm(points[triangles] - points[np.roll(triangles, -1, 1)], axis=2)
    real = edges[edges > WELD[0] * extent]
    near = min(WELD[0] * extent, WELD[1] * real.min()) if len(real) else 0.0
    # Equal corners first: a file of loose triangles has each six times, and pairs grow as squares.
    _, first, place = np.unique(points[used], axis=0, return_index=True, return_inverse=True)
    pairs = cKDTree(points[used[first]]).query_pairs(near, output_type="ndarray")
    graph = coo_array((np.ones(len(pairs)), pairs.T), shape=(len(first),) * 2)
    group = connected_components(graph, directed=False)[1][place.ravel()]
    _, leader = np.unique(group, return_index=True)
    one = np.zeros(len(points), dtype=np.int64)
    one[used] = used[leader[group]]
    return used[(points[one[used]] != points[used]).any(1)], one[triangles]


def _without_lines(points: ndarray, triangles: ndarray) -> tuple[ndarray, ndarray]:
    """Triangles with three different corners, and the others."""
    line = (triangles == np.roll(triangles, 1, 1)).any(1)
    return triangles[~line], triangles[line]


def _without_copies(triangles: ndarray) -> tuple[ndarray, ndarray]:
    """Each triangle once, in the order of the file, and the other copies."""
    _, first = np.unique(np.sort(triangles, 1), axis=0, return_index=True)
    once = np.zeros(len(triangles), dtype=bool)
    once[first] = True
    return triangles[once], triangles[~once]


def _in_one_sense(triangles: ndarray) -> tuple[ndarray, ndarray]:
    """Triangles that agree with their neighbours about outside, and which were turned for it.

    Neighbours agree if their common edge runs up in one and down in the other. An edge of three or
    more triangles joins nothing.
    """
    edges, triangle, down = edges_of(triangles)
    start = np.flatnonzero(np.r_[True, (edges[1:] != edges[:-1]).any(1)])
    two = start[np.diff(np.r_[start, len(edges)]) == 2]
    count = len(triangles)
    first, second = triangle[two], triangle[two + 1]
    against = down[two] == down[two + 1]
    # Two nodes for each triangle, as it is and turned: neighbours that agree join like to like.
    ends = (
        np.r_[first, first + count],
        np.r_[np.where(against, second + count, second), np.where(against, second, second + count)],
    )
    graph = coo_array((np.ones(len(ends[0])), ends), shape=(2 * count,) * 2)
    sense = connected_components(graph, directed=False)[1]
    plain, turned = sense[:count], sense[count:]
    # Of the two components of a part, the one with more triangles as they are; a surface of one
    # side (Moebius) has but one, and stays as it is.
    votes = np.bincount(plain, minlength=sense.max() + 1)
    flip = votes[turned] > votes[plain]
    tie = (votes[turned] == votes[plain]) & (turned < plain)
    flip |= tie
    return np.where(flip[:, None], triangles[:, ::-1], triangles), np.flatnonzero(flip)


def triangle_quality(corners: Float[ndarray, "triangle 3 3"]) -> Float[ndarray, " triangle"]:
    """4 sqrt(3) area / sum of squared edges: 1 for a regular triangle, 0 for a line."""
    edges = corners - np.roll(corners, 1, 1)
    area = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1) / 2
    squares = (edges**2).sum((1, 2))
    return 4 * np.sqrt(3) * np.divide(area, squares, out=np.zeros_like(area), where=squares > 0)


def without_slivers(surface: Surface) -> tuple[Surface, int]:
    """The surface with the edges of its slivers turned or collapsed, and how many slivers stay.

    A sliver's longest edge becomes the other diagonal of the two triangles beside it, or its
    shortest edge becomes one of its ends: whichever leaves the better worst triangle. Nothing else
    moves.
    """
    points, triangles = surface.points, surface.triangles.copy()
    slivers = _slivers(points, triangles)
    for _ in range(PASSES):
        for sliver in slivers.tolist():
            if sliver in _slivers(points, triangles[[sliver]], sliver):
                changes = [
                    _turned_edge(points, triangles, sliver),
                    *_collapsed_edges(points, triangles, sliver),
                ]
                better = [change for change in changes if change]
                if better:
                    change = max(better, key=lambda each: each.worst)
                    triangles[change.rows] = change.triangles
        slivers = _slivers(points, triangles)
    there = (triangles >= 0).all(1)
    return Surface(points, triangles[there], surface.part[there], surface.names), len(slivers)


def _slivers(points: ndarray, triangles: ndarray, start: int = 0) -> Int[ndarray, " sliver"]:
    """Rows of slivers, counted from `start`, the worst first."""
    there = np.flatnonzero((triangles >= 0).all(1))
    quality = triangle_quality(points[triangles[there]])
    return start + there[np.argsort(quality)][: int((quality < SLIVER).sum())]


@dataclass(frozen=True, eq=False)
class _Change:
    """New triangles in some rows (-1: no triangle any more), and the quality of the worst."""

    rows: ndarray
    triangles: ndarray
    worst: float


def _change(
    points: ndarray, triangles: ndarray, rows: ndarray, new: ndarray, looks: ndarray
) -> _Change | None:
    """The change, if it leaves fewer slivers or a better worst one, and all look along `looks`."""
    there = (new >= 0).all(1)
    corners = points[new[there]]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normal, axis=1)
    before, after = triangle_quality(points[triangles[rows]]), triangle_quality(corners)
    fewer = (after < SLIVER).sum() < (before < SLIVER).sum()
    # Where a sliver looks is rounding.
    turned = ((normal * looks[there]).sum(1) < SAME_SIDE * length) & (before[there] >= SLIVER)
    if turned.any() or not (fewer or after.min(initial=1.0) > before.min()):
        return None
    return _Change(rows, new, float(after.min(initial=1.0)))


def _normals(corners: ndarray) -> ndarray:
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return np.asarray(normal / np.linalg.norm(normal, axis=1, keepdims=True))


def _turned_edge(points: ndarray, triangles: ndarray, sliver: int) -> _Change | None:
    """The longest edge ab of abc and bad becomes cd."""
    corners = points[triangles[sliver]]
    lengths = np.linalg.norm(corners - np.roll(corners, -1, 0), axis=1)
    a, b, c = np.roll(triangles[sliver], -int(lengths.argmax()))
    beside = np.flatnonzero((triangles == a).any(1) & (triangles == b).any(1))
    if len(beside) != 2:
        return None
    other = int(beside[beside != sliver][0])
    d = int(triangles[other][~np.isin(triangles[other], (a, b))][0])
    if ((triangles == c).any(1) & (triangles == d).any(1)).any():
        return None
    # A sliver has no direction to speak of: its neighbour's counts.
    look = _normals(points[triangles[[other]]])
    rows, new = np.array([sliver, other]), np.array([[c, a, d], [c, d, b]])
    return _change(points, triangles, rows, new, np.repeat(look, 2, 0))


def _collapsed_edges(points: ndarray, triangles: ndarray, sliver: int) -> list[_Change | None]:
    """The shortest edge becomes its first end, or its second."""
    corners = points[triangles[sliver]]
    lengths = np.linalg.norm(corners - np.roll(corners, -1, 0), axis=1)
    first, second, _ = np.roll(triangles[sliver], -int(lengths.argmin()))
    around = [np.flatnonzero((triangles == end).any(1)) for end in (first, second)]
    both = np.intersect1d(around[0], around[1])
    near = [np.unique(triangles[rows]) for rows in around]
    # Two triangles go; their tips are all that the ends' neighbours have in common.
    if len(both) != 2 or len(np.intersect1d(near[0], near[1])) != 4:
        return []
    changes = []
    for stays, goes, rows in ((first, second, around[1]), (second, first, around[0])):
        new = np.where(triangles[rows] == goes, stays, triangles[rows])
        new[np.isin(rows, both)] = -1
        changes.append(_change(points, triangles, rows, new, _normals(points[triangles[rows]])))
    return changes
