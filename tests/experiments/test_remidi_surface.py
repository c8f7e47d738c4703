"""The distance of surfaces: what it sees, and what it does not."""

import pytest
import torch

from experiments.remidi.surface import surface_distance
from spinmesh.mesh import SweptDisk, ball, rotation_matrix, swept_disk
from spinmesh.shapes import aligned_chamfer_distance


def test_concentric_balls_are_their_difference_in_radius_apart():
    mesh = ball(5.0, 3)
    larger = mesh.with_points(1.02 * mesh.points)
    # Curved faces leave the sphere by 1e-4 of the radius; both by the same factor.
    assert surface_distance(larger, mesh) == pytest.approx(0.1, abs=1e-3)


def test_motions_and_reflections_are_invisible():
    tube = swept_disk(SweptDisk(rings=1, layers=8, radius_um=2.0, length_um=12.0))
    x, y, z = tube.points.unbind(1)
    bent = tube.with_points(torch.stack([0.7 * x + 0.03 * z**2, y + 0.1 * x * z, z], 1))
    turn = rotation_matrix(torch.tensor([0.4, -1.1, 2.0], dtype=torch.float64))
    moved = bent.with_points(-bent.points @ turn.T + 3.0, "moved")
    # Reflected tets are inverted, but the surface is all that counts. The laying on ends at steps
    # of 1e-6; samples of the two coincide only to first order in what is left.
    assert surface_distance(moved, bent) < 1e-3
    # Its own undeformed shape is not near.
    assert surface_distance(tube, bent) > 0.1


def test_vertices_that_slide_along_the_surface_are_no_error():
    """A round tube twisted about its axis is the same tube, which the vertices deny."""
    tube = swept_disk(SweptDisk(rings=2, layers=12, radius_um=3.0, length_um=9.0))
    angle = 2.0 * tube.points[:, 2] / 9.0
    x, y, z = tube.points.unbind(1)
    cos, sin = angle.cos(), angle.sin()
    twisted = tube.with_points(torch.stack([x * cos - y * sin, x * sin + y * cos, z], 1))
    assert aligned_chamfer_distance(twisted, tube) > 0.2
    # Faces of six nodes, sheared by the twist, cut up to 0.03 um off a tube of 3 um.
    assert surface_distance(twisted, tube) < 0.03
