"""`spinmesh simulate`: a signal without the workflow, or one line saying what is wrong."""

import csv
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import spinmesh
from spinmesh import cli

BVALS = "0 1000 2000 4000\n"
BVECS = "0 1 0 0\n0 0 1 0\n0 0 0 1\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ball of radius 5 um and an acquisition of four measurements, in the current folder."""
    spinmesh.write_mesh(spinmesh.ball(5.0, 1), tmp_path / "ball.vtu")
    (tmp_path / "a.bval").write_text(BVALS)
    (tmp_path / "a.bvec").write_text(BVECS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(out: str, **changes: str) -> list[str]:
    """The command line, with some options replaced or added."""
    options = {"bvals": "a.bval", "bvecs": "a.bvec", "delta": "10", "Delta": "40"} | changes
    flat = [word for name, value in options.items() for word in (f"--{name}", value)]
    return ["simulate", "ball.vtu", "--out", out, *flat]


def expected() -> torch.Tensor:
    """The same by the verbs."""
    acquisition = spinmesh.read_acquisition(
        bvals="a.bval", bvecs="a.bvec", delta_ms=10.0, Delta_ms=40.0
    )
    ball = spinmesh.read_mesh("ball.vtu")
    return spinmesh.simulate_mesh(ball, spinmesh.Tissue.uniform(2.0), acquisition).signal


def test_store_holds_the_signal_of_the_verbs(folder: Path) -> None:
    done = CliRunner().invoke(cli.app, command("ball.zarr"))
    assert done.exit_code == 0, done.output
    assert "4 signals of ball" in done.output
    signals = spinmesh.load(spinmesh.Signals, "ball.zarr")
    # The same code on the same input: equal to the last bit.
    assert torch.equal(signals.signal, expected())


def test_table_holds_them_in_the_order_and_units_of_the_files(folder: Path) -> None:
    done = CliRunner().invoke(cli.app, command("ball.csv"))
    assert done.exit_code == 0, done.output
    with (folder / "ball.csv").open() as file:
        rows = list(csv.DictReader(file))
    # b is kept as a gradient and printed with some ten digits.
    b = [float(row["b_s_per_mm2"]) for row in rows]
    assert b == pytest.approx([0, 1000, 2000, 4000], rel=1e-9)
    real = [float(row["signal_real"]) for row in rows]
    assert real == pytest.approx(expected()[0].real.tolist(), rel=1e-9)


def test_tissue_file_overrules_the_diffusivity(folder: Path) -> None:
    Path("tissue.yaml").write_text("compartments: {1: {diffusivity_um2_per_ms: 1.0}}\n")
    for out, changes in (("a.zarr", {"tissue": "tissue.yaml"}), ("b.zarr", {"diffusivity": "1.0"})):
        assert CliRunner().invoke(cli.app, command(out, **changes)).exit_code == 0
    one, other = (spinmesh.load(spinmesh.Signals, name).signal for name in ("a.zarr", "b.zarr"))
    assert torch.equal(one, other)
    assert not torch.allclose(one, expected(), rtol=1e-3), "another D is another signal"


@pytest.mark.parametrize(
    ("out", "changes", "words"),
    [
        ("ball.h5", {}, ["ConfigError: --out ball.h5", ".zarr or .csv"]),
        ("ball.csv", {"tissue": "bad.yaml"}, ["diffusivty_um2_per_ms", "Did you mean"]),
        ("ball.csv", {"tissue": "none.yaml"}, ["none.yaml", "no such file"]),
        ("ball.csv", {"delta": "50"}, ["SequenceError", "delta", "Delta"]),
        ("ball.zarr", {"bvals": "none.bval"}, ["none.bval"]),
        ("ball.zarr", {"bvecs": "a.bval"}, ["bvec"]),
        ("ball.zarr", {"basis": "fourier"}, ["fourier", "krylov or laplace"]),
    ],
    ids=["suffix", "tissue-key", "tissue-file", "delta", "bval", "bvec", "basis"],
)
def test_mistake_is_one_line_and_leaves_no_output(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    out: str,
    changes: dict[str, str],
    words: list[str],
) -> None:
    Path("bad.yaml").write_text("compartments: {1: {diffusivty_um2_per_ms: 2.0}}\n")
    before = sorted(folder.iterdir())
    monkeypatch.setattr("sys.argv", ["spinmesh", *command(out, **changes)])
    with pytest.raises(SystemExit) as exit_:
        cli.run()
    assert exit_.value.code == 1
    message = capsys.readouterr().err.strip()
    assert len(message.splitlines()) == 1, message
    for word in words:
        assert word in message
    assert sorted(folder.iterdir()) == before
