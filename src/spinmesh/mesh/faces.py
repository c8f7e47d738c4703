"""The faces of a mesh: which two tets share one, and which faces lie outside."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from spinmesh.mesh.tetmesh import TET10_FACES, TET_FACES


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
