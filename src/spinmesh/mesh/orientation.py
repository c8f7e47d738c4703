"""Turning a user's tets positive, and finding those that are folded."""

from __future__ import annotations

import numpy as np
import torch

from spinmesh.errors import MeshError
from spinmesh.mesh.faces import all_faces, pair_faces
from spinmesh.mesh.tetmesh import TET_EDGES, TetMesh, corner_volumes

# Swapping corners 1 and 2 turns a tet inside out; its mid-edge nodes follow.
_SWAP = np.array([0, 2, 1, 3])
_EDGE_SWAP = [
    next(i for i, e in enumerate(TET_EDGES) if {int(_SWAP[e[0]]), int(_SWAP[e[1]])} == set(edge))
    for edge in TET_EDGES
]


def oriented(mesh: TetMesh) -> TetMesh:
    """The same mesh with every tet's corners in positive order.

    The order of a tet's corners is a convention that programs differ on; a fold is not. Raises
    MeshError if two tets lie on the same side of their common face, naming the first.
    """
    negative = corner_volumes(mesh.points, mesh.tets) < 0
    order = [*_SWAP.tolist(), *(4 + i for i in _EDGE_SWAP)][: mesh.tets.shape[1]]
    tets = torch.where(negative[:, None], mesh.tets[:, order], mesh.tets)
    folded = _folded(tets.numpy())
    if len(folded):
        raise MeshError(
            f"{mesh.name}: {len(folded):,} of {len(tets):,} tets overlap a neighbour (inverted; "
            f"first: {folded[0]}). Re-mesh the surface."
        )
    return TetMesh(mesh.points, tets, mesh.compartment, mesh.name)


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
