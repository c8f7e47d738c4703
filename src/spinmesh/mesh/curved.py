"""Curved tets: mid-edge nodes on the smooth surfaces that the corners of membranes lie on.

A known solid says where its surface is; else a surface is fitted to the corners (`smooth`). Where a
tet could fold, nodes go back until all Bernstein coefficients of its Jacobian are positive (Johnen,
Remacle & Geuzaine 2013).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.spatial import cKDTree

from spinmesh.errors import MeshError
from spinmesh.mesh.faces import all_faces, pair_faces
from spinmesh.mesh.smooth import surface_middles
from spinmesh.mesh.template import with_mid_edge_nodes
from spinmesh.mesh.tetmesh import TET_EDGES, TetMesh, reference_nodes, shape_functions

# Where a node would leave its straight edge by more of its length, the surface is not smooth there.
LARGEST_STEP = 0.2
# Of its straight tet's Jacobian, that the smallest Bernstein coefficient of a curved one keeps.
LEAST = 0.1
# Shares of a node's step that are tried in turn.
SHARES = np.array([1.0, 0.5, 0.25, 0.0])


@dataclass(frozen=True, eq=False)
class Solid:
    """A body whose surface is known: the corners on it, and the nearest point of it to any."""

    corners: Float[ndarray, "corner 3"]  # um
    nearest: Callable[[Float[ndarray, "point 3"]], Float[ndarray, "point 3"]]


def curved(mesh: TetMesh, solids: Sequence[Solid] = ()) -> tuple[TetMesh, str]:
    """The same tets with ten nodes each, those of membranes on smooth surfaces; and what was done.

    Corners of known solids move onto their surface; all others stay. Nodes are shared, so that
    membranes conform from both sides. Raises MeshError if the mesh is curved already.
    """
    if mesh.order == 2:
        raise MeshError(f"{mesh.name}: its tets are curved already. Leave `curved` away.")
    corners = mesh.points.numpy()
    straight, tets = with_mid_edge_nodes(corners, mesh.tets.numpy())
    edges, middle = _edges_with_nodes(tets)
    step = np.zeros_like(straight)
    sides, places = surface_middles(corners, _membranes(mesh))
    node = middle[_rows(edges, sides, len(corners))]
    step[node] = places - straight[node]
    for solid in solids:
        _snap(step, straight, solid, edges, middle, sides, node)
    length = np.linalg.norm(corners[sides[:, 1]] - corners[sides[:, 0]], axis=1)
    rough = np.linalg.norm(step[node], axis=1) > LARGEST_STEP * length
    step[node[rough]] = 0
    points, shortened = _unfolded(straight, step, tets)
    before, after = (jacobian_coefficients(x, tets).mean() for x in (straight, points))
    longest = np.linalg.norm(points - straight, axis=1).max()
    note = (
        f"curved: nodes of {len(node):,} edges of membranes moved by up to {longest:.3g} um, "
        f"volume {after / before - 1:+.2%}"
    )
    if rough.any():
        note += f"; {rough.sum():,} edges left straight, where the surface is not smooth"
    if shortened:
        note += f"; {shortened:,} nodes moved less, or not, lest tets fold"
    shape = TetMesh(torch.from_numpy(points), torch.from_numpy(tets), mesh.compartment, mesh.name)
    return shape, note


def jacobian_coefficients(
    points: Float[ndarray, "point 3"], tets: Int[ndarray, "tet 10"]
) -> Float[ndarray, "tet coefficient"]:
    """Bernstein coefficients of the determinant of each tet's map, um^3.

    Its values lie between the smallest and the largest, and their mean is six times the volume.
    The map's derivatives are linear in the barycentric coordinates, so that their determinant is
    a cubic with twenty coefficients.
    """
    slopes = shape_functions(reference_nodes(4), 10)[1].numpy()
    x, y, z = np.moveaxis(np.einsum("tna,knb->tkba", points[tets], slopes), 2, 0)
    products = np.einsum("tka,tlma->tklm", x, np.cross(y[:, :, None], z[:, None]))
    corner = np.sort(list(product(range(4), repeat=3)), 1)
    _, term, count = np.unique(corner, axis=0, return_inverse=True, return_counts=True)
    share = np.zeros((64, len(count)))
    share[np.arange(64), term] = 1 / count[term]
    return np.asarray(products.reshape(-1, 64) @ share)


def _membranes(mesh: TetMesh) -> Int[ndarray, "triangle 3"]:
    """Faces between compartments and on the outside, each once."""
    label = np.repeat(mesh.compartment.numpy(), 4)
    faces = all_faces(mesh.tets.numpy())
    first, second, single = pair_faces(faces)
    across = label[first] != label[second]
    lower = np.where(label[first] < label[second], first, second)[across]
    return np.asarray(faces[np.concatenate([lower, single])])


def _edges_with_nodes(tets: Int[ndarray, "tet 10"]) -> tuple[ndarray, ndarray]:
    """Each edge of the tets once, by its two corners, ascending, and its mid-edge node."""
    ends = np.sort(tets[:, np.array(TET_EDGES)], -1).reshape(-1, 2)
    edges, first = np.unique(ends, axis=0, return_index=True)
    return edges, tets[:, 4:].ravel()[first]


def _rows(edges: ndarray, some: ndarray, count: int) -> Int[ndarray, " some"]:
    """Where each of some edges stands in all of them, which are sorted."""
    key, wanted = (each[:, 0] * count + each[:, 1] for each in (edges, some))
    return np.asarray(np.searchsorted(key, wanted))


def _snap(
    step: ndarray,
    straight: ndarray,
    solid: Solid,
    edges: ndarray,
    middle: ndarray,
    sides: ndarray,
    node: ndarray,
) -> None:
    """Steps of a known solid's corners and mid-edge nodes onto it; other edges there follow."""
    count = int(edges.max()) + 1
    on_it = np.asarray(cKDTree(solid.corners).query(straight[:count])[0]) == 0
    corner = np.flatnonzero(on_it)
    step[corner] = solid.nearest(straight[corner]) - straight[corner]
    inner = np.setdiff1d(np.arange(len(edges)), _rows(edges, sides, count))
    step[middle[inner]] = step[edges[inner]].mean(1)
    of_it = node[on_it[sides].all(1)]
    step[of_it] = solid.nearest(straight[of_it]) - straight[of_it]


def _unfolded(
    straight: ndarray, step: ndarray, tets: Int[ndarray, "tet 10"]
) -> tuple[Float[ndarray, "point 3"], int]:
    """Nodes after their steps, with shorter ones where a tet folds, and how many those are."""
    moving = np.abs(step).max(1) > 0
    some = tets[moving[tets].any(1)]
    least = LEAST * jacobian_coefficients(straight, some).min(1)
    share = np.zeros(len(straight), dtype=np.int64)
    while True:
        points = straight + SHARES[share][:, None] * step
        bad = jacobian_coefficients(points, some).min(1) < least
        if not bad.any():
            return points, int((share[moving] > 0).sum())
        spoilt = np.unique(some[bad])
        share[spoilt] = np.minimum(share[spoilt] + 1, len(SHARES) - 1)
