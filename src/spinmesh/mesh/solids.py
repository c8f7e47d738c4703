"""Balls and nested cylinders: the bodies whose signals are known exactly."""

from __future__ import annotations

import numpy as np
import torch
from skfem import MeshTet

from spinmesh.errors import MeshError
from spinmesh.mesh.faces import turned_positive
from spinmesh.mesh.template import swept_disk, with_mid_edge_nodes
from spinmesh.mesh.tetmesh import TetMesh
from spinmesh.settings import SweptDisk


def ball(radius: float, refinements: int, order: int = 2) -> TetMesh:
    """A ball of `radius` um: a refined octahedron, each of its nodes moved along its ray.

    Order 2 gives curved tets with the surface nodes, mid-edge ones too, on the sphere. Raises
    MeshError for a radius of 0 or less and other orders than 1 and 2.
    """
    if not radius > 0 or refinements < 0 or order not in (1, 2):
        raise MeshError(
            f"ball: radius {radius} um, refinements {refinements}, order {order}. Give a radius "
            "> 0, refinements >= 0, and order 1 or 2."
        )
    axes = np.concatenate([np.zeros((1, 3)), np.eye(3), -np.eye(3)])
    octants = [(0, i, j, k) for i in (1, 4) for j in (2, 5) for k in (3, 6)]
    octahedron = MeshTet(axes.T.copy(), np.array(octants).T.copy()).refined(refinements)
    points = octahedron.p.T
    tets = turned_positive(points, octahedron.t.T.astype(np.int64))
    if order == 2:
        points, tets = with_mid_edge_nodes(points, tets)
    length = np.linalg.norm(points, axis=1)
    # The octahedron's shells |x|_1 = const become spheres; smooth inside each octant.
    stretch = np.divide(np.abs(points).sum(1), length, where=length > 0, out=np.ones_like(length))
    return TetMesh(
        torch.from_numpy(radius * stretch[:, None] * points),
        torch.from_numpy(tets),
        torch.ones(len(tets), dtype=torch.int64),
        f"ball r={radius:g} um",
    )


def nested_cylinder(size: SweptDisk, inner_rings: int) -> TetMesh:
    """The swept disk with compartment 1 inside ring `inner_rings` and compartment 2 around it.

    Rings are equally spaced, so the membrane is at radius * inner_rings / rings. Raises MeshError
    unless some rings are left on both sides of it.
    """
    if not 0 < inner_rings < size.rings:
        raise MeshError(
            f"nested cylinder: inner_rings {inner_rings} of {size.rings}. Give 1 to rings - 1."
        )
    mesh = swept_disk(size)
    centroid = mesh.points[mesh.tets[:, :4]].mean(1)
    outside = centroid[:, :2].norm(dim=1) > size.radius_um * inner_rings / size.rings
    return TetMesh(mesh.points, mesh.tets, 1 + outside.long(), "nested cylinder")
