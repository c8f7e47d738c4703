"""Skeletons with radii: what is read of their files, and the solids that they stand for."""

from pathlib import Path

import manifold3d
import numpy as np
import pytest
from numpy import ndarray

from spinmesh.errors import ConfigError, MeshError, SpinmeshError, StoreError
from spinmesh.mesh import outer_faces
from spinmesh.mesh.curved import curved, jacobian_coefficients
from spinmesh.meshing.tets import (
    boundary,
    parts_by_faces,
    pinches,
    positive,
    quality,
    volumes,
)
from spinmesh.skeletons import solid as made
from spinmesh.skeletons.background import background
from spinmesh.skeletons.cones import RoundCones
from spinmesh.skeletons.cutting import cut
from spinmesh.skeletons.files import Skeleton, described, read_skeletons
from spinmesh.skeletons.grown import grown
from spinmesh.skeletons.solid import without_worst

FORKED = """# a soma, a neurite that forks, and an undefined process
1 1 0 0 0 2 -1
2 3 4 0 0 0.8 1
3 3 7 1 0 0.6 2
4 3 7 -2 0 0.6 2
5 7 -4 0 1 0.7 1
"""


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def area(points: ndarray, faces: ndarray) -> float:
    a, b, c = np.moveaxis(points[faces], 1, 0)
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


@pytest.fixture
def swc(tmp_path: Path) -> Path:
    return written(tmp_path / "forked.swc", FORKED)


def test_a_neurite_leaves_the_soma_with_its_own_radius(swc: Path) -> None:
    (skeleton,) = read_skeletons(swc)
    cones = skeleton.cones
    assert not skeleton.notes and len(cones.start) == 5
    np.testing.assert_array_equal(cones.start_radius, [2, 0.8, 0.8, 0.8, 0.7])
    np.testing.assert_array_equal(cones.end_radius, [2, 0.8, 0.6, 0.6, 0.7])
    np.testing.assert_array_equal(cones.start[:2], [[0, 0, 0], [0, 0, 0]])
    assert any("5 cones" in line for line in described(skeleton))


def test_a_soma_of_three_points_is_one_sphere(tmp_path: Path) -> None:
    text = "1 1 0 0 0 2 -1\n2 1 0 2 0 2 1\n3 1 0 -2 0 2 1\n4 3 5 0 0 1 1\n"
    (skeleton,) = read_skeletons(written(tmp_path / "a.swc", text))
    np.testing.assert_array_equal(skeleton.cones.end, [[0, 0, 0], [5, 0, 0]])


def test_what_is_no_node_is_left_away_and_said(tmp_path: Path) -> None:
    """Conflict markers of git (the first version counts), words, a number twice, a lost parent."""
    first, rest = FORKED.split("\n", 1)
    soma, others = rest.split("\n", 1)
    text = f"{first}\n<<<<<<< HEAD\n{soma}\n=======\n1 1 9 9 9 9 -1\n>>>>>>> theirs\n{others}"
    text += "5 3 1 1 1 1 1\nnot a node\n6 3 20 20 20 1 77\n"
    (skeleton,) = read_skeletons(written(tmp_path / "a.swc", text))
    assert len(skeleton.cones.start) == 6 and skeleton.cones.end_radius.max() == 2
    said = " ".join(skeleton.notes)
    assert "5 lines left away (first: line 2)" in said
    assert "1 nodes of a number there is already" in said and "2 roots" in said


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("no nodes here\n", "no line `id type"),
        ("1 1 0 0 0 1 3\n2 3 1 0 0 1 1\n3 3 2 0 0 1 2\n4 3 0 1 0 1 -1\n", "3 nodes lie on.*node 1"),
        ("1 1 0 0 0 1 1\n", "1 nodes lie on or behind a cycle"),
        ("1 1 0 0 0 1 -1\n2 3 5 0 0 0 1\n", "no radius > 0"),
        ("1 1 0 0 0 1 -1\n2 3 nan 0 0 1 1\n", "no place"),
    ],
)
def test_what_is_no_tree_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(MeshError, match=reason):
        read_skeletons(written(tmp_path / "a.swc", text))
    with pytest.raises(StoreError, match="no such skeleton"):
        read_skeletons(tmp_path / "absent.swc")


@pytest.mark.parametrize("seed", range(80))
def test_a_damaged_skeleton_is_one_message(tmp_path: Path, seed: int) -> None:
    """Bytes replaced, lines doubled or cut: a skeleton, or an error of ours."""
    random = np.random.default_rng(seed)
    content = bytearray((FORKED * (1 + seed % 2)).encode())
    for place in random.integers(0, len(content), 1 + seed // 4):
        content[place] = random.integers(0, 256)
    path = tmp_path / "a.swc"
    path.write_bytes(bytes(content[: random.integers(1, len(content))]))
    try:
        (skeleton,) = read_skeletons(path)
        assert np.isfinite(skeleton.cones.end).all()
    except SpinmeshError as error:
        assert str(path) in str(error)


def test_caterpillar_has_an_inner_solid_where_there_is_myelin(tmp_path: Path) -> None:
    header = "cell_type cell_id component component_id X Y Z inner_radius outer_radius\n"
    axons = [
        f"axon {cell} axon 0 {3 * cell} 0 {z} 0.{7 - cell} 0.7\n"
        for cell in (0, 1)
        for z in (0, 0.5, 1)
    ]
    outer, inner = read_skeletons(written(tmp_path / "a.csv", header + "".join(axons)))
    assert len(outer.cones.start) == 4 and len(inner.cones.start) == 2
    np.testing.assert_allclose(inner.cones.end_radius, 0.6)
    np.testing.assert_array_equal(inner.cones.start[:, 0], 3)


def test_older_caterpillar_is_known_by_its_header(tmp_path: Path) -> None:
    header = "id_ax id_sph id_branch Type X Y Z Rin Rout P\n"
    rows = "".join(f"0 {i} 0 axon 0 0 {i} 1 1 0\n" for i in range(4))
    (axon,) = read_skeletons(written(tmp_path / "a.swc", header + rows))
    assert len(axon.cones.start) == 3


def test_strands_are_read_to_the_last_point(tmp_path: Path) -> None:
    """CACTUS and DiSCo: side, number of strands, then of each its number of points and them."""
    text = "30\n2\n2\n0 0 0 1\n0 0 5 1\n3\n4 0 0 0.5\n4 0 2 0.5\n4 0 4 0.6\n"
    (strands,) = read_skeletons(written(tmp_path / "optimized_final.txt", text))
    np.testing.assert_array_equal(strands.cones.end_radius, [1, 0.5, 0.6])
    np.testing.assert_array_equal(strands.cell, [[-15] * 3, [15] * 3])
    with pytest.raises(MeshError, match="strand 2 has no 3 rows"):
        read_skeletons(written(tmp_path / "cut.txt", text[:-14]))


def test_xnh_axons_are_in_voxels_and_mm(tmp_path: Path) -> None:
    text = "".join(f"10,20,{z},0,0,1,0.002,0.4\n" for z in (0, 4, 8))
    (axon,) = read_skeletons(written(tmp_path / "axon.txt", text))
    np.testing.assert_allclose(axon.cones.end, [[5, 10, 2], [5, 10, 4]])
    np.testing.assert_allclose(axon.cones.end_radius, 1.0)


def test_mcdc_lists_are_scaled_from_mm(tmp_path: Path) -> None:
    spheres = written(tmp_path / "s.txt", "0.001\n1 2 3 0.5\n4 5 6 0.7\n")
    (skeleton,) = read_skeletons(spheres)
    np.testing.assert_allclose(skeleton.cones.end, [[1, 2, 3], [4, 5, 6]])
    cylinders = written(tmp_path / "c.txt", "0.001\n0 0 0 0 0 9 0.5\n")
    (skeleton,) = read_skeletons(cylinders)
    np.testing.assert_allclose(skeleton.cones.end - skeleton.cones.start, [[0, 0, 9]])
    assert "round ends" in skeleton.notes[0]
    with pytest.raises(MeshError, match="neither strands"):
        read_skeletons(written(tmp_path / "x.txt", "1 2 3\n"))


def capsule(length: float = 6.0, radius: float = 1.0) -> RoundCones:
    end = np.array([[0, 0, length]])
    return RoundCones(np.zeros((1, 3)), end, np.array([radius]), np.array([radius]))


def test_distance_to_a_capsule_and_in_pieces_too() -> None:
    points = np.array([[2.0, 0, 3], [0, 0, 8], [0.4, 0, 1], [0, 0, -1.5], [9, 9, 9]])
    expected = [1.0, 1.0, -0.6, 0.5, 4.0]
    for cones in (capsule(), capsule().in_pieces()):
        distance, radius, cone = cones.distance(points, np.full(5, 4.0))
        np.testing.assert_allclose(distance, expected, atol=1e-12)
        np.testing.assert_array_equal(np.isfinite(radius), cone >= 0)
        np.testing.assert_allclose(cones.normals(points, cone)[0], [1, 0, 0], atol=1e-12)


def test_background_conforms_covers_the_solid_and_is_fine_at_its_surface() -> None:
    """Each face belongs to two tets or, away from the solid, to one."""
    points, tets, _ = background(capsule(), 1.5, 3.0)
    tets = positive(points, tets)
    faces = np.sort(tets[:, [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]].reshape(-1, 3), 1)
    assert np.unique(faces, axis=0, return_counts=True)[1].max() == 2
    corners = np.unique(boundary(tets))
    assert capsule().distance(points[corners], np.full(len(corners), 9.0))[0].min() > 0
    inner = volumes(points, tets).sum()
    assert volumes(points, tets).min() > 0 and inner > np.pi * 6 + 4 / 3 * np.pi


def test_cut_is_closed_and_has_no_pinch() -> None:
    """Corners lie on the surface, so that facets cut off a share of the order (size/2)^2/8."""
    points, tets = cut(capsule(), *background(capsule(), 1.0, 3.0)[:2])
    assert not len(pinches(tets)) and parts_by_faces(tets).max() == 0
    assert volumes(points, tets).min() > 0
    exact = np.pi * 6 + 4 / 3 * np.pi
    assert volumes(points, tets).sum() == pytest.approx(exact, rel=0.06)


def test_a_small_solid_beside_a_large_one_is_no_crumb() -> None:
    """A two-thousandth of the other's volume. Of two balls, each to what facets cut off."""
    radius = np.array([4.0, 0.3])
    place = np.array([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0]])
    balls = RoundCones(place, place, radius, radius)
    points, tets = cut(balls, *background(balls, 1.0, 3.0)[:2])
    part = parts_by_faces(tets)
    volume = np.sort(np.bincount(part, volumes(points, tets)))
    np.testing.assert_allclose(volume, np.sort(4 / 3 * np.pi * radius**3), rtol=0.15)


@pytest.mark.parametrize("angle", [0, 20, 90])
@pytest.mark.parametrize("gap", [0.3, 0.07])
def test_branches_that_do_not_touch_stay_apart(gap: float, angle: int) -> None:
    """Radii of 1 and 0.6 um; gaps from above a tenth of the smaller radius, tets being 1.5 wide.

    Turned at random twice, since it matters where the grid lies.
    """
    way, radii = np.radians(angle), np.array([1, 0.6])
    along = np.array([[4, 0, 0], [4 * np.cos(way), 4 * np.sin(way), 0]])
    middle = np.array([[0, 0, 0], [0, 0, radii.sum() + gap]])
    for seed in range(2):
        random = np.random.default_rng(seed)
        turn, shift = np.linalg.qr(random.normal(size=(3, 3)))[0], random.uniform(0, 3, 3)
        start, end = (each @ turn + shift for each in (middle - along, middle + along))
        cones = RoundCones(start, end, radii, radii).in_pieces()
        _, tets = cut(cones, *background(cones, 1.5, 3.0)[:2])
        assert parts_by_faces(tets).max() == 1 and not len(pinches(tets))


@pytest.mark.parametrize("factor", [1e3, 1e-3])
def test_another_unit_is_refused_unless_it_is_said(tmp_path: Path, factor: float) -> None:
    nodes = [f"{n} 3 0 0 {50 * n * factor} {2 * factor} {n - 1 or -1}" for n in (1, 2, 3)]
    path = written(tmp_path / "other.swc", "\n".join(nodes))
    with pytest.raises(MeshError, match="Give scale_to_um"):
        read_skeletons(path)
    (skeleton,) = read_skeletons(path, 1 / factor)
    np.testing.assert_allclose(np.ptp(skeleton.cones.box, axis=0), [4, 4, 104], rtol=1e-12)
    with pytest.raises(ConfigError, match="give a number > 0"):
        read_skeletons(path, 0.0)


def union_of(skeleton: Skeleton) -> manifold3d.Manifold:
    """The union of the hulls of two spheres each, by a library that knows nothing of ours."""
    cones = skeleton.cones

    def ball(centre: ndarray, radius: float) -> manifold3d.Manifold:
        return manifold3d.Manifold.sphere(float(radius), 96).translate(centre.tolist())

    hulls = [
        manifold3d.Manifold.batch_hull([ball(a, ra), ball(b, rb)])
        for a, b, ra, rb in zip(
            cones.start, cones.end, cones.start_radius, cones.end_radius, strict=True
        )
    ]
    return manifold3d.Manifold.batch_boolean(hulls, manifold3d.OpType.Add)


def test_solid_of_a_skeleton_is_the_union_of_its_cones(swc: Path) -> None:
    """Volume to 1 % and area to 2 % of the union by manifold3d, whose balls are 0.3 % too small."""
    pytest.importorskip("mmgpy")
    (skeleton,) = read_skeletons(swc)
    surface, filling = grown(skeleton)
    points, tets = filling.mesh.points.numpy(), filling.mesh.tets.numpy()
    judge = union_of(skeleton)
    assert volumes(points, tets).sum() == pytest.approx(judge.volume(), rel=0.01)
    assert area(points, boundary(tets)) == pytest.approx(judge.surface_area(), rel=0.02)
    assert surface.volumes.sum() == pytest.approx(volumes(points, tets).sum(), rel=1e-12)
    assert quality(points, tets).min() >= 0.1
    faces = boundary(tets)
    edges = np.unique(
        np.sort(np.stack([faces, np.roll(faces, -1, 1)], 2).reshape(-1, 2), 1), axis=0
    )
    # A tree has no handle: Euler's characteristic of its surface is that of a sphere.
    assert len(np.unique(faces)) - len(edges) + len(faces) == 2
    assert not any("not inside" in note for note in filling.notes)


def test_curved_tets_of_a_skeleton_reach_its_cones() -> None:
    """A capsule's nodes are on it; edges of a radius leave a quadratic arc 0.3 % of the volume."""
    length, radius = 4.0, 1.0
    cones = RoundCones(
        np.zeros((1, 3)), np.array([[length, 0, 0]]), np.array([radius]), np.array([radius])
    )
    _, filling = grown(Skeleton(cones, "capsule"))
    shape, note = curved(filling.mesh, filling.solids)
    points, tets = shape.points.numpy(), shape.tets.numpy()
    nodes = np.unique(outer_faces(tets)[0])
    distance = cones.distance(points[nodes], np.ones(len(nodes)))[0]
    assert np.abs(distance).max() < 1e-9 and "fold" not in note
    exact = np.pi * radius**2 * length + 4 / 3 * np.pi * radius**3
    coefficients = jacobian_coefficients(points, tets)
    assert coefficients.mean(1).sum() / 6 == pytest.approx(exact, rel=4e-3)
    assert coefficients.min() > 0


def test_where_mmg_gives_up_on_close_branches_it_may_make_smaller_edges(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a neuron of 9,680 nodes has no mesh. Volume of a ball to fourth order, 0.5^4/8.

    Elsewhere mmg would work for minutes on what it gives up in seconds.
    """
    evened, least, close, failures = made._evened, [], True, 1

    def fails_at_first(*arguments: object) -> object:
        least.append(arguments[-1])
        if len(least) <= failures:
            raise RuntimeError("mmg gave up")
        return evened(*arguments)

    monkeypatch.setattr(made, "_evened", fails_at_first)
    monkeypatch.setattr(
        made, "background", lambda *given: (*background(*given)[:2], close and given[-1])
    )
    ball = RoundCones(np.zeros((1, 3)), np.zeros((1, 3)), np.ones(1), np.ones(1))
    points, tets = made.solid(ball, 0.5, 0.2, 3.0, lambda _: None)
    assert least == [0.3, 0.05]
    assert volumes(points, tets).sum() == pytest.approx(4 / 3 * np.pi, rel=0.01)
    failures = 3
    least.clear()
    made.solid(ball, 0.5, 0.2, 3.0, lambda _: None)
    assert least == [0.3, 0.05, 0.05, 0.3]  # the last with branches fused
    close = False
    least.clear()
    with pytest.raises(RuntimeError, match="gave up"):
        made.solid(ball, 0.5, 0.2, 3.0, lambda _: None)


def test_the_background_says_whether_branches_are_close() -> None:
    """Two parallel cylinders of radius 1, 0.2 and 8 um apart; tets are 1.5 wide."""
    for gap, close in ((0.2, True), (8.0, False)):
        start = np.array([[0.0, 0, 0], [0, 2 + gap, 0]])
        end = start + np.array([8, 0, 0])
        cones = RoundCones(start, end, np.ones(2), np.ones(2)).in_pieces()
        assert background(cones, 1.5, 3.0)[2] == close


def test_a_cell_too_fine_for_its_length_is_refused() -> None:
    end = np.array([[0, 0, 3e4]])
    thin = RoundCones(np.zeros((1, 3)), end, np.array([1e-4]), np.array([1e-4]))
    with pytest.raises(MeshError, match="Mesh the cell in pieces"):
        grown(Skeleton(thin, "thread"))


def test_a_cell_of_more_tets_than_memory_holds_is_refused() -> None:
    """A ball of 3 mm, whose inside alone is 2e10 um^3 of tets of 3 um."""
    place, radius = np.zeros((1, 3)), np.array([3e3])
    with pytest.raises(MeshError, match=r"ball: about .* tets.*Raise --size"):
        grown(Skeleton(RoundCones(place, place, radius, radius), "ball"))


def test_corners_of_bad_tets_move_and_those_of_the_surface_stay_on_it() -> None:
    """One corner inside and one of the surface are put where their tets are flat."""
    ball = RoundCones(np.zeros((1, 3)), np.zeros((1, 3)), np.ones(1), np.ones(1))
    points, tets = cut(ball, *background(ball, 1.0, 1.0)[:2])
    inner = np.setdiff1d(tets, boundary(tets))[0]
    star = tets[(tets == inner).any(1)][0]
    points[inner] = points[star[star != inner]].mean(0) * 0.999 + 0.001 * points[inner]
    spoilt = quality(points, tets).min()
    there = without_worst(ball, points, tets)
    assert spoilt < 0.01 and quality(there, tets).min() > 0.05
    outer = np.unique(boundary(tets))
    shift = np.linalg.norm(there[outer] - points[outer], axis=1) > 0
    np.testing.assert_allclose(np.linalg.norm(there[outer[shift]], axis=1), 1, atol=1e-9)


@pytest.mark.parametrize("line", ["9 3 600 0 0 1 1", "9 3 5 0 0 300 1"])
def test_a_radius_or_a_step_that_no_cell_has_is_questioned(tmp_path: Path, line: str) -> None:
    path = written(tmp_path / "slip.swc", FORKED + line + "\n")
    with pytest.raises(MeshError, match=r"1 nodes with a (step|radius) above .* \(first at"):
        read_skeletons(path)
    assert len(read_skeletons(path, 1.0)[0].cones.start) == 6
