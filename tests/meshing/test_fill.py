"""Surfaces filled with tets: exact volumes, shared membranes, limits, and broken surfaces."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from meshing.bodies import ball, surface
from scipy.spatial import cKDTree

from spinmesh import simulate
from spinmesh.errors import ConfigError, MeshError
from spinmesh.mesh import (
    SweptDisk,
    TetMesh,
    outer_faces,
    single_substrate,
    swept_disk,
    tet_quality,
)
from spinmesh.mesh.curved import curved, jacobian_coefficients
from spinmesh.meshing.faults import faults_of, patched
from spinmesh.meshing.fill import Filling, fill, labels_of
from spinmesh.meshing.mending import SLIVER, triangle_quality, without_slivers
from spinmesh.meshing.process import Limits, MesherFailedError
from spinmesh.meshing.surface import Surface, united
from spinmesh.meshing.tets import quality, volumes
from spinmesh.meshing.water import WATER, in_box, in_wrap
from spinmesh.sequence import Acquisition
from spinmesh.tissue import Tissue

pytest.importorskip("netgen")
pytest.importorskip("mmgpy")


@pytest.fixture(scope="module")
def cells() -> Surface:
    """A ball in a ball, and one beside them, in a box of water."""
    bodies = [
        ("outer", ball(3.0)),
        ("inner", ball(1.5, steps=1)),
        ("outer", ball(1.0, (4.5, 0, 0), 1)),
    ]
    return in_box(united([surface(*body, name) for name, body in bodies]), 0.5, 2.0)


@pytest.fixture(scope="module")
def filling(cells: Surface) -> Filling:
    return fill(cells, size=2.0)


def area_of(points: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = np.moveaxis(points[faces[:, :3]], 1, 0)
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def test_files_and_what_lies_in_them_are_compartments(filling: Filling) -> None:
    assert filling.names == {1: "outer", 2: "inner", 3: WATER}
    assert filling.mesh.labels == (1, 2, 3)


def test_volumes_are_those_between_the_surfaces(cells: Surface, filling: Filling) -> None:
    """To rounding, for the faces are the surfaces' own triangles."""
    outer, inner, beside, box = cells.volumes
    mesh = filling.mesh
    volume = volumes(mesh.points.numpy(), mesh.tets.numpy())
    filled = [volume[mesh.compartment.numpy() == label].sum() for label in mesh.labels]
    expected = [outer - inner + beside, inner, box - outer - beside]
    np.testing.assert_allclose(filled, expected, rtol=1e-12)


def test_membranes_have_one_area_from_both_sides(cells: Surface, filling: Filling) -> None:
    """Faces of a compartment are its membranes: no gap, no overlap, not a triangle changed."""
    points, tets = filling.mesh.points.numpy(), filling.mesh.tets.numpy()
    label = filling.mesh.compartment.numpy()
    outer, inner, beside, box = cells.areas
    area = [area_of(points, outer_faces(tets[label == each])[0]) for each in (1, 2, 3)]
    expected = [outer + inner + beside, inner, outer + beside + box]
    np.testing.assert_allclose(area, expected, rtol=1e-12)


def test_corners_of_the_surfaces_are_kept_to_the_last_bit(cells: Surface, filling: Filling) -> None:
    assert cKDTree(filling.mesh.points.numpy()).query(cells.points)[0].max() == 0


def test_no_tet_is_flat(filling: Filling) -> None:
    assert quality(filling.mesh.points.numpy(), filling.mesh.tets.numpy()).min() >= 0.1


@pytest.mark.slow
def test_single_precision_does_not_make_tets_four_times_as_many() -> None:
    """A beaded tube in rings: four corners lie on a circle but for rounding (see `seal`)."""
    size = SweptDisk(rings=3, layers=27, radius_um=1.0, length_um=4.0, order=1)
    shape = {"radius": 1.0, "bead_amplitude": 0.3, "bead_count": 1.0}
    tube = single_substrate(swept_disk(size), shape).mesh(0)
    faces, _ = outer_faces(tube.tets.numpy())
    filling = fill(surface(tube.points.numpy().astype(np.float32).astype(float), faces), size=0.6)
    assert len(filling.mesh.tets) < 2.5 * len(faces)


def test_reports_and_meshers_have_one_quality(filling: Filling) -> None:
    """One formula, in torch and without it."""
    mesh = filling.mesh
    expected = quality(mesh.points.numpy(), mesh.tets.numpy())
    np.testing.assert_allclose(tet_quality(mesh).numpy(), expected, rtol=1e-9)


def test_quality_of_a_regular_tet_is_one() -> None:
    points = np.array([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    assert quality(points, np.array([[0, 2, 1, 3]])) == pytest.approx([1.0], rel=1e-14)


@pytest.mark.slow
def test_label_nought_stays_empty() -> None:
    shell = united([surface(*ball(2.0, steps=1), "shell"), surface(*ball(1.0, steps=1), "lumen")])
    made = fill(shell, [4, 0])
    volume = volumes(made.mesh.points.numpy(), made.mesh.tets.numpy()).sum()
    assert made.mesh.labels == (4,)
    assert volume == pytest.approx(shell.volumes[0] - shell.volumes[1], rel=1e-12)


def test_one_label_on_both_sides_of_a_membrane_is_refused(cells: Surface) -> None:
    assert labels_of(cells) == [1, 2, 1, 3]
    with pytest.raises(ConfigError, match="no membrane"):
        fill(cells, [1, 1, 1, 2])
    with pytest.raises(ConfigError, match="2 compartments for 4 parts"):
        fill(cells, [1, 2])


def test_wrap_keeps_its_distance() -> None:
    """Corners of the wrap lie at the margin: to the tenth that mmgs may move them, and the grid."""
    body = surface(*ball(2.0, steps=3))
    wrapped = in_wrap(body, 1.0)
    wrap = wrapped.points[np.unique(wrapped.triangles[wrapped.part == 1])]
    assert np.abs(np.linalg.norm(wrap, axis=1) - 3.0).max() < 0.15
    assert wrapped.names == ("body", WATER)


@pytest.mark.slow
def test_wrap_of_cells_apart_is_one_for_each_and_closes_cavities() -> None:
    far = united([surface(*ball(1.0)), surface(*ball(1.0, (9, 0, 0)))])
    assert in_wrap(far, 1.0).names.count(WATER) == 2
    near = united([surface(*ball(1.0)), surface(*ball(1.0, (2.5, 0, 0)))])
    assert in_wrap(near, 1.0).names.count(WATER) == 1


def test_impossible_waters_are_refused() -> None:
    body = surface(*ball(2.0))
    for margin in (0.0, -1.0, np.nan):
        with pytest.raises(ConfigError, match="margin"):
            in_box(body, margin)
    with pytest.raises(ConfigError, match="larger margin"):
        in_wrap(body, 1e-3)


def test_limits_end_the_mesher_with_a_message() -> None:
    body = surface(*ball(2.0, steps=3))
    with pytest.raises(MeshError, match=r"took more than 0\.05 s"):
        fill(body, limits=Limits(seconds=0.05))
    with pytest.raises(MeshError, match=r"0\.2 GB were allowed"):
        fill(body, limits=Limits(gigabytes=0.2))


@pytest.mark.slow
def test_a_hole_is_closed_flat_and_said() -> None:
    """One of 320 triangles is gone, and its patch is the same triangle."""
    points, triangles = ball(2.0)
    made = fill(surface(points, triangles[1:]), size=1.0)
    volume = volumes(made.mesh.points.numpy(), made.mesh.tets.numpy()).sum()
    assert volume == pytest.approx(surface(points, triangles).volumes[0], rel=1e-12)
    assert any("repaired: 1 holes with 3 open edges" in note for note in made.notes)


def test_a_spike_through_the_other_side_is_cut_off() -> None:
    """What is cut out round one corner of 642, and closed flat, is less than a percent."""
    points, triangles = ball(2.0, steps=3)
    points[5] *= -1.2
    crossed = surface(points, triangles)
    assert faults_of(crossed)
    closed = patched(crossed)
    assert closed is not None and not faults_of(closed[0])
    assert closed[0].volumes == pytest.approx(surface(*ball(2.0, steps=3)).volumes, rel=0.01)


@pytest.mark.slow
def test_what_the_mesher_cannot_fill_goes_to_fTetWild(monkeypatch: pytest.MonkeyPatch) -> None:
    """netgen's failure is said, and the volume stays to a percent."""
    pytest.importorskip("pytetwild")

    def failing(*_: object) -> None:
        raise MesherFailedError("netgen gave up")

    monkeypatch.setattr("spinmesh.meshing.fill._filled", failing)
    body = surface(*ball(2.0))
    made = fill(body, size=1.0)
    assert any("repaired by fTetWild: no fault was seen, but netgen" in n for n in made.notes)
    points, tets = made.mesh.points.numpy(), made.mesh.tets.numpy()
    assert volumes(points, tets).sum() == pytest.approx(body.volumes[0], rel=0.01)


def test_loose_triangles_are_refused_at_once() -> None:
    points, triangles = ball(2.0)
    loose = points[triangles].reshape(-1, 3) * np.linspace(0.99, 1.01, triangles.size)[:, None]
    with pytest.raises(MeshError, match="960 open edges of 320 triangles"):
        fill(surface(loose, np.arange(triangles.size).reshape(-1, 3)))


def test_a_crumb_does_not_make_all_edges_small() -> None:
    body = united([surface(*ball(2.0)), surface(*ball(0.001, (3, 0, 0), 3))])
    assert body.usual_edge == pytest.approx(surface(*ball(2.0)).usual_edge, rel=1e-12)


def test_too_many_tets_for_the_memory_are_refused_before_any_mesher() -> None:
    """2e11 tets by volume, of a surface or of the box around it; the remedy is a factor."""
    body = surface(*ball(20.0))
    with pytest.raises(MeshError, match=r"about .*e\+11 tets.*Raise --size \(at least"):
        fill(body, size=0.01)
    with pytest.raises(MeshError, match="box: about"):
        in_box(body, 1.0, 0.01)


@pytest.mark.slow
def test_half_a_ball_is_refused_by_count_and_place() -> None:
    pytest.importorskip("pytetwild")
    points, triangles = ball(2.0)
    half = triangles[points[triangles].mean(1)[:, 2] > -0.5]
    with pytest.raises(MeshError, match=r"1 holes with \d+ open edges.*first at"):
        fill(surface(points, half), size=1.0)


def with_slivers() -> Surface:
    """A ball with an edge cut a hundredth from its end: two slivers lie beside it."""
    points, triangles = ball(2.0)
    a, b, c = triangles[0]
    (beside,) = [t for t in triangles[1:] if a in t and b in t]
    d = next(corner for corner in beside if corner not in (a, b))
    new = len(points)
    kept = [t for t in triangles[1:] if not (a in t and b in t)]
    cut = [[a, new, c], [new, b, c], [a, d, new], [new, d, b]]
    corner = 0.99 * points[a] + 0.01 * points[b]
    return surface(np.concatenate([points, [corner]]), np.array([*kept, *cut]))


@pytest.mark.slow
def test_slivers_are_evened_and_said() -> None:
    """Beside them no good tet has room."""
    sliver = with_slivers()
    made = fill(sliver, size=1.0)
    corners, tets = made.mesh.points.numpy(), made.mesh.tets.numpy()
    assert any("2 sliver triangles" in note for note in made.notes)
    assert quality(corners, tets).min() >= 0.1
    assert volumes(corners, tets).sum() == pytest.approx(sliver.volumes[0], rel=0.01)


def test_a_sliver_goes_with_its_edge_alone() -> None:
    """A corner moves along an edge by a hundredth of it: 1e-2 of one triangle's share of 320."""
    body = with_slivers()
    mended, left = without_slivers(body)
    assert triangle_quality(body.corners).min() < SLIVER <= triangle_quality(mended.corners).min()
    assert left == 0 and not faults_of(mended) and len(mended.triangles) == 320
    assert mended.volumes[0] == pytest.approx(body.volumes[0], rel=1e-4)


def test_membranes_seal_at_no_permeability_and_vanish_at_a_high_one(filling: Filling) -> None:
    """Sealed, the signal is the sum of the compartments'; at 1e4 um/ms that of one water."""
    whole, labels = filling.mesh, filling.mesh.labels
    direction = torch.nn.functional.normalize(torch.tensor([[1.0, 0.2, 0.1]] * 3).double())
    acquisition = Acquisition.pgse([0.0, 1.0, 4.0], direction, 5.0, 20.0)
    sealed = Tissue.uniform(2.0, labels=labels)
    parts = [whole.part(label) for label in labels]
    apart = [simulate(part, Tissue.uniform(2.0, labels=part.labels), acquisition) for part in parts]
    together = simulate(whole, sealed, acquisition).signal
    total = sum(each.signal for each in apart)
    # To the tolerance of the bases, 1e-5 of S0 each.
    assert torch.allclose(together, total, rtol=0, atol=4e-5 * float(total.abs().max()))
    open_doors = replace(sealed, permeability={(1, 2): 1e4, (1, 3): 1e4})
    one = TetMesh(whole.points, whole.tets, torch.ones_like(whole.compartment))
    mixed = simulate(one, Tissue.uniform(2.0), acquisition).attenuation
    # A membrane of 1e4 um/ms holds spins up as 2e-4 um of water do.
    assert torch.allclose(
        simulate(whole, open_doors, acquisition).attenuation, mixed, rtol=0, atol=1e-3
    )
    assert float((together / together.abs().max() - mixed).abs().max()) > 0.02


def test_curved_compartments_fill_the_box(cells: Surface, filling: Filling) -> None:
    """Membranes conform: their bulges go from one side to the other, and walls stay flat."""
    shape, _ = curved(filling.mesh)
    coefficients = jacobian_coefficients(shape.points.numpy(), shape.tets.numpy())
    label, volume = shape.compartment.numpy(), coefficients.mean(1) / 6
    assert coefficients.min() > 0
    assert volume.sum() == pytest.approx(float(np.prod(np.ptp(cells.box, axis=0))), rel=1e-12)
    exact = 4 / 3 * np.pi * np.array([3**3 - 1.5**3 + 1, 1.5**3])
    facets = volumes(filling.mesh.points.numpy(), filling.mesh.tets.numpy())
    for each, body in ((1, exact[0]), (2, exact[1])):
        missing = [body - part[label == each].sum() for part in (volume, facets)]
        assert abs(missing[0]) < missing[1] / 8, missing
    low, high = shape.bounding_box.numpy()
    np.testing.assert_allclose([low, high], cells.box, rtol=1e-14)
