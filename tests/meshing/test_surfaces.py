"""Closed surfaces: what they enclose, what is wrong with them, and what is mended."""

from pathlib import Path

import numpy as np
import pytest
import trimesh
from meshing.bodies import ball, octahedron, surface
from numpy import ndarray

from spinmesh.errors import ConfigError, MeshError, SpinmeshError, StoreError
from spinmesh.meshing.check import check_surface, thickness_of
from spinmesh.meshing.faults import crossing_triangles, faults_of
from spinmesh.meshing.files import read_surface, unit_of
from spinmesh.meshing.mending import mended
from spinmesh.meshing.surface import depths, parents, united, winding_numbers
from spinmesh.meshing.water import level_surface


def described(points: ndarray, triangles: ndarray) -> dict[str, int]:
    """Count of every fault, mended ones too, by its first words."""
    body, repaired = mended(points, triangles, "body")
    return {fault.what: fault.count for fault in (*repaired, *faults_of(body))}


def test_volume_and_area_of_an_octahedron() -> None:
    body = surface(*octahedron(3.0))
    assert body.volumes == pytest.approx([4 / 3 * 27], rel=1e-14)
    assert body.areas == pytest.approx([4 * 3**0.5 * 9], rel=1e-14)


def test_loose_triangles_are_welded_without_a_fault() -> None:
    """As in a .stl, where each triangle has corners of its own."""
    points, triangles = ball(2.0)
    loose = np.arange(triangles.size).reshape(-1, 3)
    assert described(points[triangles].reshape(-1, 3), loose) == {}
    noise = np.random.default_rng(1).normal(0, 1e-9, (triangles.size, 3))
    noisy = described(points[triangles].reshape(-1, 3) + noise, loose)
    assert noisy.keys() == {"corners that nearly lay on others"}


def test_triangles_twice_and_without_area_are_dropped() -> None:
    points, triangles = octahedron(1.0)
    more = np.concatenate([triangles, triangles[:2, [1, 2, 0]], [[0, 0, 1]]])
    assert described(points, more) == {"triangles twice": 2, "triangles without area": 1}
    assert surface(points, more).volumes == pytest.approx([4 / 3], rel=1e-14)


@pytest.mark.parametrize("turned", [1, 50, 200])
def test_a_part_gets_one_sense_whatever_was_turned(turned: int) -> None:
    points, triangles = ball(2.0)
    expected = surface(points, triangles).volumes
    which = np.random.default_rng(turned).permutation(len(triangles))[:turned]
    triangles[which] = triangles[which, ::-1]
    body, repaired = mended(points, triangles, "body")
    assert body.volumes == pytest.approx(expected, rel=1e-12)
    counts = {fault.what: fault.count for fault in repaired}
    against = min(turned, len(triangles) - turned)
    assert counts["triangles turned against their part"] == against
    assert ("parts inside out" in counts) == (turned > len(triangles) / 2)


def test_each_hole_is_counted_with_its_place() -> None:
    """Two triangles of a ball that share no corner are two holes of three edges."""
    points, triangles = ball(2.0)
    far = np.argmax(points[triangles].mean(1) @ points[triangles[0]].mean(0) < -3)
    open_body = surface(points, np.delete(triangles, [0, far], axis=0))
    (fault,) = faults_of(open_body)
    assert fault.count == 2 and "6 open edges" in fault.what
    assert np.linalg.norm(fault.place) == pytest.approx(2.0, rel=0.05)


def test_crossing_triangles_are_found_wherever_the_bodies_are() -> None:
    """Apart or nested: none. Overlapping: some in each, and turning all of it changes none."""
    first, rotation = (
        ball(2.0),
        trimesh.transformations.random_rotation_matrix(np.array([0.3, 0.6, 0.9])),
    )
    apart = united([surface(*first), surface(*ball(1.0, (3.5, 0, 0)))])
    nested = united([surface(*first), surface(*ball(1.0, (0.3, 0, 0)))])
    assert not len(crossing_triangles(apart)) and not len(crossing_triangles(nested))
    points, triangles = ball(1.0, (2.1, 0.05, 0.02))
    crossed = united([surface(*first), surface(points, triangles)])
    which = crossing_triangles(crossed)
    assert set(crossed.part[which]) == {0, 1}
    # Around a circle of radius 1, as far as edges of 0.3 and 0.6 um reach.
    assert np.abs(crossed.corners[which][..., 0] - 1.9).max() < 1.0
    turned = [surface(p @ rotation[:3, :3].T, t) for p, t in (first, (points, triangles))]
    np.testing.assert_array_equal(crossing_triangles(united(turned)), which)


def test_an_edge_of_three_triangles_is_a_fault() -> None:
    points, triangles = octahedron(1.0)
    wing = np.concatenate([triangles, [[*triangles[0, :2], 6]]])
    counts = described(np.concatenate([points, [[5.0, 5, 5]]]), wing)
    assert counts["edges of three or more triangles"] == 1


def test_winding_number_is_one_inside_and_zero_outside() -> None:
    """To 1e-2, clusters of triangles counting as one; less where a surface is open."""
    body = surface(*ball(2.0, steps=4))
    near = np.random.default_rng(0).uniform(-3, 3, (2000, 3))
    points = np.concatenate([near, [[0, 0, 0], [50.0, 1, 2]]])
    points = points[np.abs(np.linalg.norm(points, axis=1) - 2) > 0.02]
    inside = np.linalg.norm(points, axis=1) < 2
    np.testing.assert_allclose(winding_numbers(points, body.corners), inside, atol=1e-2)
    half = body.corners[(body.corners[:, :, 2] >= -1e-9).all(1)]
    np.testing.assert_allclose(winding_numbers(np.zeros((1, 3)), half), 0.5, atol=1e-2)


def test_what_lies_in_what() -> None:
    bodies = [
        ball(1.0),
        ball(3.0, steps=3),
        ball(5.0, steps=3),
        ball(0.5, (4, 0, 0)),
        ball(1.0, (9, 0, 0)),
    ]
    body = united([surface(*each) for each in bodies])
    np.testing.assert_array_equal(parents(body), [1, 2, -1, 2, -1])
    np.testing.assert_array_equal(depths(parents(body)), [2, 1, 0, 1, 0])


def test_thickness_of_a_ball_is_its_diameter() -> None:
    """To 2 r e / l, where a mean normal is off by e = 0.005 and neighbours are l = 0.3 um apart."""
    thickness = thickness_of(surface(*ball(2.0, steps=3)))
    assert np.median(thickness) == pytest.approx(4.0, rel=0.07)


def test_unit_is_that_of_a_cell() -> None:
    assert [unit_of(length) for length in (20.0, 2e-5, 0.02, 2e4)] == [
        "um", "m", "mm", "nm or angstrom",
    ]  # fmt: skip


def test_level_surface_of_a_distance_is_a_sphere() -> None:
    """Closed, outwards, and of the ball's volume; linear interpolation is wrong by (h/r)^2."""
    grid = np.stack(np.indices((23, 23, 23)), -1) - 11.0
    points, triangles = level_surface(np.linalg.norm(grid, axis=-1), 8.0)
    body, repaired = mended(points, triangles, "level")
    assert not faults_of(body) and {fault.what for fault in repaired} <= {"triangles without area"}
    assert body.volumes == pytest.approx([4 / 3 * np.pi * 512], rel=1 / 64)


@pytest.fixture(params=[".ply", ".stl", ".obj", ".off", ".vtp", ".wrl"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Two balls in one file of each kind."""
    first, second = ball(2.0), ball(1.0, (4, 0, 0))
    points = np.concatenate([first[0], second[0]])
    triangles = np.concatenate([first[1], second[1] + len(first[0])])
    path = tmp_path / f"balls{request.param}"
    if request.param == ".vtp":
        pyvista = pytest.importorskip("pyvista")
        pyvista.PolyData.from_regular_faces(points, triangles).save(path)
    elif request.param == ".wrl":
        corners = ", ".join(f"{x} {y} {z}" for x, y, z in points.tolist())
        faces = ", ".join(f"{a}, {b}, {c}, -1" for a, b, c in triangles.tolist())
        shape = f"coord Coordinate {{ point [ {corners} ] }} coordIndex [ {faces} ]"
        path.write_text(f"#VRML V2.0 utf8\nShape {{ geometry IndexedFaceSet {{ {shape} }} }}\n")
    else:
        trimesh.Trimesh(points, triangles, process=False).export(path)
    return path


def test_every_format_gives_the_parts(file: Path) -> None:
    """Volumes to the digits that formats keep: 32 bits in .stl, eight decimals in .obj and .off."""
    body, repaired = read_surface(file)
    expected = [surface(*ball(2.0)).volumes[0], surface(*ball(1.0)).volumes[0]]
    assert sorted(body.volumes.tolist(), reverse=True) == pytest.approx(expected, rel=1e-6)
    assert not repaired and check_surface(body).usable
    with pytest.raises(MeshError, match="Is it in nm or angstrom"):
        body_in_nm = file.with_name("nm.ply")
        trimesh.Trimesh(body.points * 3e3, body.triangles, process=False).export(body_in_nm)
        read_surface(body_in_nm)


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_file_is_one_message(file: Path, seed: int) -> None:
    """Cut off, or with bytes replaced: a surface, or an error of ours."""
    random = np.random.default_rng(seed)
    content = bytearray(file.read_bytes())
    if seed % 3 == 0:
        content = content[: random.integers(0, len(content))]
    for place in random.integers(0, max(1, len(content)), seed if content else 0):
        content[place] = random.integers(0, 256)
    file.write_bytes(bytes(content))
    try:
        body, mended_faults = read_surface(file, 1.0)
        assert np.isfinite(body.volumes).all()
        assert check_surface(body, mended_faults).lines
    except SpinmeshError as error:
        assert str(file) in str(error)


def test_corners_that_are_not_there_or_not_finite_are_refused() -> None:
    points, triangles = octahedron(1.0)
    with pytest.raises(MeshError, match=r"corners -1\.\.5 of 6"):
        surface(points, np.concatenate([triangles, [[-1, 0, 1]]]))
    points[3] = np.nan
    with pytest.raises(MeshError, match=r"1 of 6 corners are not finite \(first: 3\)"):
        surface(points, triangles)


def test_unknown_kinds_and_absent_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="surfaces are read from"):
        read_surface(tmp_path / "cell.docx")
    with pytest.raises(StoreError, match="no such surface"):
        read_surface(tmp_path / "cell.ply")
