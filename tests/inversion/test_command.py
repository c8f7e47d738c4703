"""`spinmesh reconstruct`: a mesh from a file, or one line that says what is wrong."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import meshio
import nibabel as nib
import numpy as np
import pytest
import torch
from acquisition_files import write_fsl

from spinmesh import cli
from spinmesh.bloch_torrey import Signals
from spinmesh.bodies import simulate
from spinmesh.errors import ConfigError
from spinmesh.inversion import Reconstruction, Target
from spinmesh.io import load, save
from spinmesh.io.tables import write_signal_table
from spinmesh.mesh import Substrates, SweptDisk, deform, swept_disk
from spinmesh.sequence import Acquisition
from spinmesh.shapes import ShapeModel
from spinmesh.tissue import Tissue


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, model: ShapeModel, acquisition) -> Path:
    """A folder that no test writes to: a model's store, an acquisition's files, right and wrong
    signals and masks, and an output folder that is not empty."""
    tmp_path = tmp_path_factory.mktemp("inputs")
    save(model, tmp_path / "model.zarr")
    # FSL files hold no echo time, which is an option.
    pulses = tuple(replace(sequence, TE=None) for sequence in acquisition.sequences)
    plain = replace(acquisition, sequences=pulses)
    write_fsl(plain, *(tmp_path / name for name in ("bval", "bvec", "delta", "Delta")))
    (tmp_path / "s.csv").write_text("signal\n" + "1\n" * len(acquisition))
    data = np.ones((2, 2, 1, len(acquisition)))
    data[1, 1, 0, 5] = np.nan
    nib.Nifti1Image(data, np.eye(4)).to_filename(tmp_path / "dwi.nii.gz")
    for name, shape in (("empty", (2, 2, 1)), ("other", (3, 2, 1))):
        nib.Nifti1Image(np.zeros(shape), np.eye(4)).to_filename(tmp_path / f"{name}.nii.gz")
    other = Acquisition.pgse(2 * acquisition.b_value, acquisition.direction, 8.0, 49.0)
    ones = torch.ones((1, len(other)), dtype=torch.float64)
    save(Signals(other, ones.to(torch.complex128), ones), tmp_path / "signals.zarr")
    save(Target(acquisition, ones[0]), tmp_path / "target.zarr")
    (tmp_path / "dark.csv").write_text("signal\n0\n" + "1\n" * 60)
    (tmp_path / "short.bval").write_text("0 1000\n")
    (tmp_path / "short.bvec").write_text("0 1\n0 0\n0 0\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("mine")
    return tmp_path


@pytest.fixture
def folder(inputs: Path, tmp_path, monkeypatch) -> Path:
    """A copy of the inputs to write to, as the current folder."""
    shutil.copytree(inputs, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def arguments(signal: str = "s.csv", **changes: str | None) -> list[str]:
    """The command line, with some options replaced, added or (None) left out."""
    options: dict[str, str | None] = {name: name for name in ("delta", "Delta")}
    options |= {"bvals": "bval", "bvecs": "bvec", "model": "model.zarr", "out": "out"}
    options |= {"snr": "50", "TE": "57"} | {
        key.replace("_", "-"): value for key, value in changes.items()
    }
    given = {name: value for name, value in options.items() if value is not None}
    return ["reconstruct", signal, *(w for k, v in given.items() for w in (f"--{k}", v) if w)]


def run(monkeypatch, *words: str) -> int:
    """Exit code of the program."""
    monkeypatch.setattr("sys.argv", ["spinmesh", *words])
    with pytest.raises(SystemExit) as exit_:
        cli.run()
    return int(exit_.value.code or 0)


MISTAKES = {
    "other count": ({"bvals": "short.bval", "bvecs": "short.bvec", "delta": "8", "Delta": "19"},
                    "61 measurements, but its acquisition has 2"),
    "dark": ({"signal": "dark.csv"}, "needs magnitudes >= 0 and S0 > 0"),
    "voxel NaN": ({"signal": "dwi.nii.gz", "voxel": "1,1,0"}, "voxel (1, 1, 0) is not finite"),
    "voxel outside": ({"signal": "dwi.nii.gz", "voxel": "2,0,0"}, "is not inside (2, 2, 1)"),
    "voxel words": ({"signal": "dwi.nii.gz", "voxel": "a,b"}, "give three indices from 0"),
    "no voxel": ({"signal": "dwi.nii.gz"}, "give one of `voxel"),
    "voxel of a table": ({"voxel": "0,0,0"}, "`voxel` goes with `nifti`"),
    "empty mask": ({"signal": "dwi.nii.gz", "roi": "empty.nii.gz"}, "the mask is empty"),
    "other mask": ({"signal": "dwi.nii.gz", "roi": "other.nii.gz"}, "mask of shape (3, 2, 1)"),
    "no mask": ({"signal": "dwi.nii.gz", "roi": "none.nii.gz"}, "no such NIfTI image"),
    "negative snr": ({"snr": "-3"}, "`snr` is -3.0: give"),
    "no snr": ({"snr": None}, "are too few"),
    "no signal": ({"signal": "none.csv"}, "no such signal file"),
    "suffix": ({"signal": "s.txt"}, "Give a .csv, .nii or .nii.gz"),
    "no acquisition": ({"bvals": None, "TE": None}, "give all of bvals, bvecs"),
    "no model": ({"model": "none.zarr"}, "no Zarr store here. First run stage `reconstruct`"),
    "other store": ({"model": "target.zarr"}, "holds spinmesh/target version"),
    "other protocol": ({"training_signals": "signals.zarr"}, "belong to another protocol"),
    "full folder": ({"out": "full"}, "the folder is not empty. Give another one, or --force"),
    "out is a file": ({"out": "s.csv"}, "is a file. Give a folder"),
    "free": ({"free": "diffusivity,kapa"}, "`free.1.quantity` is 'kapa'. Known here: diffusivity"),
    "pose": ({"pose": "maybe"}, "`pose` is 'maybe'. Known here: known, unknown"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_one_line_before_any_compute(
    inputs: Path, capsys, monkeypatch, name: str
) -> None:
    changes, words = MISTAKES[name]
    monkeypatch.chdir(inputs)
    before = sorted(inputs.rglob("*"))

    def compute(*_: object, **__: object) -> None:
        raise AssertionError("compute has started")

    monkeypatch.setattr("spinmesh.inversion.reconstruct", compute)
    assert run(monkeypatch, *arguments(**changes)) == 1
    message = capsys.readouterr().err.strip()
    assert len(message.splitlines()) == 1 and "Error: " in message, message
    assert words in message, message
    assert sorted(inputs.rglob("*")) == before


def test_options_reach_the_search(folder: Path, monkeypatch) -> None:
    """Up to the search itself, which here says what it was given; only its state is in the way."""
    (folder / "out").mkdir()
    (folder / "out/search.pt").write_text("of a search that was stopped")
    given: list[Any] = []

    def compute(*received: object) -> None:
        given.extend(received)
        raise ConfigError("enough")

    monkeypatch.setattr("spinmesh.inversion.reconstruct", compute)
    options = {"free": "diffusivity, permeability", "pose": "unknown", "samples": "7", "seed": "5"}
    assert run(monkeypatch, *arguments("dwi.nii.gz", voxel="0,1,0", snr="25", **options)) == 1
    target, _, tissue, settings, seed, signals, checkpoint = given
    assert target.sigma == pytest.approx(1 / 25)
    assert [free.quantity for free in settings.free] == ["diffusivity", "permeability"]
    assert (settings.pose, settings.samples, seed, signals) == ("unknown", 7, 5, None)
    assert checkpoint == Path("out/search.pt")
    assert float(tissue.diffusivity[0, 0, 0]) == 2.0


@pytest.mark.slow
def test_files_of_a_reconstruction(
    folder: Path, capsys, monkeypatch, model: ShapeModel, substrates: Substrates, acquisition
) -> None:
    """A held-out shape on a finer mesh, from the simulator's own csv, noise-free."""
    test, fine = (
        substrates.select("test"),
        swept_disk(SweptDisk(rings=2, layers=8, radius_um=1.5, length_um=10.0)),
    )
    truth = fine.with_points(deform(fine, test.parameters[3]))
    signals = simulate(truth, Tissue.uniform(2.0), acquisition)
    write_signal_table(signals, folder / "found.csv")
    (folder / "out").mkdir()
    (folder / "out/summary.json").write_text("of yesterday")
    options = {"snr": "inf", "samples": "30", "starts": "1", "iterations": "8"}
    assert run(monkeypatch, *arguments("found.csv", **options), "--force") == 0
    said = capsys.readouterr()
    assert "chi2 per measurement" in said.out and "WARNING" not in said.err

    summary = json.loads((folder / "out/summary.json").read_text())
    assert summary["warnings"] == [] and summary["snr"] is None
    best = load(Reconstruction, folder / "out/reconstruction.zarr")
    assert summary["fit"]["chi2"] == pytest.approx(float(best.fit.chi2.sum()))
    assert summary["fit"]["degrees_of_freedom"] == 61 - summary["fit"]["data_determined"]
    samples = load(Substrates, folder / "out/samples")
    assert len(samples) == 30 and samples.parameters.shape[1] == 7
    mesh = meshio.read(folder / "out/reconstruction.vtu")
    np.testing.assert_allclose(mesh.points, best.mesh.points.numpy(), rtol=0, atol=1e-12)
    assert mesh.point_data["spread_um"].shape == (len(mesh.points),)
    assert (folder / "out/reconstruction.png").read_bytes().startswith(b"\x89PNG")
    # Within the stated posterior, 4 standard deviations and the 3 % by which two meshes differ.
    corner = truth.points[truth.tets[:, :4]]
    volume = float(torch.linalg.det(corner[:, 1:] - corner[:, :1]).sum() / 6)
    stated = summary["shape"]["volume_um3"]
    assert abs(stated["best"] - volume) < 4 * stated["sd"] + 0.03 * volume
