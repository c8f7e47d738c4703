"""What keeps a surface from enclosing a volume: holes, crossing triangles, edges of many sheets."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from spinmesh.errors import MeshError
from spinmesh.meshing.mending import Fault, mended
from spinmesh.meshing.surface import Surface, edges_of, united

# Pairs of triangles that are looked at in one go.
PAIRS = 1_000_000
# A volume of this fraction of its longest edge cubed cannot be told from zero.
TOUCHING = 1e-12
# Open edges for each triangle; one large hole in a small surface has a fifth.
LOOSE = 0.5
# Rounds in which faulty triangles are cut out, and the share of a part's area that may be new.
PATCHINGS, PATCHED = 4, 0.05


def faults_of(surface: Surface) -> tuple[Fault, ...]:
    """Every fault that makes a surface unusable for a sealed fill, with count and first place."""
    crossing = crossing_triangles(surface)
    faults = [
        *holes(surface),
        _many_sheets(surface),
        Fault("crossing triangles", len(crossing), _place(surface.corners[crossing].mean(1))),
    ]
    return tuple(fault for fault in faults if fault.count)


def holes(surface: Surface) -> tuple[Fault, ...]:
    """The holes, one fault for all, at the middle of the longest."""
    edges = _edges_by_count(surface, 1, 1)
    if not len(edges):
        return ()
    ends, edge = np.unique(edges, return_inverse=True)
    edge = edge.reshape(-1, 2)
    graph = coo_array((np.ones(len(edge)), edge.T), shape=(len(ends),) * 2)
    count, loop = connected_components(graph, directed=False)
    longest = np.bincount(loop[edge[:, 0]]).argmax()
    rim = surface.points[ends[loop == longest]]
    what = f"holes with {len(edges):,} open edges, the longest of {len(rim)} corners"
    return (Fault(what, count, _place(rim.mean(0, keepdims=True))),)


def _many_sheets(surface: Surface) -> Fault:
    edges = _edges_by_count(surface, 3, len(surface.triangles))
    middles = surface.points[edges].mean(1) if len(edges) else np.zeros((0, 3))
    return Fault("edges of three or more triangles", len(edges), _place(middles))


def question_loose(surface: Surface) -> None:
    """Raises MeshError where so many edges are open that the triangles make no surface."""
    count = len(_edges_by_count(surface, 1, 1))
    if count > LOOSE * len(surface.triangles):
        raise MeshError(
            f"{surface.names[0]}: {count:,} open edges of {len(surface.triangles):,} triangles, in "
            f"{len(surface.names):,} parts: corners that should be one are apart. Merge them "
            "(MeshLab: merge close vertices) and export the surface again."
        )


def patched(surface: Surface) -> tuple[Surface, Int[ndarray, " part"], str] | None:
    """The surface with its holes closed, which part each of its parts was, and what was done.

    Triangles that cross others, or have an edge with more than one, are cut out before, with those
    around them; flat patches (VTK) close what is open. None if the patches are a large part of a
    part's area, or a fault stays.
    """
    parts, origin, cut = [], list[int](), 0
    for number, name in enumerate(surface.names):
        part, _ = mended(surface.points, surface.triangles[surface.part == number], name)
        for _ in range(PATCHINGS):
            faulty = np.isin(part.triangles, part.triangles[_faulty(part)]).any(1)
            if not faulty.any() and not holes(part):
                break
            if faulty.mean() > PATCHED:
                return None
            part, cut = _closed(part, np.logical_not(faulty)), cut + int(faulty.sum())
        parts.append(part)
        origin += [number] * len(part.names)
    whole = united(parts)
    share = np.bincount(origin, _new_area(surface, whole)) / surface.areas
    if faults_of(whole) or share.max() > PATCHED:
        return None
    words = f"{cut:,} triangles cut out, {share.max():.2g} of the area of a part closed"
    if len(origin) > len(surface.names):
        words += f"; {len(surface.names)} parts became {len(origin)}"
    return whole, np.array(origin), words


def _faulty(surface: Surface) -> ndarray:
    """Triangles that cross others or have an edge with more than one."""
    edges, triangle, _ = edges_of(surface.triangles)
    _, count = np.unique(edges, axis=0, return_counts=True)
    many = np.repeat(count > 2, count)
    return np.union1d(crossing_triangles(surface), triangle[many])


def _closed(surface: Surface, which: ndarray) -> Surface:
    """Some of the triangles, and patches over what is open."""
    import pyvista

    rest = pyvista.PolyData.from_regular_faces(surface.points, surface.triangles[which])
    whole = rest.fill_holes(10 * surface.length).clean()
    faces = np.array(whole.regular_faces).view(np.int64)
    return mended(np.array(whole.points, dtype=np.float64), faces, surface.names[0])[0]


def _new_area(before: Surface, after: Surface) -> Float[ndarray, " part"]:
    """Area (um^2) of the triangles of each part that were not there before, by their middle."""
    middle = cKDTree(before.corners.mean(1))
    distance = middle.query(after.corners.mean(1))[0]
    area = np.linalg.norm(after.area_vectors, axis=1) * (distance > 1e-6 * before.length)
    return np.bincount(after.part, area, len(after.names))


def _edges_by_count(surface: Surface, least: int, most: int) -> ndarray:
    edges, _, _ = edges_of(surface.triangles)
    start = np.flatnonzero(np.r_[True, (edges[1:] != edges[:-1]).any(1)])
    count = np.diff(np.r_[start, len(edges)])
    return edges[start[(least <= count) & (count <= most)]]


def _place(points: ndarray) -> tuple[float, float, float]:
    x, y, z = points[0].tolist() if len(points) else (0.0, 0.0, 0.0)
    return x, y, z


def crossing_triangles(surface: Surface) -> Int[ndarray, " triangle"]:
    """Triangles through which an edge of another one passes, ascending.

    Two triangles cross only if an edge of one passes through the other. Triangles that touch, or
    lie on one another, do not count.
    """
    crossing = np.zeros(len(surface.triangles), dtype=bool)
    for edge, through in _near_pairs(surface):
        ends = np.stack([surface.triangles[edge], np.roll(surface.triangles[edge], -1, 1)], 2)
        for side in range(3):
            hit = _passes(surface, ends[:, side], through)
            crossing[edge[hit]] = crossing[through[hit]] = True
    return np.flatnonzero(crossing)


def _near_pairs(surface: Surface) -> Iterator[tuple[ndarray, ndarray]]:
    """Ordered pairs of triangles whose boxes overlap, in blocks.

    Triangles are looked up by their middle, those of one octave of size together: a large one must
    not widen the search of all.
    """
    low, high = surface.corners.min(1), surface.corners.max(1)
    middle = (low + high) / 2
    radius = np.linalg.norm(high - low, axis=1) / 2
    octave = np.floor(np.log2(radius)).astype(int)
    members = [np.flatnonzero(octave == each) for each in np.unique(octave)]
    for few in members:
        tree = cKDTree(middle[few])
        for number in range(0, len(radius), step := max(1, PAIRS // 64)):
            other = np.arange(number, min(number + step, len(radius)))
            reach = radius[other] + radius[few].max()
            lists = tree.query_ball_point(middle[other], reach)
            counts = np.fromiter(map(len, lists), int, len(lists))
            first = np.repeat(other, counts)
            second = few[np.concatenate([np.asarray(each, dtype=int) for each in lists])]
            overlap = (low[first] < high[second]).all(1) & (low[second] < high[first]).all(1)
            overlap &= first != second
            if overlap.any():
                yield first[overlap], second[overlap]


def _passes(surface: Surface, ends: ndarray, triangle: ndarray) -> ndarray:
    """Whether the edge between two corners passes through the inside of a triangle."""
    p, q = surface.points[ends[:, 0]], surface.points[ends[:, 1]]
    a, b, c = np.moveaxis(surface.corners[triangle], 1, 0)
    size = np.linalg.norm(q - p, axis=1) + np.ptp(surface.corners[triangle], axis=1).max(1)
    above, below = _volume(a, b, c, p), _volume(a, b, c, q)
    sides = np.stack([_volume(p, q, a, b), _volume(p, q, b, c), _volume(p, q, c, a)])
    least = TOUCHING * size**3
    apart = (np.minimum(np.abs(above), np.abs(below)) > least) & (np.sign(above) != np.sign(below))
    around = (np.abs(sides) > least).all(0) & (np.abs(np.sign(sides).sum(0)) == 3)
    shared = (ends[:, :, None] == surface.triangles[triangle][:, None]).any((1, 2))
    return apart & around & ~shared


def _volume(
    a: Float[ndarray, "pair 3"],
    b: Float[ndarray, "pair 3"],
    c: Float[ndarray, "pair 3"],
    d: Float[ndarray, "pair 3"],
) -> Float[ndarray, " pair"]:
    """Six times the signed volume of the tet a b c d."""
    return np.einsum("ij,ij->i", np.cross(b - a, c - a), d - a)
