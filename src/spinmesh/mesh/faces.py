"""The faces of a mesh: who shares them, which lie outside, and which tets are folded over them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int
from skfem.quadrature import get_quadrature
from skfem.refdom import RefTet, RefTri

from spinmesh.errors import MeshError
from spinmesh.mesh.tetmesh import TET10_FACES, TET_FACES, TetMesh, shape_functions

# Of the quadrature: a curved tet's volume is a cubic, a curved face's area no polynomial.
DEGREE = 6
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


def sizes(mesh: TetMesh) -> Float[np.ndarray, "compartment 2"]:
    """Volume (um^3) and area (um^2) of each compartment, membranes to others included.

    Curved elements by quadrature: volumes are exact, areas to 1e-6 or so.
    """
    points, tets = mesh.points.detach().numpy(), mesh.tets.numpy()
    inside = [tets[(mesh.compartment == label).numpy()] for label in mesh.labels]
    return np.array(
        [(_content(points[each]), _content(points[outer_faces(each)[0]])) for each in inside]
    )


def _content(cells: Float[np.ndarray, "cell node 3"]) -> float:
    """Volume of tets, or area of triangles, all together."""
    count = cells.shape[1]
    place, weight = get_quadrature(RefTri if count in (3, 6) else RefTet, DEGREE)
    gradient = shape_functions(torch.from_numpy(place.T), count)[1].numpy()
    edges = np.einsum("cni,sna->csai", cells, gradient)
    if count in (3, 6):
        density = np.linalg.norm(np.cross(edges[:, :, 0], edges[:, :, 1]), axis=-1)
    else:
        density = np.linalg.det(edges)
    return float((density @ weight).sum())


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
    return replace(mesh, tets=torch.from_numpy(tets))


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
