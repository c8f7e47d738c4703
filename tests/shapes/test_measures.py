"""Shape metrics see shape, and nothing that the signal cannot see."""

import pytest
import torch

from spinmesh.mesh import (
    PARAMETERS,
    SweptDisk,
    deform,
    neutral_parameters,
    rotation_matrix,
    swept_disk,
)
from spinmesh.shapes import chamfer_distance, profile, shape_errors

TEMPLATE = swept_disk(SweptDisk(rings=2, layers=8, radius_um=1.5, length_um=12.0))


def shape(**values: float):
    parameters = neutral_parameters(TEMPLATE)
    for name, value in values.items():
        parameters[PARAMETERS.index(name)] = value
    return TEMPLATE.with_points(deform(TEMPLATE, parameters))


def test_chamfer_distance_of_two_parallel_lines_is_their_distance():
    a = torch.linspace(0, 9, 10, dtype=torch.float64)[:, None] * torch.tensor([[1.0, 0, 0]])
    assert chamfer_distance(a, a + torch.tensor([0.0, 0.25, 0.0])) == pytest.approx(0.25, abs=1e-12)
    # A single far point counts in one direction only: 1/(2m) of its distance.
    b = torch.cat([a, torch.tensor([[9.0, 4, 0]], dtype=torch.float64)])
    assert chamfer_distance(a, b) == pytest.approx(4 / (2 * 11), abs=1e-12)


def test_profile_of_a_cylinder_is_a_straight_line_of_constant_radius():
    measured = profile(TEMPLATE)
    # 80 per cent of the length between the trimmed ends. Eight layers of samples make the degree-12
    # series ripple, by 2.5 per cent of the radius at worst (measured).
    assert measured.length == pytest.approx(0.8 * 12, rel=0.01)
    torch.testing.assert_close(
        measured.radius, torch.full_like(measured.radius, 1.5), rtol=0.04, atol=0
    )
    assert measured.bend < 0.01


def test_profile_follows_beads_however_the_cell_is_bent():
    beads = {"bead_amplitude": 0.25, "bead_count": 2.0}
    straight, turned = profile(shape(**beads)), profile(shape(**beads, fan_angle=0.5))
    # The beads are 0.25 * 1.5 = 0.375 um high; volume per arc length moves a little in the turn.
    assert float(straight.radius.max() - straight.radius.min()) > 0.6
    error = min(
        float((p.radius - straight.radius).square().mean().sqrt())
        for p in (turned, turned.reversed())
    )
    assert error < 0.06
    assert turned.bend > straight.bend + 0.1


def test_shape_errors_ignore_pose_and_point_reflection():
    bent = shape(bend=0.15, bead_amplitude=0.2, bead_phase=1.0)
    turn = rotation_matrix(torch.tensor([0.4, -1.0, 0.7], dtype=torch.float64))
    mirror = bent.tets[:, [0, 2, 1, 3, 6, 5, 4, 7, 9, 8]]
    seen = type(bent)(-(bent.points @ turn.T) + 5.0, mirror, bent.compartment)
    errors = shape_errors(seen, bent)
    for name in ("radius", "centre_line", "bend", "length", "volume"):
        # The samples inside mirrored tets are elsewhere, so slices differ by a lattice step.
        assert errors[name] < 0.02, name
    assert shape_errors(shape(bend=0.15, radius=1.8), bent)["radius"] > 0.2
