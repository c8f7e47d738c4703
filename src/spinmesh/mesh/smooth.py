"""Middles of triangles' edges on the smooth surface that the corners were taken from.

A quadratic height function is fitted round each corner to the corners that it has triangles with;
the middle of an edge is at the mean of the heights fitted at both ends (measured beside normals
averaged in several ways in docs/results/tissue.md). Fits stop at sharp edges, whose own middles lie
on cubics through four corners along them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.sparse import coo_array, csr_array, diags_array
from scipy.sparse.csgraph import connected_components

# Angle (rad) between triangles, and between edges along a sharp one, that is taken for the body's
# own: as in the estimate of a mesh's error, a hexagonal tube's 1.05 is not.
SHARP = 1.1
# A fit takes the second ring of corners too where the first has fewer than its five coefficients;
# at most so many corners, nearest first; smaller singular values are noise.
FEWEST, NEIGHBOURS, RANK = 5, 30, 1e-2
# Powers of the two coordinates in the fitted height.
POWERS = ((1, 0), (0, 1), (2, 0), (1, 1), (0, 2))


def surface_middles(
    points: Float[ndarray, "point 3"], triangles: Int[ndarray, "triangle 3"]
) -> tuple[Int[ndarray, "edge 2"], Float[ndarray, "edge 3"]]:
    """The edges of triangles, each once, and where the smooth surface has their middles."""
    start, end = triangles.ravel(), np.roll(triangles, -1, 1).ravel()
    ends = np.sort(np.stack([start, end], 1), 1)
    edges, edge, count = np.unique(ends, axis=0, return_inverse=True, return_counts=True)
    order = np.argsort(edge, kind="stable")
    first, second = order[count[edge[order]] == 2].reshape(-1, 2).T
    a, b, c = np.moveaxis(points[triangles], 1, 0)
    normal = np.cross(b - a, c - a)
    normal /= np.linalg.norm(normal, axis=1)[:, None]
    smooth = (normal[first // 3] * normal[second // 3]).sum(1) > np.cos(SHARP)
    first, second = first[smooth], second[smooth]
    following = np.arange(len(start)).reshape(-1, 3)[:, [1, 2, 0]].ravel()
    fan = _fans(first, second, following, start)
    fits = _Fits.of(points, triangles, normal, fan)
    middles, chosen = points[edges].mean(1), edge[first]
    middles[chosen] = np.mean(
        [fits.at(fan[corner], middles[chosen]) for corner in (first, following[first])], axis=0
    )
    sharp = np.ones(len(edges), dtype=bool)
    sharp[chosen] = False
    middles[sharp] = _middles_along(points, edges[sharp])
    return edges, middles


def _fans(first: ndarray, second: ndarray, following: ndarray, start: ndarray) -> ndarray:
    """A number for each corner of a triangle, the same round a point up to the sharp edges there.

    `first` and `second` are the copies of each smooth edge, as the corners that they start from.
    """
    along = start[first] == start[second]
    here, there = second, following[second]
    ends = (
        np.concatenate([first, following[first]]),
        np.concatenate([np.where(along, here, there), np.where(along, there, here)]),
    )
    graph = coo_array((np.ones(len(ends[0])), ends), shape=(len(start),) * 2)
    return np.asarray(connected_components(graph, directed=False)[1])


@dataclass(frozen=True, eq=False)
class _Fits:
    """A height function over the tangent plane of each fan, through its corner."""

    origin: Float[ndarray, "fan 3"]
    frame: Float[ndarray, "fan 3 3"]  # rows: two tangents and the normal
    scale: Float[ndarray, " fan"]
    coefficients: Float[ndarray, "fan power"]

    @classmethod
    def of(cls, points: ndarray, triangles: ndarray, normal: ndarray, fan: ndarray) -> _Fits:
        """By least squares with weights 1 / distance^2."""
        count = int(fan.max()) + 1
        origin = np.zeros((count, 3))
        origin[fan] = points[triangles.ravel()]
        around = [np.bincount(fan, np.repeat(n, 3), count) for n in normal.T]
        frame = _frames(np.stack(around, 1))
        row, apart, rank = _neighbours(fan.reshape(-1, 3), origin)
        square = (apart**2).sum(1)
        scale = np.sqrt(np.bincount(row, square, count) / np.bincount(row, minlength=count))
        local = np.einsum("nab,nb->na", frame[row], apart) / scale[row, None]
        weight = scale[row] ** 2 / square
        matrix = np.zeros((count, NEIGHBOURS, len(POWERS)))
        height = np.zeros((count, NEIGHBOURS, 1))
        matrix[row, rank] = weight[:, None] * _monomials(local)
        height[row, rank, 0] = weight * local[:, 2]
        return cls(origin, frame, scale, (np.linalg.pinv(matrix, rcond=RANK) @ height)[..., 0])

    def at(self, fan: Int[ndarray, " point"], points: Float[ndarray, "point 3"]) -> ndarray:
        """The points moved along the normals of their fans onto the fitted surface."""
        frame = self.frame[fan]
        local = np.einsum("nab,nb->na", frame, points - self.origin[fan])
        scale = self.scale[fan]
        powers = _monomials(local / scale[:, None])
        local[:, 2] = scale * (powers * self.coefficients[fan]).sum(1)
        return np.asarray(self.origin[fan] + np.einsum("nab,na->nb", frame, local))


def _monomials(local: ndarray) -> ndarray:
    return np.stack([local[:, 0] ** i * local[:, 1] ** j for i, j in POWERS], -1)


def _frames(normal: Float[ndarray, "fan 3"]) -> Float[ndarray, "fan 3 3"]:
    normal = normal / np.maximum(np.linalg.norm(normal, axis=1), 1e-300)[:, None]
    first = np.cross(normal, np.eye(3)[np.abs(normal).argmin(1)])
    first /= np.maximum(np.linalg.norm(first, axis=1), 1e-300)[:, None]
    return np.stack([first, np.cross(normal, first), normal], 1)


def _neighbours(fans: Int[ndarray, "triangle 3"], origin: ndarray) -> tuple[ndarray, ...]:
    """Fan, vector to a neighbour, and the neighbour's rank by distance, for each pair of them."""
    count = len(origin)
    pairs = fans[:, list(product(range(3), repeat=2))].reshape(-1, 2)
    ring = csr_array(coo_array((np.ones(len(pairs)), pairs.T), shape=(count, count)))
    # A fan is among its own neighbours here.
    few = np.diff(ring.indptr) <= FEWEST
    row, column = coo_array(ring + diags_array(few.astype(float)) @ ring @ ring).coords
    apart = origin[column] - origin[row]
    distance = np.linalg.norm(apart, axis=1)
    order = np.lexsort((distance, row))
    order = order[distance[order] > 0]
    row, apart = row[order], apart[order]
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    near = rank < NEIGHBOURS
    return row[near], apart[near], rank[near]


def _middles_along(points: ndarray, edges: Int[ndarray, "edge 2"]) -> Float[ndarray, "edge 3"]:
    """Middles of sharp edges on cubics in the length along them, through the edges' neighbours.

    A neighbour is the only other sharp edge at an end, if it goes on without a corner.
    """
    both = np.concatenate([edges, edges[:, ::-1]])
    both = both[np.argsort(both[:, 0], kind="stable")]
    corner, first, count = np.unique(both[:, 0], return_index=True, return_counts=True)
    ends = np.full((len(points), 2), -1)
    pair = first[count == 2]
    ends[corner[count == 2]] = np.stack([both[pair, 1], both[pair + 1, 1]], 1)
    a, b = edges.T
    length = np.linalg.norm(points[b] - points[a], axis=1)
    places, values, there = [0 * length, length], [points[a], points[b]], [length > 0, length > 0]
    for here, other, sign in ((a, b, -1), (b, a, 1)):
        beyond = np.where(ends[here, 0] == other, ends[here, 1], ends[here, 0])
        apart = points[beyond] - points[here]
        gap = np.linalg.norm(apart, axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            cosine = (apart * (points[here] - points[other])).sum(1) / (gap * length)
        there.append((beyond >= 0) & (cosine > np.cos(SHARP)))
        places.append(sign * gap + (length if sign > 0 else 0))
        values.append(points[beyond])
    middles = np.zeros((len(edges), 3))
    for i in range(4):
        share = there[i].astype(float)
        for j in {0, 1, 2, 3} - {i}:
            with np.errstate(divide="ignore", invalid="ignore"):
                part = (length / 2 - places[j]) / (places[i] - places[j])
            share *= np.where(there[i] & there[j], part, 1)
        middles += share[:, None] * values[i]
    return middles
