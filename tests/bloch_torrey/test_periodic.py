"""One cell of endless tissue against free water, the plane, a bounded cut-out, and itself tiled."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from bodies import SEQUENCES, TENSOR, WAVEFORM, box, cells
from torch.autograd import gradcheck

from spinmesh.analytic import free
from spinmesh.bloch_torrey import (
    Basis,
    Periodic,
    Signals,
    signal_of_cell,
    simulate_periodic,
    step_signal,
)
from spinmesh.bodies import Body, Piece, reduce_piece, simulate, simulate_body
from spinmesh.bundles import assemble_plane, plane_attenuation
from spinmesh.errors import MeshError, MeshWarning
from spinmesh.fem import cell_matrices, function_space
from spinmesh.io import load, save
from spinmesh.io.meshes import read_mesh, write_mesh
from spinmesh.mesh import Disks, TetMesh, mesh_plane
from spinmesh.mesh.bundle import bundle_of, swept, unrolled
from spinmesh.mesh.plane import AXON, WATER
from spinmesh.sequence import Acquisition
from spinmesh.settings import PackedBundle
from spinmesh.tissue import Tissue

ALONG = [[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0.6, 0.0, 0.8]]
PULSES = Acquisition.joined(Acquisition.pgse([b] * 4, ALONG, 10.0, 20.0) for b in (1.0, 5.0))
DISKS = Disks(np.array([[2.0, 2.0], [6.1, 2.6], [0.5, 6.6]]), np.array([1.6, 1.9, 1.7]), 8.0)
STRAIGHT = PackedBundle(axons=1, volume_fraction=0.5, length_um=1.5, layers=3, size_um=0.6)


def periodic(mesh, *periods):
    return replace(mesh, periods=torch.tensor(periods, dtype=torch.float64))


def permeable(kappa, diffusivity=2.0):
    tissue = Tissue.uniform(diffusivity, labels=(AXON, WATER))
    return replace(tissue, permeability={(AXON, WATER): kappa})


def tiled(mesh, counts):
    """Copies of a cell side by side, nodes on common faces being one; with the periods of all."""
    shifts = torch.cartesian_prod(*(torch.arange(n).double() for n in counts)) * mesh.periods
    points = (mesh.points + shifts[:, None]).reshape(-1, 3)
    tets = mesh.tets + len(mesh.points) * torch.arange(len(shifts))[:, None, None]
    _, first, node = np.unique(
        points.numpy().round(7) + 0.0, axis=0, return_index=True, return_inverse=True
    )
    return TetMesh(
        points[torch.from_numpy(first)],
        torch.from_numpy(node.ravel())[tets.reshape(-1, tets.shape[-1])],
        mesh.compartment.repeat(len(shifts)),
        "tiled",
        mesh.periods * torch.tensor(counts),
    )


@pytest.mark.parametrize("name", ["PGSE, ramps and dead time", "spherical tensor", "sine OGSE"])
def test_a_cell_of_plain_water_is_free(name):
    """Whatever the sequence, with a full tensor: the uniform w is exact, only its phase is stepped.

    Straight and curved elements in turn.
    """
    acquisition = Acquisition.of(SEQUENCES[name], [0.5, 2.0], [ALONG[0], ALONG[3]])
    tissue = replace(Tissue.uniform(1.0), diffusivity=torch.tensor([TENSOR]).double())
    cell = periodic(box(3, 4.0, 1 + len(name) % 2), 4.0, 4.0, 4.0)
    found = simulate_periodic(cell, tissue, acquisition, 1e-5)
    exact = free(acquisition, tissue.diffusivity[0])
    assert (
        float((found.signals.attenuation[0] - exact).abs().max()) < max(found.error, 1e-8) <= 1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("curved", [False, True])
def test_estimated_error_of_a_cells_mesh_is_within_a_factor_of_two_of_the_true_one(curved):
    """Layers of straight tets, or an axon of curved ones; coarse against fine."""
    attenuation, estimate, strong = [], 0.0, PULSES.select([4, 7])
    for size in (1.5, 3.0):
        mesh = periodic(box(round(12 / size), 4.0, 1), 4.0, 4.0, 4.0)
        mesh = replace(mesh, compartment=1 + (mesh.points[mesh.tets].mean(1)[:, 0] > 2).long())
        if curved:
            mesh = bundle_of(STRAIGHT.replace(radius_um=1.5, size_um=0.3 * size)).mesh()
        tissue = replace(Tissue.uniform(2.0, labels=(1, 2)), permeability={(1, 2): 0.5})
        found = simulate_periodic(mesh, tissue, strong, 1e-5)
        attenuation.append(found.signals.attenuation)
        estimate = found.discretisation_error(tissue, strong)
    true = float((attenuation[1] - attenuation[0]).abs().max())
    assert true / 2 < estimate < 2 * true


@pytest.mark.slow
def test_gradients_of_a_cell_are_those_of_finite_differences():
    """In nodes along a periodic wave, diffusivities, T2, density, permeability."""
    mesh = periodic(box(3, 3.0, 1), 3.0, 3.0, 3.0)
    mesh = replace(mesh, compartment=1 + (mesh.points[mesh.tets].mean(1)[:, 0] > 1).long())
    tissue = cells((TENSOR, 2.0), t2=(30.0, 80.0), density=(1.0, 0.7), kappa=0.2)
    acquisition = Acquisition.pgse([2.0], ALONG[3:], 1.0, 5.0)
    found = simulate_periodic(mesh, tissue, acquisition, 1e-2)
    wave = 0.1 * torch.sin(2 * torch.pi / 3 * mesh.points.roll(1, 1))

    def signal(step):
        moved = replace(
            tissue,
            diffusivity=tissue.diffusivity * torch.exp(step[:2, None, None]),
            t2=tissue.t2 * torch.exp(step[2]),
            density=tissue.density + step[3] * torch.tensor([0.0, 1.0]),
            permeability={(1, 2): 0.2 + step[4]},
        )
        points = mesh.points + step[5] * wave
        parts = signal_of_cell(found.span, points, moved, acquisition, found.parts)
        return torch.view_as_real(parts)

    zero = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    assert gradcheck(signal, zero, rtol=1e-5, atol=1e-6)
    here = torch.view_as_complex(signal(zero).detach())
    torch.testing.assert_close(here, found.signals.signal[0], rtol=1e-10, atol=0)


@pytest.mark.slow
def test_straight_axons_have_the_signals_of_their_periodic_plane():
    """Water between them, any direction; the plane code shares nothing but the triangles."""
    error = {}
    for size in (0.9, 0.55):
        plane = mesh_plane(DISKS, size, 0)
        sheet = periodic(swept(unrolled(plane, DISKS), 1.5, 3, "sheet"), 8.0, 8.0, 1.5)
        found = simulate(sheet, Tissue.uniform(2.0, labels=(WATER,)), PULSES, tolerance=1e-5)
        flat = plane_attenuation(assemble_plane(plane, 2.0), PULSES, powers=8, parts=32)
        error[size] = float((found.attenuation[0] - flat).abs().max())
    # Tets hold the triangles' functions, and more: measured 2.5e-5 and 5e-6, of order h^3 and more.
    assert error[0.9] < 5e-5
    assert error[0.55] < error[0.9] / 2


@pytest.mark.slow
def test_permeable_axons_have_the_signals_of_a_cut_out_where_its_rim_is_not_felt():
    """The middle one of 3 x 3 cells with walls around, by the engine of bounded bodies.

    In 0.6 ms water of 0.5 um^2/ms goes 0.8 um, and the rim is 2.5 um away.
    """
    cell = bundle_of(STRAIGHT).mesh()
    width = float(cell.periods[0])
    assert width > 2.4
    across = Acquisition.pgse([0.0, 0.3, 0.3], [ALONG[0], ALONG[0], ALONG[1]], 0.2, 0.4)
    tissue = permeable(0.5, 0.5)
    found = simulate_body(cell, tissue, across, Basis(tolerance=1e-6))
    assert "periodic cell" in found.words and isinstance(found.reduction, Periodic)
    body = Body.of(replace(tiled(cell, (3, 3, 1)), periods=None), tissue)
    count = len(cell.tets)
    piece = Piece(body, np.arange(9 * count), np.arange(9 * count) // count == 4)
    reduction = reduce_piece(piece, across, Basis(tolerance=1e-6))
    middle = Signals.of(reduction.reduced, across)
    torch.testing.assert_close(found.signals.unweighted, middle.unweighted, rtol=1e-9, atol=0)
    error = (found.signals.attenuation - middle.attenuation).abs().max()
    # Bases of 1e-6 each, positions and phases on elements of 0.6 um.
    assert float(error) < 2e-4
    sealed = simulate(cell, permeable(0.0, 0.5), across, tolerance=1e-5).attenuation
    assert float((sealed - found.signals.attenuation).abs().max()) > 5e-3


@pytest.mark.slow
def test_two_cells_side_by_side_have_twice_the_signal():
    """Beads, waves, myelin and membranes across the faces; a waveform that is no mirror image."""
    settings = PackedBundle(axons=2, volume_fraction=0.45, gap_um=0.3, length_um=4.0, layers=4)
    shape = {"size_um": 0.7, "bead_amplitude": 0.05, "bead_count": 1, "dispersion_deg": 4.0}
    cell = bundle_of(settings.replace(**shape)).mesh()
    waveform = Acquisition.of(WAVEFORM, [1.0, 1.0], [ALONG[1], ALONG[3]])
    one, two = (
        simulate(mesh, permeable(0.1), waveform, tolerance=1e-5).signal
        for mesh in (cell, tiled(cell, (2, 1, 1)))
    )
    assert float(one.imag.abs().max()) > 1e-6 * float(one.abs().max())
    # Two bases of 1e-5.
    assert float((two - 2 * one).abs().max()) < 2e-5 * float(two.abs().max()) / 0.1


def test_every_membrane_is_there_once_and_faces_are_no_walls():
    mesh = bundle_of(STRAIGHT).mesh()
    space, walled = function_space(mesh), function_space(replace(mesh, periods=None))
    assert len(space.wall_label) == 0 < len(walled.wall_label)
    # Whole circles; where the rim cuts the water off, the walled cell has a wall instead.
    disk = 2 * np.pi * bundle_of(STRAIGHT).fibres.radii[0] * STRAIGHT.length_um
    area = float(cell_matrices(mesh, space, permeable(1.0)).membrane.sum())
    assert area == pytest.approx(disk, rel=1e-3)
    twice = function_space(tiled(mesh, (2, 1, 2)))
    assert len(twice) == 4 * len(space)
    assert len(twice.interface_labels) == 4 * len(space.interface_labels)


def test_a_periodic_cell_is_never_given_walls_silently(tmp_path):
    mesh = bundle_of(STRAIGHT).mesh()
    pulses = PULSES.select(torch.arange(2))
    for refused in (
        lambda: step_signal(mesh, permeable(0.0), pulses),
        lambda: simulate(mesh, permeable(0.0), pulses, Basis(kind="laplace", modes=20)),
        lambda: Body.of(mesh, permeable(0.0)),
    ):
        with pytest.raises(MeshError, match="is a periodic cell"):
            refused()
    with pytest.raises(MeshError, match="three elements or more along each axis"):
        simulate(bundle_of(STRAIGHT.replace(layers=2)).mesh(), permeable(0.0), pulses)
    save(mesh, tmp_path / "cell.zarr")
    assert torch.equal(load(TetMesh, tmp_path / "cell.zarr").periods, mesh.periods)
    assert torch.equal(read_mesh(tmp_path / "cell.zarr", 2.0).periods, 2 * mesh.periods)
    with pytest.warns(MeshWarning, match="periods are kept in a store"):
        write_mesh(mesh, tmp_path / "cell.vtu")
