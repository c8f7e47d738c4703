"""The point reflection that no |S| can see, on a template."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from spinmesh.inversion.shape_model import ShapeModel
from spinmesh.mesh import TetMesh


def opposite_points(template: TetMesh) -> Int[Tensor, " point"]:
    """Of each point of the template, the one nearest to its reflection through the centre.

    Exact for a swept disk, whose rings have an even number of points.
    """
    points = (template.points - template.bounding_box.mean(0)).numpy()
    return torch.from_numpy(cKDTree(points).query(-points)[1])


def reflected_latent(model: ShapeModel, z: Float[Tensor, " latent"]) -> Float[Tensor, " latent"]:
    """Latent numbers of the shape's point reflection, as far as the model can express it.

    The reflected tube is numbered from its other end and put where the shape was.
    """
    points = model.decode(z)
    template = model.basis.template
    reflected = -points[opposite_points(template)]
    return model.encode(reflected + points.mean(0) - reflected.mean(0))
