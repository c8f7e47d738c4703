"""`spinmesh mesh`: from surfaces to a store that `spinmesh simulate` takes, or one message."""

from pathlib import Path

import numpy as np
import pytest
import trimesh
import xarray as xr
from meshing.bodies import ball
from typer.testing import CliRunner

import spinmesh
from spinmesh import cli
from spinmesh.errors import ConfigError, MeshError
from spinmesh.meshing.tets import volumes

pytest.importorskip("netgen")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`cell.ply`, a ball of 320 triangles with `core.ply`, one of 80, in it; `open.ply`."""
    for name, radius, steps in (("cell", 2.0, 2), ("core", 1.0, 1)):
        trimesh.Trimesh(*ball(radius, steps=steps), process=False).export(tmp_path / f"{name}.ply")
    points, triangles = ball(2.0)
    trimesh.Trimesh(points, triangles[3:], process=False).export(tmp_path / "open.ply")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli.app, ["mesh", *words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


@pytest.mark.slow
@pytest.mark.slow
def test_inputs_become_compartments_of_a_store_that_can_be_simulated(folder: Path) -> None:
    words = ["cell.ply", "core.ply", "--out", "made.zarr", "--size", "2", "--picture", "made.html"]
    code, output = run(*words)
    assert code == 0 and "compartment 2: core.ply" in output
    assert "core.ply" in Path("made.html").read_text()
    made = spinmesh.load(spinmesh.TetMesh, "made.zarr")
    assert made.labels == (1, 2)
    assert any("core.ply" in note for note in xr.open_zarr("made.zarr").attrs["notes"])
    same = spinmesh.read_mesh("made.zarr")
    np.testing.assert_array_equal(same.points, made.points)
    with pytest.raises(ConfigError, match="exists"):
        run("cell.ply", "--out", "made.zarr")
    # What is tetrahedra already is checked and copied.
    assert run("made.zarr", "--out", "copy.vtu")[0] == 0
    copy = spinmesh.read_mesh("copy.vtu", 1.0)
    assert volumes(copy.points.numpy(), copy.tets.numpy()).sum() == pytest.approx(
        volumes(made.points.numpy(), made.tets.numpy()).sum(), rel=1e-12
    )
    assert run("--check", "copy.vtu", "cell.ply")[0] == 0


def test_curved_is_said_and_only_once(folder: Path) -> None:
    code, output = run("cell.ply", "--out", "round.zarr", "--curved")
    assert code == 0 and "order 2" in output and "curved: nodes of 480 edges" in output
    assert any("curved" in note for note in xr.open_zarr("round.zarr").attrs["notes"])
    with pytest.raises(MeshError, match="curved already"):
        run("round.zarr", "--out", "again.zarr", "--curved")


def test_check_says_what_is_wrong_and_where(folder: Path) -> None:
    code, output = run("--check", "cell.ply", "open.ply")
    assert code == 1
    assert "cell.ply: usable" in output and "open.ply: UNUSABLE" in output
    assert "FAULT: " in output and "holes with" in output


def test_check_questions_the_unit(folder: Path) -> None:
    trimesh.Trimesh(*ball(5e-6), process=False).export("metres.ply")
    code, output = run("--check", "metres.ply")
    assert code == 1 and "the unit may be m" in output
    assert run("--check", "metres.ply", "--scale-to-um", "1e6")[0] == 0


def test_check_finds_inputs_that_cross(folder: Path) -> None:
    trimesh.Trimesh(*ball(2.0, (2, 0.1, 0)), process=False).export("beside.ply")
    code, output = run("--check", "cell.ply", "beside.ply")
    assert code == 1 and "together: " in output and "crossing triangles" in output


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["cell.ply"], "--out"),
        (["cell.ply", "--out", "a.stl"], "--out"),
        (["cell.ply", "--out", "a.zarr", "--picture", "a.jpg"], "--picture a.jpg"),
        (["cell.ply", "--check", "--out", "a.zarr"], "--check writes nothing"),
        (["cell.ply", "--out", "a.zarr", "--box", "--tight", "1"], "box excludes tight"),
        (["cell.ply", "--out", "a.zarr", "--margin", "1"], "margin is the box's"),
        (["cell.ply", "--out", "a.zarr", "--size", "0"], "`size_um` is 0"),
        (["cell.ply", "--out", "a.zarr", "--compartments", "one"], "--compartments one"),
        (["cell.ply", "--out", "a.zarr", "--compartments", "1,2"], "2 numbers for 1"),
        (["cell.ply", "core.ply", "--out", "a.zarr", "--compartments", "1,1"], "no membrane"),
        (
            ["cell.ply", "--out", "a.zarr", "--size", "2e-3"],
            r"cell.ply: about .* Raise --size \(at",
        ),
    ],
)
def test_wrong_options_are_refused_before_the_mesher_runs(
    folder: Path, words: list[str], reason: str
) -> None:
    with pytest.raises((ConfigError, MeshError), match=reason):
        run(*words)
    assert not Path("a.zarr").exists()


def test_the_keys_of_a_bundle_become_its_mesh_or_one_message(folder: Path) -> None:
    Path("bundle.yaml").write_text("{axons: 3, volume_fraction: 0.5, g_ratio: 0.7, layers: 2}")
    code, output = run("bundle.yaml", "--out", "pack.zarr")
    assert code == 0 and "compartment 3: myelin" in output
    mesh = spinmesh.load(spinmesh.TetMesh, "pack.zarr")
    assert mesh.order == 2 and mesh.labels == (1, 2, 3)
    notes = " ".join(xr.open_zarr("pack.zarr").attrs["notes"])
    assert "3 axons of radius" in notes and "cover 0.5 of the cell" in notes
    assert run("--check", "bundle.yaml")[0] == 0
    Path("wrong.yaml").write_text("axon: 3")
    with pytest.raises(ConfigError, match=r"wrong.yaml: unknown key `axon`. Did you mean `axons`"):
        run("wrong.yaml", "--out", "wrong.zarr")
    with pytest.raises(ConfigError, match="a bundle is meshed alone"):
        run("bundle.yaml", "--box", "--out", "wrong.zarr")
    Path("folded.yaml").write_text("{axons: 3, volume_fraction: 0.5, bead_amplitude: 0.5}")
    with pytest.raises(MeshError, match="`bead_amplitude` folds it"):
        run("folded.yaml", "--out", "wrong.zarr")
    assert not Path("wrong.zarr").exists()
