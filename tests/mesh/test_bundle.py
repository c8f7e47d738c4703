"""Packed bundles in three dimensions: exact volumes, matching faces, and the physics inside."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from bodies import plane_part

from spinmesh.analytic import cylinder
from spinmesh.bloch_torrey import Basis, reduce_mesh, simulate_compartments
from spinmesh.bodies import simulate
from spinmesh.bundles import assemble_plane, plane_attenuation
from spinmesh.errors import ConfigError, MeshError
from spinmesh.fem import assemble, function_space
from spinmesh.fem.elements import face_mass
from spinmesh.mesh import TetMesh, mesh_plane, outer_faces
from spinmesh.mesh.bundle import SHAPE, bundle_of, swept, unrolled
from spinmesh.mesh.packing import pack_densely
from spinmesh.mesh.plane import AXON, MYELIN, WATER
from spinmesh.sequence import Acquisition
from spinmesh.settings import PackedBundle
from spinmesh.tissue import Tissue

ROOMY = PackedBundle(
    axons=6,
    volume_fraction=0.5,
    gap_um=0.3,
    g_ratio=0.7,
    length_um=8.0,
    layers=8,
    size_um=0.8,
    undulation_amplitude_um=0.5,
    bead_amplitude=0.06,
    bead_count=1,
    dispersion_deg=5.0,
    seed=3,
)
FINE = Basis(tolerance=1e-7)


def volumes(mesh: TetMesh) -> torch.Tensor:
    """Of each compartment (um^3)."""
    walled = replace(mesh, periods=None)
    matrices = assemble(walled, Tissue.uniform(2.0, labels=mesh.labels))
    return matrices.space.inside @ torch.from_numpy(matrices.mass.sum(1).A1.copy())


def area(mesh: TetMesh) -> float:
    """Of all that is outside of a mesh, curved."""
    faces = torch.from_numpy(outer_faces(mesh.tets.numpy())[0])
    return float(face_mass(mesh.points[faces]).sum())


def test_compartments_fill_the_cell_and_have_the_areas_of_their_membranes_from_both_sides():
    """Deformed, in myelin: maps with the cell's periods keep its volume to rounding."""
    bundle = bundle_of(ROOMY)
    mesh = bundle.mesh()
    assert mesh.labels == (AXON, WATER, MYELIN)
    assert float(volumes(mesh).sum()) == pytest.approx(np.prod(bundle.periods), rel=1e-12)
    space = function_space(replace(mesh, periods=None))
    inner, outer = (mesh.points[space.dof_point[space.interface_dofs[:, i]]] for i in (0, 1))
    sides = [face_mass(points).sum((1, 2)) for points in (inner, outer)]
    torch.testing.assert_close(*sides, rtol=1e-12, atol=0)
    # Every membrane is the outside of two parts; axons touch myelin only.
    parts = sum(area(mesh.part(label)) for label in mesh.labels)
    assert parts - area(mesh) == pytest.approx(2 * float(sides[0].sum()), rel=1e-12)
    pairs = torch.unique(space.interface_labels, dim=0).tolist()
    assert pairs == [[AXON, MYELIN], [WATER, MYELIN]]


def test_straight_axons_have_the_area_of_their_disks():
    bundle = bundle_of(ROOMY)
    axon, water, myelin = (volumes(bundle.straight) / np.prod(bundle.periods)).tolist()
    fibres = bundle.fibres.volume_fraction
    assert fibres == pytest.approx(0.5, rel=1e-12)
    # Quadratic arcs miss a circle's area by pi r^2 a^4 / 480, a the angle of one: ten to a circle.
    worst = (2 * np.pi / 10) ** 4 / 480
    assert axon + myelin == pytest.approx(fibres, rel=worst)
    assert axon == pytest.approx(0.7**2 * fibres, rel=worst)
    assert water == pytest.approx(1 - fibres, rel=worst)


def test_dense_bundles_reach_two_thirds_and_more_with_a_gap():
    for fraction in (0.65, 0.75):
        settings = PackedBundle(axons=30, volume_fraction=fraction, gap_um=0.05)
        fibres = bundle_of(settings).fibres
        assert fibres.volume_fraction == pytest.approx(fraction, rel=1e-12)
        gaps = fibres.distances() - fibres.radii - fibres.radii[:, None] + 9 * np.eye(30)
        assert gaps.min() >= 0.9 * 0.05


def test_opposite_faces_are_translations_node_for_node():
    """Each outer face, moved by one period, is another one: all of its six nodes, in order."""
    bundle = bundle_of(ROOMY)
    mesh = bundle.mesh()
    faces = mesh.points[torch.from_numpy(outer_faces(mesh.tets.numpy())[0])].numpy()
    periods = np.array(bundle.periods)

    def keys(shift):
        moved = np.round(faces + shift, 6) + 0.0  # no negative zeros
        return {tuple(sorted(map(tuple, face))) for face in moved.tolist()}

    there = keys(np.zeros(3))
    assert len(there) == len(faces)
    steps = [np.array([i, j, k]) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1)]
    matched = [keys(step * periods) & there for step in steps if step.any()]
    assert sum(map(len, matched)) == len(faces) == len(set().union(*matched))


def test_positions_are_differentiable_in_the_shape():
    bundle = bundle_of(ROOMY)
    tangents = torch.randn(bundle.straight.points.shape, generator=torch.Generator().manual_seed(0))
    values = torch.tensor([0.06, 5.0, 0.5]).double().requires_grad_()

    def projected(values):
        return (bundle.points(dict(zip(SHAPE, values, strict=True))) * tangents).sum()

    assert torch.autograd.gradcheck(projected, values)
    assert bool((torch.autograd.grad(projected(values), values)[0].abs() > 1e-3).all())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bead_amplitude": 0.5}, r"inverted.*`bead_amplitude` folds it: 0\.5; 0\.\d+ does not"),
        ({"dispersion_deg": 60.0, "bead_amplitude": 0.0}, "`dispersion_deg` folds it: 60 deg; "),
    ],
)
def test_what_folds_a_bundle_is_named(changes, words):
    with pytest.raises(MeshError, match=words):
        bundle_of(ROOMY.replace(**changes)).mesh()


def test_a_bundle_of_flat_tets_is_refused_with_its_layers_and_no_deformation():
    with pytest.raises(MeshError, match=r"degenerate.*before any deformation: give more layers"):
        bundle_of(PackedBundle(axons=10, g_ratio=0.97, layers=2)).mesh()


def test_rows_are_drawn_from_ranges_and_depend_on_seed_and_row_alone():
    settings = ROOMY.replace(ranges={"volume_fraction": (0.3, 0.5), "bead_amplitude": (0.0, 0.05)})
    rows = [bundle_of(settings, row) for row in (0, 1, 1)]
    assert torch.equal(rows[1].mesh().points, rows[2].mesh().points)
    first, second = (row.settings for row in rows[:2])
    assert first.volume_fraction != second.volume_fraction
    for row in (first, second):
        assert 0.3 <= row.volume_fraction <= 0.5
        assert 0 <= row.bead_amplitude <= 0.05
    assert rows[1].fibres.volume_fraction == pytest.approx(second.volume_fraction, rel=1e-12)
    with pytest.raises(ConfigError, match=r"ranges.g_ratio is \[0.5, 1.5\]: .* less than 1"):
        ROOMY.replace(ranges={"g_ratio": (0.5, 1.5)})


def test_each_axon_is_a_compartment_on_request():
    bundle = bundle_of(ROOMY.replace(label_each_axon=True))
    assert bundle.straight.labels == (WATER, MYELIN, *range(4, 10))
    areas = volumes(bundle.straight)[2:].numpy() / ROOMY.length_um
    np.testing.assert_allclose(areas, np.pi * (0.7 * bundle.fibres.radii) ** 2, rtol=4e-4)


SMALL = ROOMY.replace(axons=3, g_ratio=None, length_um=4.0, layers=4, bead_amplitude=0.05)
PULSES = Acquisition.pgse([0.0, 1.0, 3.0], [[0.6, 0.0, 0.8]] * 3, 5.0, 20.0)


def exchanging(kappa: float) -> Tissue:
    return replace(Tissue.uniform(2.0, labels=(AXON, WATER)), permeability={(AXON, WATER): kappa})


@pytest.mark.slow
def test_sealed_membranes_leave_each_compartment_its_signal_and_open_ones_none():
    mesh = bundle_of(SMALL).mesh()
    sealed = simulate(mesh, exchanging(0.0), PULSES, FINE).signal[0]
    alone = [
        simulate(mesh.part(label), Tissue.uniform(2.0, labels=(label,)), PULSES, FINE).signal[0]
        for label in mesh.labels
    ]
    scale = float(sealed.abs().max())
    # Each to 1e-7 of the whole.
    torch.testing.assert_close(sealed, sum(alone), rtol=0, atol=3e-7 * scale)
    merged = replace(mesh, compartment=torch.ones_like(mesh.compartment))
    single = simulate(merged, Tissue.uniform(2.0), PULSES, FINE).signal[0]
    much = [simulate(mesh, exchanging(k), PULSES, FINE).signal[0] - single for k in (2e3, 4e3)]
    largest = [float(difference.abs().max()) / scale for difference in much]
    # What is missing is of the order D/(kappa r), 1e-3 at the first, and of first order in it.
    assert largest[0] < 1e-3
    assert largest[0] / largest[1] == pytest.approx(2.0, rel=0.02)
    assert float((sealed - single).abs().max()) > 5e-3 * scale


@pytest.mark.slow
def test_straight_axons_have_the_signal_of_their_plane_and_of_cylinders():
    """Gradients across: the tets hold every function of the triangles that does not vary along z.

    The plane code shares the triangles, and neither basis nor exponentials.
    """
    radii = np.array([0.9, 1.1, 1.3, 0.8])
    fibres = pack_densely(radii, 0.55, 0.1, np.random.default_rng(0))
    plane = mesh_plane(fibres, 0.4, 0, inside=True)
    axons = swept(unrolled(plane, fibres), 0.5, 1, "sheet").part(AXON)
    across = Acquisition.pgse([1.0, 4.0, 8.0], [[0.6, 0.8, 0.0]] * 3, 10.0, 30.0)
    solid = simulate(axons, Tissue.uniform(2.0), across, FINE).attenuation[0]
    flat = assemble_plane(plane_part(plane, AXON), 2.0)
    flat = plane_attenuation(flat, across, powers=8, parts=48)
    # Phases and positions differ in what quadratics miss; measured 1.2e-4 at b = 8 ms/um^2.
    torch.testing.assert_close(solid, flat, rtol=0, atol=2e-4)
    exact = sum(r**2 * cylinder(across, r, 2.0, (0.0, 0.0, 1.0)) for r in fibres.radii)
    torch.testing.assert_close(solid, exact / (radii**2).sum(), rtol=0, atol=2e-5)


@pytest.mark.slow
def test_water_in_the_middle_of_a_bundle_without_membranes_diffuses_freely():
    """exp(-b D) to 1e-6, read in the innermost axon; gradients across leave the flat ends unseen.

    In 0.15 ms water goes sqrt(2 D t) = 0.55 um; the rim is 3 um and more away, and
    erfc(3/(2 sqrt(D t))) = 4e-8 of what it does is felt. The read-out's membrane leaves a jump of
    q D/kappa, 1e-6 of the phase's slope in um. Signals are computed to 1e-8 of the whole, of which
    the axon is a thirtieth: 3e-7.
    """
    straight = {"bead_amplitude": 0.0, "dispersion_deg": 0.0, "undulation_amplitude_um": 0.0}
    cell = {"axons": 19, "volume_fraction": 0.6, "gap_um": 0.2, "g_ratio": None, "size_um": 0.5}
    sheet = {"length_um": 0.5, "layers": 1, "label_each_axon": True}
    mesh = bundle_of(ROOMY.replace(**straight, **cell, **sheet)).mesh()
    middle = mesh.points.mean(0)
    inside = [mesh.part(label).points.mean(0) for label in mesh.labels[1:]]
    nearest = mesh.labels[1:][int(torch.stack(inside).sub(middle).norm(dim=1).argmin())]
    label = 1 + (mesh.compartment == nearest).long()
    probed = TetMesh(mesh.points, mesh.tets, label, "probed")
    tissue = replace(Tissue.uniform(1.0, labels=(1, 2)), permeability={(1, 2): 1e6})
    pulses = Acquisition.pgse([0.0, 0.02, 0.02], [[1.0, 0, 0], [1, 0, 0], [0.6, 0.8, 0]], 0.05, 0.1)
    reduced = reduce_mesh(probed, tissue, pulses, Basis(tolerance=1e-8)).reduced
    signal = simulate_compartments(reduced, pulses)[1]
    attenuation = (signal[1:] / signal[0]).abs()
    torch.testing.assert_close(
        attenuation, torch.full((2,), -0.02).exp().double(), rtol=0, atol=1e-6
    )
