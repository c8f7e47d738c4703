"""Issue 13, points 13 and 19: signals, stores, configurations, what a command may replace."""

import json
import sys
import time
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from spinmesh import cli
from spinmesh.bloch_torrey import Signals
from spinmesh.errors import ConfigError, MeshError, MeshWarning, SequenceError, StoreError
from spinmesh.io import load, save
from spinmesh.io.meshes import write_mesh
from spinmesh.io.targets import read_target, read_voxels
from spinmesh.learning import Checkpoint
from spinmesh.mesh import ball
from spinmesh.sequence import Acquisition
from spinmesh.settings import load_config, load_tissue

Z = [0.0, 0.0, 1.0]


def acquisition() -> Acquisition:
    return Acquisition.pgse([0.0, 0.0, 1.0, 2.0], [Z] * 4, 10.0, 30.0)


def image(path: Path, data: np.ndarray) -> Path:
    nib.Nifti1Image(data, np.diag([2.0, 2.0, 2.0, 1.0])).to_filename(path)
    return path


def series() -> np.ndarray:
    return np.tile([200.0, 200.0, 100.0, 50.0], (3, 1, 1, 1)).astype(np.float32)


# ---- 13: NIfTI
def test_a_complex_series_is_taken_by_magnitude(tmp_path) -> None:
    phase = np.exp(1j * np.linspace(0, 6, 12)).reshape(3, 1, 1, 4)
    path = image(tmp_path / "dwi.nii.gz", (series() * phase).astype(np.complex64))
    target = read_target(acquisition(), 30.0, nifti=path, voxel=(1, 0, 0))
    # Single precision.
    assert target.attenuation.tolist() == pytest.approx([1, 1, 0.5, 0.25], rel=1e-6)


@pytest.mark.parametrize("name", ["dwi.nii", "dwi.nii.gz"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_image_is_refused_by_name(tmp_path, name: str, share: float) -> None:
    noise = np.random.default_rng(0).uniform(1, 2, (6, 6, 6, 4))
    path = image(tmp_path / name, noise)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(StoreError, match=f"{name}: "):
        read_target(acquisition(), 30.0, nifti=path, voxel=(5, 5, 5))


def test_a_byte_less_or_another_byte_is_seen(tmp_path) -> None:
    """Where the voxel that is asked for is whole: nibabel reads no further."""
    noise = np.random.default_rng(0).uniform(1, 2, (6, 6, 6, 4))
    for name in ("dwi.nii", "dwi.nii.gz"):
        data = image(tmp_path / name, noise).read_bytes()
        (tmp_path / name).write_bytes(data[:-1])
        with pytest.raises(StoreError, match=f"{name}: "):
            read_target(acquisition(), 30.0, nifti=tmp_path / name, voxel=(0, 0, 0))
    middle = len(data) // 2
    (tmp_path / name).write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    with pytest.raises(StoreError, match=r"dwi\.nii\.gz: cannot be read as NIfTI image"):
        read_target(acquisition(), 30.0, nifti=tmp_path / name, voxel=(0, 0, 0))


def test_a_series_without_diffusion_weighting_says_nothing(tmp_path) -> None:
    (tmp_path / "s.csv").write_text("signal\n200\n201\n")
    with pytest.raises(SequenceError, match="no measurement is diffusion-weighted"):
        read_target(acquisition().select([0, 1]), 30.0, csv=tmp_path / "s.csv")


@pytest.mark.parametrize("wrong", [-1e-3, np.nan, np.inf])
def test_an_unusable_voxel_of_a_mask_is_left_out_and_counted(tmp_path, caplog, wrong) -> None:
    data = series()
    data[1, 0, 0, 2] = wrong
    dwi = image(tmp_path / "dwi.nii.gz", data)
    mask = image(tmp_path / "mask.nii.gz", np.ones((3, 1, 1), np.float32))
    caplog.set_level("WARNING", "spinmesh")
    voxels = read_voxels(acquisition(), dwi, mask, 30.0)
    assert voxels.attenuation.isnan().any(1).tolist() == [False, True, False]
    assert voxels.attenuation[2].tolist() == [1, 1, 0.5, 0.25]
    assert r"1 of 3 voxels are left out (first: (1, 0, 0))" in caplog.text
    region = read_target(acquisition(), float("inf"), nifti=dwi, roi=mask)
    assert region.attenuation.tolist() == [1, 1, 0.5, 0.25]


# ---- 19: tables
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("signal,gx,gy,gz\n1,0,0,0\n1,0,0,0\n.5,nan,0,1\n.2,0,0,1\n", "direction of measurement 2"),
        ("attenuation\n1\n1\n1e18\n0.2\n", "measurement 2 is above 5 times"),
        ("signal,delta_ms\n1,10\n1,10\n.5,\n.2,10\n", "delta_ms of measurement 2"),
    ],
)
def test_a_table_that_cannot_be_is_refused(tmp_path, text: str, words: str) -> None:
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(SequenceError, match=words):
        read_target(acquisition(), 30.0, csv=tmp_path / "s.csv")


# ---- 19: stores and checkpoints
@pytest.fixture
def store(tmp_path) -> Path:
    ones = torch.ones((1, 4), dtype=torch.float64)
    save(Signals(acquisition(), ones.to(torch.complex128), ones), tmp_path / "s.zarr")
    return tmp_path / "s.zarr"


def without_manifest(text: str) -> str:
    content = json.loads(text)
    del content["attributes"]["manifest"]
    return json.dumps(content)


DAMAGE = {
    "empty": lambda text: "",
    "half": lambda text: text[: len(text) // 2],
    "no attributes": lambda text: "{}",
    "no manifest": without_manifest,
    "an attribute edited": lambda text: text.replace('"seed": ', '"seed": 1'),
    "a digest edited": lambda text: text.replace('"digest": "', '"digest": "0'),
    "a list": lambda text: "[]",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_store_whose_root_was_changed_is_refused(store: Path, damage: str) -> None:
    root = store / "zarr.json"
    before = root.read_text()
    root.write_text(DAMAGE[damage](before.replace('"seed": null', '"seed": 0')))
    with pytest.raises(StoreError, match=r"s\.zarr.*rerun"):
        load(Signals, store)


def test_a_checkpoint_with_a_flipped_bit_is_not_resumed(tmp_path) -> None:
    checkpoint = Checkpoint(tmp_path / "c.pt", "owner")
    checkpoint.write({"weights": torch.arange(64.0), "step": 3})
    assert checkpoint.read()["step"] == 3
    data = bytearray((tmp_path / "c.pt").read_bytes())
    place = bytes(data).index(torch.tensor([17.0, 18.0]).numpy().tobytes())
    data[place + 2] ^= 1
    (tmp_path / "c.pt").write_bytes(bytes(data))
    with pytest.raises(StoreError, match=r"c\.pt.*Delete it and rerun"):
        checkpoint.read()


# ---- 19: what a command may replace
def test_nothing_is_replaced_that_is_no_store_of_ours(tmp_path, store: Path) -> None:
    mine = tmp_path / "mydata.zarr"
    mine.mkdir()
    (mine / "notes.txt").write_text("mine")
    link = tmp_path / "link.zarr"
    link.symlink_to(store)
    value = load(Signals, store)
    for path in (mine, link):
        with pytest.raises(StoreError, match="would be lost"):
            save(value, path)
    assert (mine / "notes.txt").read_text() == "mine"
    save(value, store)


@pytest.mark.parametrize("name", ["s.zarr", "s.csv"])
def test_an_existing_result_is_kept_without_force(tmp_path, monkeypatch, capsys, name) -> None:
    monkeypatch.chdir(tmp_path)
    write_mesh(ball(3.0, 1, order=1), "ball.vtu")
    Path("a.scheme").write_text("VERSION: 1\n0 0 0 0 0.03 0.01 0\n0 0 1 0.05 0.03 0.01 0\n")
    command = ["spinmesh", "simulate", "ball.vtu", "--scheme", "a.scheme", "--out", name]
    for words, code in ((command, 0), (command, 1), ([*command, "--force"], 0)):
        monkeypatch.setattr("sys.argv", words)
        with pytest.raises(SystemExit) as exit_:
            cli.run()
        assert (exit_.value.code or 0) == code, capsys.readouterr().err
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("sys.argv", [*command[:-1], "file/" + name])
    with pytest.raises(SystemExit) as exit_:
        cli.run()
    assert exit_.value.code == 1


# ---- 15: outputs and warnings
def test_an_output_that_cannot_be_written_is_found_before_the_inputs(monkeypatch, capsys) -> None:
    """Not even by the superuser, whom the permissions allow everything."""
    for out in ("/proc/s.csv", "/proc/a/s.zarr"):
        words = ["spinmesh", "simulate", "no.vtu", "--scheme", "no.scheme", "--out", out]
        monkeypatch.setattr("sys.argv", words)
        with pytest.raises(SystemExit):
            cli.run()
        assert "cannot be written to" in capsys.readouterr().err


def test_warnings_of_libraries_do_not_reach_the_user(tmp_path, monkeypatch, capsys) -> None:
    def read_mesh(*_: object) -> None:
        warnings.warn("std(): degrees of freedom is <= 0", UserWarning, stacklevel=1)
        warnings.warn("3 nodes lay on others", MeshWarning, stacklevel=1)
        raise MeshError("no mesh")

    def showwarning(message: Warning, category: type[Warning], *_: object) -> None:
        sys.stderr.write(warnings.formatwarning(message, category, "", 0))

    monkeypatch.chdir(tmp_path)
    # In place of pytest's, which keeps them.
    monkeypatch.setattr("warnings.showwarning", showwarning)
    monkeypatch.setattr("spinmesh.io.meshes.read_mesh", read_mesh)
    Path("a.scheme").write_text("VERSION: 1\n0 0 1 0.05 0.03 0.01 0\n")
    command = ["spinmesh", "simulate", "m.vtu", "--scheme", "a.scheme", "--out", "s.csv"]
    monkeypatch.setattr("sys.argv", command)
    with warnings.catch_warnings(), pytest.raises(SystemExit):
        cli.run()
    assert capsys.readouterr().err == ("MeshWarning: 3 nodes lay on others\nMeshError: no mesh\n")


# ---- 19: configurations
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [BOMB, "a: &a [*a]\n", "[" * 3000, "\0", "a: \xff\xfe", "run: " + "x" * 10**6],
    ids=["aliases of aliases", "itself", "brackets", "NUL", "no UTF-8", "a million letters"],
)
@pytest.mark.parametrize("read", [load_config, load_tissue])
def test_a_yaml_bomb_is_one_short_message(tmp_path, text: str, read) -> None:
    (tmp_path / "c.yaml").write_text(text, encoding="latin-1")
    start = time.monotonic()
    with pytest.raises(ConfigError) as error:
        read(tmp_path / "c.yaml")
    assert len(str(error.value)) < 1500
    assert "c.yaml" in str(error.value)
    assert time.monotonic() - start < 5
