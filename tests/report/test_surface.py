"""Surfaces enclose the right volume from either side, and quality is a shape's alone."""

import math

import numpy as np
import pytest
import torch

from spinmesh.mesh import SweptDisk, TetMesh, rotation_matrix, swept_disk, tet_quality
from spinmesh.report.surface import silhouette, surface, view

CYLINDER = swept_disk(SweptDisk(rings=2, layers=5, radius_um=2.0, length_um=10.0))


def enclosed(triangles: np.ndarray) -> float:
    """Volume by the divergence theorem; positive if the faces are seen from outside."""
    a, b, c = triangles.transpose(1, 0, 2)
    return float((a * np.cross(b, c)).sum() / 6)


@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["as it is", "reflected"])
def test_surface_encloses_the_cylinder_with_its_faces_outwards(sign) -> None:
    """Curved sides in 48 straight pieces: area and volume fall short by (2 pi / 48)^2 / 6."""
    shape = surface(CYLINDER, sign * np.eye(3), ["red"])
    exact = math.pi * 2**2 * 10
    assert enclosed(shape.triangles) == pytest.approx(exact, rel=3.5e-3)


def test_outline_of_an_upright_cylinder_is_as_wide_as_the_cylinder() -> None:
    """4 um, to half the pieces' shortfall 2 (1 - cos(pi / 48)) = 4e-3 um on either side."""
    rim = silhouette(surface(CYLINDER, view(CYLINDER), ["red"]))
    assert np.ptp(rim[:, :, 0]) == pytest.approx(4, abs=9e-3)


def test_compartments_keep_their_colours() -> None:
    two = (CYLINDER.points[CYLINDER.tets[:, :4]].mean(1)[:, 2] > 4).long() * 7
    mesh = TetMesh(CYLINDER.points, CYLINDER.tets, two)
    shape = surface(mesh, np.eye(3), ["red", "blue"])
    high = shape.triangles[:, :, 2].mean(1) > 4
    assert (shape.colour[high] == (0, 0, 1)).all() and (shape.colour[~high] == (1, 0, 0)).all()


def test_quality_is_one_for_a_regular_tet_and_zero_for_a_flat_one() -> None:
    regular = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]).double()
    flat = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]]).double()
    tets, label = torch.tensor([[0, 1, 2, 3]]), torch.tensor([1])
    turned = 7 * regular @ rotation_matrix(torch.tensor([0.3, 0.2, 0.9]).double()).T + 4
    for points, value in ((regular, 1.0), (turned, 1.0), (flat, 0.0)):
        if float(torch.det(points[1:] - points[0])) < 0:
            points = points[[0, 2, 1, 3]]
        # Rounding of a determinant under a cube root of a square.
        assert float(tet_quality(TetMesh(points, tets, label))) == pytest.approx(value, abs=1e-9)
