"""How far the tetrahedra of a mesh are from flat."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.mesh import TetMesh, corner_volumes


def tet_quality(mesh: TetMesh) -> Float[Tensor, " tet"]:
    """Mean ratio 12 (3V)^(2/3) / (sum of squared edges): 1 for a regular tet, 0 for a flat one.

    Of the straight tet between the corners (Liu & Joe 1994).
    """
    corner = mesh.points[mesh.tets[:, :4]]
    # Each edge stands twice in the table of distances.
    squares = torch.cdist(corner, corner).square().sum((1, 2)) / 2
    volume = corner_volumes(mesh.points, mesh.tets).clamp_min(0)
    return 12 * (3 * volume) ** (2 / 3) / squares
