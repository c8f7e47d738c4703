"""The periodic plane against the exact cylinder, free water, tetrahedra, and itself tiled."""

import numpy as np
import pytest
import torch

from spinmesh.analytic import cylinder, free
from spinmesh.bloch_torrey import Basis, simulate
from spinmesh.bundles import Disks, PeriodicPlane, assemble_plane, mesh_plane, plane_attenuation
from spinmesh.errors import SequenceError
from spinmesh.mesh import TetMesh
from spinmesh.mesh.faces import turned_positive
from spinmesh.mesh.template import prisms_to_tets, with_mid_edge_nodes
from spinmesh.sequence import PGSE, Acquisition, CosineOGSE
from spinmesh.tissue import Tissue

ALONG = [[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0.6, 0.0, 0.8]]
PROTOCOL = Acquisition.joined(
    Acquisition.pgse([b] * 4, ALONG, 10.0, Delta) for b in (1.0, 5.0) for Delta in (20.0, 50.0)
)
THREE = Disks(np.array([[2.0, 2.0], [6.1, 2.6], [0.5, 6.6]]), np.array([1.6, 1.9, 1.7]), 8.0)


def signals(disks, size, acquisition=PROTOCOL, **options):
    return plane_attenuation(
        assemble_plane(mesh_plane(disks, size, 0), 2.0), acquisition, **options
    )


def test_water_inside_a_disk_is_the_exact_cylinder():
    """A bounded part of the plane: the phase that is periodic there is periodic all the same."""
    disks = Disks(np.array([[4.0, 4.0]]), np.array([3.0]), 8.0)
    plane = mesh_plane(disks, 0.6, 0, inside=True)
    found = plane_attenuation(assemble_plane(plane, 2.0), PROTOCOL)
    exact = cylinder(PROTOCOL, 3.0, 2.0, (0.0, 0.0, 1.0))
    # Measured 3.5e-4, most of it the basis of two strengths and three powers.
    torch.testing.assert_close(found, exact, rtol=0, atol=5e-4)
    finer = mesh_plane(disks, 0.3, 0, inside=True)
    better = plane_attenuation(assemble_plane(finer, 2.0), PROTOCOL, powers=6, parts=32)
    torch.testing.assert_close(better, exact, rtol=0, atol=1e-5)


def test_a_plane_without_disks_is_free_water():
    empty = Disks(np.zeros((0, 2)), np.zeros(0), 8.0)
    # The uniform state is exact; what is left is the time steps' approximation of exp(-int q^2).
    torch.testing.assert_close(signals(empty, 1.5), free(PROTOCOL, 2.0), rtol=0, atol=1e-6)


def test_a_cell_and_four_copies_of_it_have_the_same_signal():
    """Another mesh, another basis, a cell twice as wide: periodicity is what makes them equal."""
    copies = THREE.centres + 8.0 * np.array([[[0, 0]], [[1, 0]], [[0, 1]], [[1, 1]]])
    tiled = Disks(copies.reshape(-1, 2), np.tile(THREE.radii, 4), 16.0)
    torch.testing.assert_close(signals(tiled, 0.7), signals(THREE, 0.7), rtol=0, atol=1.5e-3)


def test_turning_the_plane_with_the_gradient_leaves_the_signal():
    """A quarter turn of a square cell."""
    x, y = THREE.centres.T
    turned = Disks(np.column_stack([8.0 - y, x]), THREE.radii, 8.0)
    rotation = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.float64)
    found = signals(turned, 0.6, PROTOCOL.rotated(rotation))
    torch.testing.assert_close(found, signals(THREE, 0.6), rtol=0, atol=1e-3)


def opened(plane: PeriodicPlane) -> PeriodicPlane:
    """The same triangles with nodes told apart by position: a bounded plane, walls all round."""
    # Equal positions are equal to the last bit: all stem from one sum of point and shift.
    key = np.column_stack([plane.nodes.ravel(), plane.points.reshape(-1, 2)])
    _, nodes = np.unique(key, axis=0, return_inverse=True)
    return PeriodicPlane(plane.points, nodes.reshape(plane.nodes.shape), plane.cell)


def extruded(plane, height: float) -> TetMesh:
    """One layer of tets over the triangles of an opened plane, with curved sides."""
    plane = opened(plane)
    flat = np.zeros((plane.nodes.max() + 1, 2))
    flat[plane.nodes] = plane.points
    vertices, corners = np.unique(plane.nodes[:, :3], return_inverse=True)
    count = len(vertices)
    levels = [np.column_stack([flat[vertices], np.full(count, z)]) for z in (0.0, height)]
    points = np.concatenate(levels)
    tets = turned_positive(points, prisms_to_tets(corners.reshape(-1, 3), count, 1))
    points, tets = with_mid_edge_nodes(points, tets)
    _bend_sides(points, tets, plane, flat, np.searchsorted(vertices, plane.nodes[:, :3]), count)
    return TetMesh(torch.from_numpy(points), torch.from_numpy(tets), torch.ones(len(tets)).long())


def _bend_sides(points, tets, plane, flat, corners, count):
    """Move mid-edge nodes over a triangle's side (on, above and in between) to its middle node."""
    from spinmesh.mesh import TET_EDGES

    middle = {}
    for triangle, nodes in zip(corners, plane.nodes, strict=True):
        for side in range(3):
            pair = tuple(sorted((triangle[side], triangle[(side + 1) % 3])))
            middle[pair] = flat[nodes[3 + side]]
    for tet in tets:
        for number, (i, j) in enumerate(TET_EDGES):
            pair = tuple(sorted((tet[i] % count, tet[j] % count)))
            if pair[0] != pair[1]:
                points[tet[4 + number], :2] = middle[pair]


@pytest.mark.slow
def test_the_plane_is_the_extrusion_in_tetrahedra():
    """One thin layer of curved tets with reflecting top and bottom, by the three-dimensional code.

    The cell is cut open at its jagged edge in both. Nothing is shared but the triangles: positions
    in place of phases, another basis, other exponentials.
    """
    plane = mesh_plane(THREE, 0.5, 0)
    across = PROTOCOL.select(PROTOCOL.direction[:, 2] == 0)
    bounded = assemble_plane(opened(plane), 2.0)
    flat = plane_attenuation(bounded, across, powers=8, parts=48)
    tissue, basis = Tissue.uniform(2.0), Basis(tolerance=1e-6)
    solid = simulate(extruded(plane, 0.2), tissue, across, basis).attenuation[0]
    # Phases and positions differ in what quadratics miss: 3e-4 at 0.8 um, 4e-5 at 0.5 (measured).
    torch.testing.assert_close(flat, solid, rtol=0, atol=5e-5)
    # And the edge matters: the periodic plane is another one.
    periodic = plane_attenuation(assemble_plane(plane, 2.0), across)
    assert (periodic - flat).abs().max() > 0.02


def test_a_sequence_other_than_pgse_is_refused():
    waveform = Acquisition.of(CosineOGSE(10.0, 20.0, 1), [0.1], [[1.0, 0, 0]])
    ramped = Acquisition.of(PGSE(5.0, 20.0, ramp=1.0), [1.0], [[1.0, 0, 0]])
    for wrong in (waveform, ramped):
        with pytest.raises(SequenceError, match="PGSE of rectangular"):
            signals(THREE, 1.0, wrong)
