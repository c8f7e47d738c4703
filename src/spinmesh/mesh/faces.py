"""The faces of a mesh: who shares them, which lie outside, and which tets are folded over them."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int

from spinmesh.errors import MeshError
from spinmesh.mesh.tetmesh import TET10_FACES, TET_FACES, TetMesh

# Swapping corners 1 and 2 turns a tet inside out; its mid-edge nodes follow.
SWAPPED = np.array([0, 2, 1, 3, 6, 5, 4, 7, 9, 8])


def all_faces(tets: Int[np.ndarray, "tet node"]) -> Int[np.ndarray, "face face_node"]:
    """The four faces of each tet with all their nodes, corners counter-clockwise from outside."""
    local = np.array(TET_FACES if tets.shape[1] == 4 else TET10_FACES)
    faces: Int[np.ndarray, "face face_node"] = tets[:, local].reshape(-1, local.shape[1])
    return faces


def pair_faces(faces: Int[np.ndarray, "face face_node"]) -> tuple[np.ndarray, ...]:
    """Indices of the faces that appear twice, of their second copies, and of those that are alone.

    Faces are told apart by their first three nodes, the corners.
    """
    key = np.sort(faces[:, :3], axis=1)
    order = np.lexsort(key.T)
    same = (key[order][1:] == key[order][:-1]).all(1)
    start = np.flatnonzero(same)
    paired = np.zeros(len(order), dtype=bool)
    paired[start] = paired[start + 1] = True
    return order[start], order[start + 1], np.sort(order[~paired])


def outer_faces(
    tets: Int[np.ndarray, "tet node"],
) -> tuple[Int[np.ndarray, "face face_node"], Int[np.ndarray, " face"]]:
    """The faces that belong to one tet only, with their nodes, and the number of that tet."""
    faces = all_faces(tets)
    alone = pair_faces(faces)[2]
    return faces[alone], alone // 4


def turned_positive(
    points: np.ndarray, tets: Int[np.ndarray, "tet node"]
) -> Int[np.ndarray, "tet node"]:
    """The same tets with two corners swapped where the volume is negative."""
    edge = points[tets[:, 1:4]] - points[tets[:, :1]]
    negative = np.linalg.det(edge) < 0
    return np.where(negative[:, None], tets[:, SWAPPED[: tets.shape[1]]], tets)


def oriented(mesh: TetMesh) -> TetMesh:
    """The same mesh with every tet's corners in positive order.

    The order of a tet's corners is a convention that programs differ on; a fold is not. Raises
    MeshError if two tets lie on the same side of their common face, naming the first.
    """
    tets = turned_positive(mesh.points.numpy(), mesh.tets.numpy())
    folded = _folded(tets)
    if len(folded):
        raise MeshError(
            f"{mesh.name}: {len(folded):,} of {len(tets):,} tets overlap a neighbour (inverted; "
            f"first: {folded[0]}). Re-mesh the surface."
        )
    return TetMesh(mesh.points, torch.from_numpy(tets), mesh.compartment, mesh.name)


def _folded(tets: np.ndarray) -> np.ndarray:
    """Tets whose face is traversed in the same sense by the tet on its other side."""
    faces = all_faces(tets)
    # The sense is the parity of the permutation that sorts the face's corners.
    parity = np.sign(
        (faces[:, 1] - faces[:, 0]) * (faces[:, 2] - faces[:, 1]) * (faces[:, 2] - faces[:, 0])
    )
    first, second, _ = pair_faces(faces)
    wrong = parity[first] == parity[second]
    return np.unique(np.minimum(first[wrong] // 4, second[wrong] // 4))
