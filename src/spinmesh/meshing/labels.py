"""Label volumes: tets of each label that share their interfaces.

Each voxel is six of Kuhn's tets, which conform across voxels and labels. Interfaces are smoothed
without shrinking them (Taubin 1995), then mmg3d evens all tets, interfaces included, and what is
apart gets its volume back.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from scipy import ndimage

from spinmesh.errors import ConfigError, MeshError
from spinmesh.mesh import TetMesh, check_quality, oriented
from spinmesh.meshing.fill import CHANGED, Filling
from spinmesh.meshing.process import Limits, run_apart
from spinmesh.meshing.tets import pinches, positive, quality, smoothed, volumes
from spinmesh.meshing.water import KUHN, WATER

MOST_VOXELS = 2_000_000
# Of the labelled voxels, that may be filled to join others, in at most as many rounds.
MOST_FILLED, ROUNDS = 0.05, 20
# Corners of a voxel, in the order 4x + 2y + z of Kuhn's tets.
CORNERS = np.array([(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)])
# Edges, and how far an interface may move from its smoothed place, in voxels.
EDGE, HAUSDORFF = 1.5, 0.15
# Quality that a tet must keep while interfaces are smoothed; mmg mends it afterwards.
FLOOR = 0.02


def mesh_labels(
    labels: Int[ndarray, "x y z"],
    affine: Float[ndarray, "4 4"],
    name: str,
    box: bool = False,
    tight: float | None = None,
    size: float | None = None,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> Filling:
    """A compartment for each label above 0, and one more for water, in um.

    Water is all that is 0 with `box`, or what is within `tight` um of labels. `affine` is from
    voxel indices to um; `size` (um) is the longest edge, by default 1.5 voxels. Notes say how the
    volume of each label changed. Raises MeshError where nothing is labelled, voxels are too many,
    or labels hang together at many corners alone, ConfigError for a wrap thinner than a voxel.
    """
    if not (labels > 0).any():
        raise MeshError(f"{name}: no voxel has a label above 0. Segment something.")
    if tight is not None:
        labels, affine = wrapped(labels, affine, tight, name)
    if box:
        labels = np.where(labels > 0, labels, labels.max() + 1)
    filling: list[str] = []
    if not box:
        labels, affine = _padded(labels, affine, np.ones(3, dtype=np.int64))
        labels, filling = _unpinched(labels, affine, name)
    pieces, label_of = _pieces(labels)
    corners, tets, piece = voxel_tets(pieces)
    points = corners @ affine[:3, :3].T + affine[:3, 3]
    tets = positive(points, tets)
    walls = ((corners == -0.5) | (corners == np.array(labels.shape) - 0.5)).any(1)
    voxel = float(np.abs(np.linalg.det(affine[:3, :3])) ** (1 / 3))
    job: dict[str, ndarray | float] = {
        "points": smoothed(points, tets, piece, walls & box, FLOOR),
        "tets": tets,
        "label": piece,
        "volume": np.bincount(piece, volumes(points, tets)),
        "size": size or EDGE * voxel,
        "hausdorff": HAUSDORFF * voxel,
        "ridges": float(box),
    }
    done = run_apart("spinmesh.meshing.worker:smooth", job, limits, f"meshing {name}")
    done["domain"] = label_of[done["domain"]]
    mesh = TetMesh(
        torch.from_numpy(done["points"]),
        torch.from_numpy(done["tets"]),
        torch.from_numpy(done["domain"]),
        name,
    )
    notes = (*filling, *_notes(done, labels, voxel, name))
    checked = check_quality(oriented(mesh), "Give a finer or smoother segmentation.")
    names = {each: f"{name}, label {each}" for each in checked.labels}
    return Filling(checked, names | ({int(labels.max()): WATER} if box or tight else {}), notes)


def wrapped(
    labels: Int[ndarray, "x y z"], affine: Float[ndarray, "4 4"], margin: float, name: str
) -> tuple[Int[ndarray, "i j k"], Float[ndarray, "4 4"]]:
    """Labels with one more for the voxels within `margin` (um) of others, and for what those close.

    Distances are from the middle of a voxel to that of the nearest labelled one.
    """
    sides = np.linalg.norm(affine[:3, :3], axis=0)
    if not sides.max() <= margin < np.inf:
        raise ConfigError(
            f"{name}: a wrap at {margin:g} um around voxels of {sides.max():g} um. Give a margin "
            "of at least one voxel, or finer voxels."
        )
    labels, affine = _padded(labels, affine, np.ceil(margin / sides).astype(np.int64))
    near = ndimage.distance_transform_edt(labels == 0, sampling=sides) <= margin * (1 + 1e-9)
    water = ndimage.binary_fill_holes(near) & (labels == 0)
    return np.where(water, labels.max() + 1, labels), affine


def _padded(labels: ndarray, affine: ndarray, count: Int[ndarray, " 3"]) -> tuple[ndarray, ndarray]:
    """With so many voxels of label 0 more on both sides of each axis."""
    there = affine.copy()
    there[:3, 3] -= affine[:3, :3] @ count
    return np.pad(labels, [(int(each), int(each)) for each in count]), there


def _pieces(labels: ndarray) -> tuple[ndarray, ndarray]:
    """Labels that differ for what is apart within one label, and the label of each of them."""
    pieces, label_of = np.zeros_like(labels), [np.zeros(1, dtype=np.int64)]
    for each in np.unique(labels[labels > 0]):
        parts, count = ndimage.label(labels == each)
        pieces[parts > 0] = parts[parts > 0] + sum(map(len, label_of)) - 1
        label_of.append(np.full(count, each))
    return pieces, np.concatenate(label_of)


def voxel_tets(
    labels: Int[ndarray, "x y z"],
) -> tuple[Float[ndarray, "point 3"], Int[ndarray, "tet 4"], Int[ndarray, " tet"]]:
    """Corners in voxel indices (centres are whole), six tets a labelled voxel, and their labels."""
    voxel = np.argwhere(labels > 0)
    if len(voxel) > MOST_VOXELS:
        raise MeshError(
            f"{len(voxel):,} labelled voxels; {MOST_VOXELS:,} are taken. Crop or resample them."
        )
    corner = (voxel[:, None] + CORNERS).reshape(-1, 3)
    used, index = np.unique(corner, axis=0, return_inverse=True)
    tets = index.reshape(-1, 8)[:, KUHN].reshape(-1, 4)
    turned = volumes(used.astype(float), tets) < 0
    tets = np.where(turned[:, None], tets[:, [0, 2, 1, 3]], tets)
    return used - 0.5, tets, np.repeat(labels[tuple(voxel.T)], len(KUHN))


def _unpinched(labels: ndarray, affine: ndarray, name: str) -> tuple[ndarray, list[str]]:
    """Labels with the voxels around a corner filled where others meet in it or its edge alone.

    The array has a rim of empty voxels. MeshError where more would be filled than `MOST_FILLED`.
    """
    filled, first = labels.copy(), ""
    for _ in range(ROUNDS):
        corners, tets, _ = voxel_tets(filled)
        pinched = corners[pinches(tets)]
        if not len(pinched):
            break
        first = first or ", ".join(f"{x:.5g}" for x in affine[:3, :3] @ pinched[0] + affine[:3, 3])
        around = (pinched + 0.5).astype(int)[:, None] - CORNERS
        block = filled[tuple(np.moveaxis(around, -1, 0))]
        outer = np.where(block > 0, block, block.max() + 1).min(1)
        filled[tuple(np.moveaxis(around, -1, 0))] = np.where(block > 0, block, outer[:, None])
    count = int((filled != labels).sum())
    if count > MOST_FILLED * (labels > 0).sum():
        raise MeshError(
            f"{name}: labelled voxels hang together at corners or edges alone (first at {first}); "
            f"{count} more would join them. Close or open the segmentation by a voxel."
        )
    words = f"{name}: {count} voxels filled where others met at corners or edges alone (first at "
    return filled, [f"{words}{first})"] if count else []


def _notes(done: dict[str, ndarray], labels: ndarray, voxel: float, name: str) -> Sequence[str]:
    volume = volumes(done["points"], done["tets"])
    notes = []
    for each in np.unique(labels[labels > 0]):
        counted = (labels == each).sum() * voxel**3
        change = np.abs(volume[done["domain"] == each]).sum() / counted - 1
        words = f"label {each} has {counted:.5g} um^3 in voxels, {change:+.2%} as tets"
        doubt = "WARNING: " if abs(change) > CHANGED else ""
        notes.append(f"{doubt}{name}: {words}")
    worst = np.abs(quality(done["points"], done["tets"])).min()
    return (*notes, f"worst quality of {len(done['tets']):,} tets {worst:.3g}")
