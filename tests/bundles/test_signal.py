"""The periodic plane against the exact cylinder, free water, tetrahedra, and itself tiled."""

import numpy as np
import pytest
import torch
from bodies import plane_part

from spinmesh.analytic import cylinder, free
from spinmesh.bloch_torrey import Basis
from spinmesh.bodies import simulate
from spinmesh.bundles import assemble_plane, plane_attenuation
from spinmesh.errors import SequenceError
from spinmesh.mesh import Disks, mesh_plane
from spinmesh.mesh.bundle import swept, unrolled
from spinmesh.mesh.plane import AXON, WATER
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
    plane = plane_part(mesh_plane(disks, 0.6, 0, inside=True), AXON)
    found = plane_attenuation(assemble_plane(plane, 2.0), PROTOCOL)
    exact = cylinder(PROTOCOL, 3.0, 2.0, (0.0, 0.0, 1.0))
    # Measured 3.5e-4, most of it the basis of two strengths and three powers.
    torch.testing.assert_close(found, exact, rtol=0, atol=5e-4)
    finer = plane_part(mesh_plane(disks, 0.3, 0, inside=True), AXON)
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


@pytest.mark.slow
def test_the_plane_is_the_extrusion_in_tetrahedra():
    """One thin layer of curved tets with reflecting top and bottom, by the three-dimensional code.

    The cell is cut open at its jagged edge in both. Nothing is shared but the triangles: positions
    in place of phases, another basis, other exponentials.
    """
    plane = mesh_plane(THREE, 0.5, 0)
    across = PROTOCOL.select(PROTOCOL.direction[:, 2] == 0)
    bounded = unrolled(plane, THREE)
    flat = plane_attenuation(assemble_plane(bounded, 2.0), across, powers=8, parts=48)
    tissue, basis = Tissue.uniform(2.0, labels=(WATER,)), Basis(tolerance=1e-6)
    solid = simulate(swept(bounded, 0.2, 1, "sheet"), tissue, across, basis).attenuation[0]
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
