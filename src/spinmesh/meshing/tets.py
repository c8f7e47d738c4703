"""Shape and connection of tetrahedra, in numpy alone: what a mesher has to keep."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

HALVINGS = 12
REFILLS = 6
# A step in and a longer one out, this often: steps of a voxel go, waves of ten stay.
INWARDS, OUTWARDS, PASSES = 0.5, -0.53, 20


def volumes(
    points: Float[ndarray, "point 3"], tets: Int[ndarray, "tet 4"]
) -> Float[ndarray, " tet"]:
    """Signed volume of each tet, um^3."""
    a, b, c, d = np.moveaxis(points[tets], 1, 0)
    return np.einsum("ij,ij->i", b - a, np.cross(c - a, d - a)) / 6


def quality(
    points: Float[ndarray, "point 3"], tets: Int[ndarray, "tet 4"]
) -> Float[ndarray, " tet"]:
    """6 sqrt(2) volume / (root mean square edge)^3: 1 for a regular tet, 0 for a flat one.

    The same as `spinmesh.mesh.tet_quality`, without torch.
    """
    first, second = np.triu_indices(4, 1)
    edges = points[tets[:, first]] - points[tets[:, second]]
    length = np.sqrt((edges**2).sum(2).mean(1))
    return 6 * np.sqrt(2) * volumes(points, tets) / length**3


def positive(
    points: Float[ndarray, "point 3"], tets: Int[ndarray, "tet 4"]
) -> Int[ndarray, "tet 4"]:
    """The same tets with their corners in positive order."""
    turned = volumes(points, tets) < 0
    return np.where(turned[:, None], tets[:, [0, 2, 1, 3]], tets)


def moved(
    points: Float[ndarray, "point 3"],
    step: Float[ndarray, "point 3"],
    tets: Int[ndarray, "tet 4"],
    floor: float,
) -> Float[ndarray, "point 3"]:
    """Points moved by their steps, halved and at last left out where a tet would be spoilt.

    A tet is spoilt if its quality falls below `floor`, or below what it was if that is less.
    """
    least, share = np.minimum(quality(points, tets), floor), np.ones(len(points))
    for _ in range(HALVINGS):
        there = points + share[:, None] * step
        bad = quality(there, tets) < least
        if not bad.any():
            return there
        spoilt = np.unique(tets[bad])
        share[spoilt] = np.where(share[spoilt] < 0.1, 0, share[spoilt] / 2)
    return points


def smoothed(
    points: Float[ndarray, "point 3"],
    tets: Int[ndarray, "tet 4"],
    label: Int[ndarray, " tet"],
    fixed: Bool[ndarray, " point"],
    floor: float,
) -> Float[ndarray, "point 3"]:
    """Corners of interfaces at the mean of their neighbours and back out, in turns (Taubin 1995).

    Those that are `fixed` stay; no tet is brought below the quality `floor`.
    """
    faces = np.concatenate([boundary(tets[label == each]) for each in np.unique(label)])
    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    both = np.concatenate([ends, ends[:, ::-1]])
    shape = (len(points), len(points))
    joined = csr_array(coo_array((np.ones(len(both)), both.T), shape=shape))
    joined.data[:] = 1
    count = joined.sum(1)
    there, free = points.copy(), (count > 0) & ~fixed
    for _ in range(PASSES):
        for step in (INWARDS, OUTWARDS):
            mean = joined @ there / np.maximum(count, 1)[:, None]
            there[free] += step * (mean - there)[free]
    return moved(points, there - points, tets, floor)


def refilled(
    points: Float[ndarray, "point 3"],
    tets: Int[ndarray, "tet 4"],
    part: Int[ndarray, " tet"],
    volume: Float[ndarray, " part"],
    fixed: Bool[ndarray, " point"],
    floor: float,
) -> Float[ndarray, "point 3"]:
    """Interfaces moved along their normals until each part has its volume (um^3) again.

    Where parts meet, the smaller one moves. Corners that are `fixed` stay, and no tet is brought
    below the quality `floor`, so that a volume may stay wrong.
    """
    for _ in range(REFILLS):
        lost = volume - np.bincount(part, volumes(points, tets), len(volume))
        step = np.zeros_like(points)
        for each in np.argsort(-volume)[: np.count_nonzero(volume)]:
            faces = boundary(tets[part == each])
            a, b, c = np.moveaxis(points[faces], 1, 0)
            outward = np.cross(b - a, c - a) / 2
            normal = np.zeros_like(points)
            np.add.at(normal, faces.ravel(), np.repeat(outward, 3, 0))
            corners = np.unique(faces)
            length = np.linalg.norm(normal[corners], axis=1, keepdims=True)
            thickness = lost[each] / np.linalg.norm(outward, axis=1).sum()
            step[corners] = thickness * normal[corners] / np.maximum(length, 1e-300)
        step[fixed] = 0
        points = moved(points, step, tets, floor)
    return points


def boundary(tets: Int[ndarray, "tet 4"]) -> Int[ndarray, "triangle 3"]:
    """Faces that belong to one tet only, counter-clockwise from outside."""
    faces = np.concatenate([tets[:, f] for f in ([1, 2, 3], [0, 3, 2], [0, 1, 3], [0, 2, 1])])
    _, first, count = np.unique(np.sort(faces, 1), axis=0, return_index=True, return_counts=True)
    return faces[np.sort(first[count == 1])]


def parts_by_faces(tets: Int[ndarray, "tet 4"]) -> Int[ndarray, " tet"]:
    """The number of each tet's part: tets that share a face are in one part."""
    faces = np.sort(tets[:, [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]].reshape(-1, 3), 1)
    order = np.lexsort(faces.T)
    same = (faces[order[1:]] == faces[order[:-1]]).all(1)
    pairs = (order[:-1][same] // 4, order[1:][same] // 4)
    graph = coo_array((np.ones(len(pairs[0])), pairs), shape=(len(tets),) * 2)
    return connected_components(graph, directed=False)[1].astype(np.int64)


def pinches(tets: Int[ndarray, "tet 4"]) -> Int[ndarray, " pinched"]:
    """Corners where the boundary is no disc: an edge of more than two faces, or two sheets."""
    faces = boundary(tets)
    ends = np.sort(np.stack([faces, np.roll(faces, -1, 1)], 2).reshape(-1, 2), 1)
    edges, count = np.unique(ends, axis=0, return_counts=True)
    many = edges[count != 2].ravel()
    # Corners of faces are joined over the edges that two faces share: one group for each sheet.
    corner = np.arange(faces.size).reshape(-1, 3)
    sides = []
    for i in range(3):
        for j in ((i + 1) % 3, (i + 2) % 3):
            low, high = np.minimum(faces[:, i], faces[:, j]), np.maximum(faces[:, i], faces[:, j])
            sides.append(np.stack([low, high, faces[:, i], corner[:, i]], 1))
    side = np.concatenate(sides)
    side = side[np.lexsort(side[:, 2::-1].T)]
    same = (side[1:, :3] == side[:-1, :3]).all(1)
    pairs = (side[:-1, 3][same], side[1:, 3][same])
    graph = coo_array((np.ones(len(pairs[0])), pairs), shape=(faces.size,) * 2)
    sheet = connected_components(graph, directed=False)[1]
    _, first = np.unique(sheet, return_index=True)
    corners, sheets = np.unique(faces.ravel()[first], return_counts=True)
    return np.unique(np.concatenate([many, corners[sheets > 1]])).astype(np.int64)
