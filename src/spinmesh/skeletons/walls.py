"""Tets cut flat by the walls of a cell, whatever compartments they are of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.spatial import cKDTree

from spinmesh.errors import MeshError
from spinmesh.mesh import TetMesh, check_quality, oriented
from spinmesh.mesh.faces import all_faces, pair_faces
from spinmesh.meshing.fill import Filling
from spinmesh.meshing.process import Limits, run_apart
from spinmesh.meshing.tets import positive, quality, volumes
from spinmesh.skeletons.background import EDGES
from spinmesh.skeletons.cutting import ROUNDS, SNAP, WORST, Crossings, templates

Labelled = tuple[ndarray, ndarray, ndarray]
# Of the cell's longest side: a corner nearer to a wall lies on it.
ON_WALL = 1e-9
# Of the median edge, that mmg may move a membrane by where it meets a wall.
LOOSE = 0.04


def cut_to_cell(
    filling: Filling,
    cell: Float[ndarray, "2 3"],
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> Filling:
    """What of straight tets lies within a cell (its lowest and highest corner, um).

    Membranes stay where they are but beside walls, where corners may slide within them; walls are
    flat to the last bit. Raises MeshError where nothing is left.
    """
    name, whole = filling.mesh.name, filling.mesh
    shape: Labelled = whole.points.numpy(), whole.tets.numpy(), whole.compartment.numpy()
    for axis, side in np.ndindex(3, 2):
        shape = _halved(*shape, cell, axis, side)
        if not len(shape[1]):
            low, high = (", ".join(f"{x:.5g}" for x in corner) for corner in cell)
            raise MeshError(
                f"{name}: nothing of it lies in the cell from {low} to {high} um. Give a cell "
                "that it reaches into."
            )
    points, tets, label = _trimmed(*shape, whole, cell, limits)
    cells = torch.from_numpy(tets), torch.from_numpy(label)
    mesh = TetMesh(torch.from_numpy(points), *cells, name)
    checked = check_quality(oriented(mesh), "Move the cell a little, or give a smaller --size.")
    sides = " x ".join(f"{side:.5g}" for side in cell[1] - cell[0])
    words = f"cut to a cell of {sides} um, which holds {volumes(points, tets).sum():.6g} um^3 of it"
    worst = f"worst quality of {len(tets):,} tets {quality(points, tets).min():.3g}"
    names = {each: filling.names[each] for each in checked.labels}
    return replace(filling, mesh=checked, names=names, notes=(*filling.notes, words, worst))


def _trimmed(
    points: ndarray, tets: ndarray, label: ndarray, whole: TetMesh, cell: ndarray, limits: Limits
) -> Labelled:
    """Tets as even as the whole mesh's, by mmg; walls stay flat, membranes as they are inside."""
    faces, kind = _membranes(points, tets, label, cell)
    beside = np.isin(faces, faces[_on_walls(points[faces], cell).any(0)]).any(1)
    size = _edges(whole.points.numpy(), whole.tets.numpy())
    job: dict[str, ndarray | float] = {
        "points": points,
        "tets": tets,
        "domain": label,
        "triangles": faces,
        "kind": kind + 1,
        "fixed": np.logical_not(beside),
        "size": size[cKDTree(whole.points.numpy()).query(points)[1]],
        "hausdorff": LOOSE * float(np.median(size)),
    }
    done = run_apart("spinmesh.meshing.worker:trim", job, limits, f"cutting {whole.name}")
    # mmg rounds.
    for axis, side in np.ndindex(3, 2):
        far = np.abs(done["points"][:, axis] - cell[side, axis])
        done["points"][far < ON_WALL * (cell[1] - cell[0]).max(), axis] = cell[side, axis]
    return done["points"], done["tets"], done["domain"]


def _edges(points: ndarray, tets: ndarray) -> Float[ndarray, " point"]:
    """Mean length of the edges at each corner, um."""
    length, count = np.zeros(len(points)), np.zeros(len(points))
    for pair in EDGES:
        ends = tets[:, pair]
        edge = np.linalg.norm(points[ends[:, 0]] - points[ends[:, 1]], axis=1)
        np.add.at(length, ends, edge[:, None])
        np.add.at(count, ends, 1)
    return np.asarray(length / np.maximum(count, 1))


def _halved(
    points: ndarray, tets: ndarray, label: ndarray, cell: ndarray, axis: int, side: int
) -> Labelled:
    """What lies on the inner side of one wall; no tets where nothing does."""
    length = float((cell[1] - cell[0]).max())
    height = (points[:, axis] - cell[side, axis]) * (1 if side else -1)
    height[np.abs(height) < ON_WALL * length] = 0
    if not (height > 0).any():
        return points, tets, label
    points = points.copy()
    points[height == 0, axis] = cell[side, axis]
    near = (height[tets] < 0).any(1)
    tets, label = tets[near], label[near]
    if not near.any():
        return points, tets, label
    crossings = _crossings(points, tets, height)
    crossings.points[:, axis] = cell[side, axis]
    free = _sliding(points, tets, label, cell, crossings.edges)
    sign, moved = _slid(points, tets, crossings, free, np.sign(height).astype(np.int64))
    every = np.concatenate([moved, crossings.points])
    cells, labels = [], []
    for each in np.unique(label):
        cut = _inside(tets[label == each], sign, crossings, every, len(points))
        cells.append(cut)
        labels.append(np.full(len(cut), each))
    cut, label = np.concatenate(cells), np.concatenate(labels)
    used, cut = np.unique(cut, return_inverse=True)
    return every[used], positive(every[used], cut.reshape(-1, 4)), label


def _slid(
    points: ndarray, tets: ndarray, crossings: Crossings, free: ndarray, sign: ndarray
) -> tuple[ndarray, ndarray]:
    """Signs and corners after those near a crossing slid onto it; no tet that stays is spoilt."""
    nearest, crossing = np.full(len(points), np.inf), np.full(len(points), -1)
    for end, share in ((0, crossings.share), (1, 1 - crossings.share)):
        share = np.where(free[:, end], share, np.inf)
        order = np.argsort(-share, kind="stable")
        corner = crossings.edges[order, end]
        closer = share[order] < nearest[corner]
        nearest[corner[closer]] = share[order][closer]
        crossing[corner[closer]] = order[closer]
    slides, moved = nearest < SNAP, points.copy()
    moved[slides] = crossings.points[crossing[slides]]
    for _ in range(ROUNDS):
        there = np.where(slides, 0, sign)
        stays = (there[tets] < 0).any(1) & slides[tets].any(1)
        bad = tets[stays][quality(moved, tets[stays]) < WORST]
        if not len(bad):
            break
        far = np.where(slides[bad], nearest[bad], -1).argmax(1)
        undo = np.unique(bad[np.arange(len(bad)), far])
        slides[undo], moved[undo] = False, points[undo]
    return np.where(slides, 0, sign), moved


def _inside(
    tets: ndarray, sign: ndarray, crossings: Crossings, every: ndarray, count: int
) -> Int[ndarray, "tet 4"]:
    """The negative side of tets of one compartment."""
    signs = sign[tets]
    low, high = (signs < 0).sum(1), (signs > 0).sum(1)
    order = np.argsort(signs * 4 * count + tets, axis=1)
    ordered = np.take_along_axis(tets, order, 1)

    def at(first: ndarray, second: ndarray) -> ndarray:
        return crossings.number(first, second, count)

    whole = tets[(high == 0) & (low > 0)]
    return np.concatenate([whole, *templates(ordered, low, high, at, every)])


def _crossings(points: ndarray, tets: ndarray, height: ndarray) -> Crossings:
    """Where edges pass the wall."""
    ends = np.concatenate([tets[:, pair] for pair in EDGES])
    edges = np.unique(np.sort(ends, 1), axis=0)
    first, second = height[edges].T
    edges = edges[first * second < 0]
    first, second = height[edges].T
    share = first / (first - second)
    start = points[edges[:, 0]]
    return Crossings(edges, share, start + share[:, None] * (points[edges[:, 1]] - start))


def _membranes(
    points: ndarray, tets: ndarray, label: ndarray, cell: ndarray
) -> tuple[Int[ndarray, "face 3"], Int[ndarray, " face"]]:
    """Faces between compartments and outside, and a number for each membrane and each wall."""
    faces = all_faces(tets)
    first, second, single = pair_faces(faces)
    of = np.repeat(label, 4)
    across = of[first] != of[second]
    first, second = first[across], second[across]
    sides = np.sort(np.stack([of[first], of[second]], 1), 1)
    membranes = np.concatenate([faces[first], faces[single]])
    on_wall = _on_walls(points[membranes], cell)
    wall = np.where(np.any(on_wall, 0), 1 + np.argmax(on_wall, 0), 0)
    outer = np.stack([np.zeros_like(of[single]), of[single]], 1)
    kind = np.column_stack([np.concatenate([sides, outer]), wall])
    return membranes, np.unique(kind, axis=0, return_inverse=True)[1].ravel()


def _on_walls(corners: ndarray, cell: ndarray) -> Bool[ndarray, "wall face"]:
    """For each of the six walls, the faces that lie in it."""
    walls = [(corners[..., axis] == cell[side, axis]) for axis in range(3) for side in (0, 1)]
    return np.asarray(np.stack(walls).all(2))


def _sliding(
    points: ndarray, tets: ndarray, label: ndarray, cell: ndarray, edges: ndarray
) -> Bool[ndarray, "edge 2"]:
    """Whether each end of some edges lies on no membrane or wall that its edge does not lie in."""
    faces, kind = _membranes(points, tets, label, cell)
    count = len(points)
    corner = np.unique(np.column_stack([faces.ravel(), np.repeat(kind, 3)]), axis=0)[:, 0]
    of_corner = np.bincount(corner, minlength=count)
    ends = np.sort(np.stack([faces, np.roll(faces, -1, 1)], 2).reshape(-1, 2), 1)
    key = ends[:, 0] * count + ends[:, 1]
    keys = np.unique(np.column_stack([key, np.repeat(kind, 3)]), axis=0)[:, 0]
    wanted = edges[:, 0] * count + edges[:, 1]
    of_edge = np.searchsorted(keys, wanted, "right") - np.searchsorted(keys, wanted)
    return np.asarray(of_corner[edges] == of_edge[:, None])
