"""Tissue cut flat by the walls of a cell, and the files that name one."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import spinmesh
from spinmesh import cli
from spinmesh.errors import ConfigError, MeshError, StoreError
from spinmesh.mesh.faces import all_faces, pair_faces
from spinmesh.meshing.tets import quality, volumes
from spinmesh.skeletons.cones import RoundCones
from spinmesh.skeletons.files import Skeleton, read_skeletons
from spinmesh.skeletons.substrate import read_substrate

pytest.importorskip("mmgpy")

STRANDS = "6\n2\n2\n-1 0.3 -4 1\n-1.2 0 4 1\n2\n1.3 1 -4 0.9\n1.2 1.4 4 0.9\n"


def run(*words: str) -> str:
    done = CliRunner().invoke(cli.app, ["mesh", *words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def substrate(folder: Path, **changes: object) -> Path:
    """A cylinder in its myelin along z, a sphere of the same pool, in a box of 6 um; SI."""
    along = {"kind": "cylinder", "axis": [0, 0, 1.0]}

    def wall(name: str, inside: int, surface: dict[str, object]) -> dict[str, object]:
        return {"name": name, "surface": surface, "inside_pool": inside, "outside_pool": 0}

    inner, outer = (
        along | {"instances": {"centers": [[-1.2e-6, 0, 0]], "radii": [radius]}}
        for radius in (0.7e-6, 1e-6)
    )
    ball = {"kind": "sphere", "center": [0, 2.4e-6, 0], "radius": 0.5e-6}
    walls = [wall("axolemma", 1, inner), wall("sheath", 2, outer), wall("cell", 1, ball)]
    about = {
        "substrate_spec_version": "0.1",
        "domain": {"box_min": [-3e-6] * 3, "box_max": [3e-6] * 3},
        "pools": [{"id": id, "name": name} for id, name in enumerate(("extra", "intra", "myelin"))],
        "walls": walls,
    }
    path = folder / "wm.sub.json"
    path.write_text(json.dumps(about | changes))
    return path


@pytest.mark.slow
def test_endless_cylinders_and_their_water_fill_a_cell_to_the_last_bit(tmp_path: Path) -> None:
    """Faces outside lie in its walls; cylinders of 3.2 um have their volume to 2 % (facets)."""
    cell = np.array([[-2.8, -1.6, -1.6], [0.4, 1.6, 1.6]])
    low, high = (1e-6 * cell).tolist()
    path = substrate(tmp_path, domain={"box_min": low, "box_max": high})
    run(str(path), "--box", "--cut", "cell", "--out", str(tmp_path / "cut.zarr"))
    mesh = spinmesh.load(spinmesh.TetMesh, tmp_path / "cut.zarr")
    points, tets = mesh.points.numpy(), mesh.tets.numpy()
    volume = volumes(points, tets)
    assert mesh.labels == (1, 2, 3) and volume.sum() == pytest.approx(3.2**3, rel=1e-12)
    for label, area in ((1, np.pi * 0.7**2), (2, np.pi * (1 - 0.7**2))):
        assert volume[mesh.compartment == label].sum() == pytest.approx(3.2 * area, rel=0.02)
    faces = all_faces(tets)
    outer = points[faces[pair_faces(faces)[2]]]
    # Metres to um round; all of a wall lies at one value.
    walls = np.abs(outer - cell[:, None, None]) < 1e-12
    assert walls.all(2).any((0, 2)).all()
    assert quality(points, tets).min() > 0.1


def test_walls_of_a_substrate_are_solids_named_by_their_pool(tmp_path: Path) -> None:
    (intra, _), (myelin, _) = read_substrate(substrate(tmp_path))
    assert isinstance(intra, Skeleton) and isinstance(myelin, Skeleton)
    assert intra.name.endswith("sub.json, intra") and len(intra.cones.start) == 2
    np.testing.assert_allclose(intra.cell, [[-3] * 3, [3] * 3])
    np.testing.assert_allclose(myelin.cones.end_radius, [1])
    assert "myelin: 1 cones" in run("--check", str(substrate(tmp_path)))
    plane = {"name": "slab", "surface": {"kind": "plane"}, "inside_pool": 1}
    with pytest.raises(MeshError, match="wall slab is a plane; taken are sphere"):
        read_substrate(substrate(tmp_path, walls=[plane]))
    with pytest.raises(StoreError, match="Is it a substrate of dmipy-sim"):
        read_substrate(substrate(tmp_path, pools=None))
    ball = {"kind": "sphere", "center": [0, 0, 0], "radius": -1e-6}
    with pytest.raises(MeshError, match="no radius > 0"):
        read_substrate(substrate(tmp_path, walls=[plane | {"surface": ball}]))
    lists = {"kind": "swept_polyline", "file": "a.txt", "format": "strands", "scale": 1e-6}
    (tmp_path / "a.txt").write_text(STRANDS)
    wall = {"name": "bundle", "surface": lists, "inside_pool": 1}
    ((strands, _),) = read_substrate(substrate(tmp_path, walls=[wall]))
    np.testing.assert_allclose(strands.cones.end_radius, [1, 0.9])


def test_endless_cylinders_leave_a_cell_on_both_sides(tmp_path: Path) -> None:
    """MC/DC takes the two points of a row for an axis that goes on."""
    path = tmp_path / "c.txt"
    path.write_text("0.001\n9 0 0 9 1 1 0.5\n")
    (cylinder,) = read_skeletons(path)
    cell = np.array([[0.0, 0, 0], [10, 10, 10]])
    longer = cylinder.through(cell)
    assert cylinder.notes and not longer.notes
    for end in (longer.cones.start, longer.cones.end):
        assert (np.maximum(cell[0] - end, end - cell[1]).max(1) > 0.5).all()
    axis = longer.cones.end - longer.cones.start
    np.testing.assert_allclose(np.cross(axis, [0, 1, 1]), 0, atol=1e-12)
    ball = RoundCones(np.zeros((1, 3)), np.zeros((1, 3)), np.ones(1), np.ones(1))
    assert Skeleton(ball, "ball").through(cell).cones is ball


@pytest.mark.parametrize(
    ("cut", "reason"),
    [
        ("cell", "no file names one. Give its corners"),
        ("1,2,3", "cut_um"),
        ("1,1,1,0,2,2", "give the lowest corner first"),
        ("here", "six numbers"),
        ("50,50,50,60,60,60", r"nothing lies in the cell from \[50. 50. 50.\] to"),
    ],
)
def test_a_cell_that_is_none_is_refused(tmp_path: Path, cut: str, reason: str) -> None:
    path = tmp_path / "ball.swc"
    path.write_text("1 1 0 0 0 2 -1\n")
    with pytest.raises((ConfigError, MeshError), match=reason):
        run(str(path), "--cut", cut, "--out", str(tmp_path / "a.zarr"))
