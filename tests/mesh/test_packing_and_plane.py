"""Triangles between packed disks tile the periodic plane exactly, with every circle kept."""

import numpy as np
import pytest
from bodies import plane_part

from spinmesh.bundles import assemble_plane
from spinmesh.errors import MeshError
from spinmesh.mesh import Disks, gamma_radii, mesh_plane, pack_disks
from spinmesh.mesh.plane import AXON, WATER


def packing(seed: int = 0, fraction: float = 0.5, cell: float = 12.0) -> Disks:
    rng = np.random.default_rng(seed)
    for _ in range(50):
        disks = pack_disks(gamma_radii(1.2, 0.3, 3.0, fraction * cell**2, rng), cell, 0.2, rng)
        if disks is not None:
            return disks
    raise AssertionError("no packing in 50 attempts")


@pytest.mark.parametrize("seed", range(4))
def test_both_sides_of_the_circles_have_their_exact_areas(seed):
    disks = packing(seed)
    between, whole = (mesh_plane(disks, 0.5, seed, inside=side) for side in (False, True))
    parts = (between, plane_part(whole, AXON))
    areas = [assemble_plane(plane, 2.0).mass.sum() for plane in parts]
    exact = np.array([1 - disks.volume_fraction, disks.volume_fraction]) * disks.cell**2
    # A quadratic arc of angle a misses its segment's area by about r^2 a^5 / 960: 14 nodes around a
    # radius of 1.2 um give 3e-5 um^2 a side, some 300 sides in 144 um^2.
    np.testing.assert_allclose(areas, exact, rtol=3e-4)
    # Together they are the cell whatever the arcs are: the quadrature is exact for areas.
    total = assemble_plane(whole, 2.0).mass.sum()
    np.testing.assert_allclose(total, disks.cell**2, rtol=1e-12)
    sides = {tuple(sorted(pair)) for pair in outer_sides(between)}
    assert len(sides) == len(outer_sides(between)) > 100


def test_water_between_a_disk_and_its_own_images_is_water():
    """Triangles there have all corners on one circle, as those inside have."""
    disks = Disks(np.array([[0.4, 1.0]]), np.array([1.0]), 2.2)
    plane = mesh_plane(disks, 0.5, 0, inside=True)
    areas = [assemble_plane(plane_part(plane, label), 2.0).mass.sum() for label in (AXON, WATER)]
    np.testing.assert_allclose(areas, [np.pi, 2.2**2 - np.pi], rtol=3e-4)


def outer_sides(plane):
    """Pairs of nodes of the sides that only one triangle has."""
    ends = np.sort(plane.nodes[:, [[0, 1], [1, 2], [2, 0]]], -1).reshape(-1, 2)
    unique, count = np.unique(ends, axis=0, return_counts=True)
    return [tuple(pair) for pair in unique[count == 1].tolist()]


def test_every_outer_node_lies_on_a_circle_and_each_circle_is_closed():
    disks = packing(3)
    plane = mesh_plane(disks, 0.6, 1)
    outer = {node for pair in outer_sides(plane) for node in pair}
    point = np.zeros((plane.nodes.max() + 1, 2))
    point[plane.nodes] = plane.points
    places = point[sorted(outer)]
    distance = np.linalg.norm(disks.offsets(places), axis=-1) - disks.radii
    nearest = np.abs(distance).argmin(1)
    np.testing.assert_allclose(np.abs(distance).min(1), 0, atol=1e-9)
    assert set(nearest.tolist()) == set(range(len(disks.radii)))
    # As many sides as nodes: each circle is a closed polygon.
    assert len(outer_sides(plane)) == len(outer)


def test_a_cell_without_disks_is_filled():
    plane = mesh_plane(Disks(np.zeros((0, 2)), np.zeros(0), 10.0), 1.0, 0)
    np.testing.assert_allclose(assemble_plane(plane, 1.0).mass.sum(), 100.0, rtol=1e-12)


def test_radii_cover_the_area_asked_for_and_follow_the_gamma_law():
    rng = np.random.default_rng(0)
    radii = gamma_radii(1.5, 0.4, 20.0, 40_000.0, rng)
    np.testing.assert_allclose(np.pi * (radii**2).sum(), 40_000, rtol=3e-4)  # one disk left out
    # 5,000 radii: the mean's standard error is 0.6 % , that of the spread about 1 %.
    np.testing.assert_allclose([radii.mean(), radii.std()], [1.5, 0.6], rtol=0.04)


def test_packed_disks_keep_their_distance_around_the_cell():
    disks = packing(5, fraction=0.55)
    apart = disks.offsets(disks.centres)
    gap = np.hypot(apart[..., 0], apart[..., 1]) - disks.radii - disks.radii[:, None]
    np.fill_diagonal(gap, np.inf)
    assert gap.min() >= 0.2 - 1e-12
    # Some pair must be neighbours across the edge, or the images were never looked at.
    flat = disks.centres[:, None] - disks.centres
    assert (np.abs(flat - apart).max() > 1).any()
    np.testing.assert_allclose(disks.volume_fraction, 0.55, rtol=0.03)  # the last may be left out


def test_overlap_is_refused_also_through_the_edge():
    with pytest.raises(MeshError, match="overlap by 1"):
        Disks(np.array([[0.5, 5.0], [9.5, 5.0]]), np.array([1.0, 1.0]), 10.0).refuse_overlap()
    with pytest.raises(MeshError, match="cell/4"):
        mesh_plane(packing(), 4.0, 0)
