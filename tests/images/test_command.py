"""`spinmesh synthesise`: images from a file, or one line that says what is wrong."""

import json
from pathlib import Path

import pytest
import torch
from acquisition_files import write_fsl

from spinmesh import cli
from spinmesh.images import Draws
from spinmesh.io import load, save
from spinmesh.scores import ScoreModel
from spinmesh.scores.features import Features


@pytest.fixture
def folder(tmp_path, monkeypatch, bundle_set, bundle_model: ScoreModel) -> Path:
    """A model's store, files of its protocol and the signal of a held-out packing."""
    monkeypatch.chdir(tmp_path)
    save(bundle_model, tmp_path / "model.zarr")
    names = ("bval", "bvec", "delta", "Delta")
    write_fsl(bundle_set.protocol.acquisition, *(tmp_path / name for name in names))
    attenuation = bundle_set.select("test").observed(1)[0].exp().tolist()
    (tmp_path / "s.csv").write_text("attenuation\n" + "\n".join(map(str, attenuation)) + "\n")
    (tmp_path / "short.csv").write_text("attenuation\n0.5\n")
    return tmp_path


SIGNAL = ["--signal", "s.csv", "--bvals", "bval", "--bvecs", "bvec"]
TIMES = ["--delta", "delta", "--Delta", "Delta"]
FEW = ["--model", "model.zarr", "--out", "out", "--count", "3", "--steps", "3"]


def run(monkeypatch, *words: str) -> int:
    """Exit code of the program."""
    monkeypatch.setattr("sys.argv", ["spinmesh", "synthesise", *words])
    with pytest.raises(SystemExit) as exit_:
        cli.run()
    return int(exit_.value.code or 0)


def test_a_signal_gives_images_their_statistics_and_their_misfit(folder, monkeypatch, capsys):
    assert run(monkeypatch, *SIGNAL, *TIMES, *FEW, "--simulated", "1") == 0
    assert "3 images" in capsys.readouterr().out
    summary = json.loads((folder / "out/summary.json").read_text())
    drawn = load(Draws, folder / "out/images.zarr")
    assert (folder / "out/gallery.png").stat().st_size > 1000
    fraction = summary["statistics"]["volume_fraction"]
    assert fraction["mean"] == pytest.approx(drawn.statistics[:, 0].mean().item(), rel=1e-12)
    assert fraction["interval_50"][0] <= fraction["median"] <= fraction["interval_95"][1]
    assert summary["resimulated"]["images"] == 1 and summary["doubt"] is None
    measured = torch.tensor([float(x) for x in (folder / "s.csv").read_text().split()[1:]])
    torch.testing.assert_close(drawn.measured.float(), measured, rtol=1e-6, atol=0)


def test_without_a_signal_images_are_of_the_prior(folder, monkeypatch):
    assert run(monkeypatch, *FEW) == 0
    summary = json.loads((folder / "out/summary.json").read_text())
    assert summary["signal"] is None and "resimulated" not in summary


def other_delta(folder: Path) -> None:
    (folder / "Delta").write_text("30\n" * 3)


def deaf_model(folder: Path) -> None:
    model = load(ScoreModel, folder / "model.zarr")
    deaf = Features(model.features.mean, model.features.weight)
    fields = {name: getattr(model, name) for name in model.__dataclass_fields__}
    save(ScoreModel(**fields | {"features": deaf}), folder / "deaf.zarr")


@pytest.mark.parametrize(
    ("change", "words", "says"),
    [
        (other_delta, [*SIGNAL, *TIMES, *FEW], "another protocol than the model: Delta"),
        (None, ["--signal", "short.csv", *SIGNAL[2:], *TIMES, *FEW], "1 measurements"),
        (None, [*SIGNAL, *TIMES, *FEW, "--guidance", "-1"], "`guidance` is -1"),
        (None, [*SIGNAL[2:], *TIMES, *FEW], "go with --signal"),
        (None, [*FEW, "--out", "model.zarr"], "not empty"),
        (None, [*FEW, "--model", "s.csv"], "no Zarr store"),
        (deaf_model, [*SIGNAL, *TIMES, *FEW, "--model", "deaf.zarr"], "source: bundles"),
    ],
)
def test_wrong_input_is_refused_before_any_compute(
    folder, monkeypatch, capsys, change, words, says
):
    monkeypatch.setattr("spinmesh.images.posterior.draw", None)
    if change is not None:
        change(folder)
    assert run(monkeypatch, *words) == 1
    assert says in capsys.readouterr().err
    assert not (folder / "out").exists()
