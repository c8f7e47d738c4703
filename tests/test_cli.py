"""`spinmesh simulate`: a signal without the workflow, or one line saying what is wrong."""

import csv
from pathlib import Path

import pandas as pd
import pytest
import torch
from acquisition_files import write_camino_scheme
from click.testing import Result
from typer.testing import CliRunner

import spinmesh
from spinmesh import cli
from spinmesh.errors import ConfigError
from spinmesh.io.schemes import write_waveforms

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
    """The command line, with some options replaced, added or (empty) left out."""
    options = {"bvals": "a.bval", "bvecs": "a.bvec", "delta": "10", "Delta": "40"} | changes
    flat = [word for name, value in options.items() if value for word in (f"--{name}", value)]
    return ["simulate", "ball.vtu", "--out", out, *flat]


def expected() -> torch.Tensor:
    """The same by the verbs."""
    acquisition = spinmesh.read_acquisition(
        bvals="a.bval", bvecs="a.bvec", delta_ms=10.0, Delta_ms=40.0
    )
    ball = spinmesh.read_mesh("ball.vtu")
    return spinmesh.simulate(ball, spinmesh.Tissue.uniform(2.0), acquisition).signal


def test_store_holds_the_signal_of_the_verbs(folder: Path) -> None:
    done = CliRunner().invoke(cli.app, command("ball.zarr"))
    assert done.exit_code == 0, done.output
    assert "4 signals of ball" in done.output
    signals = spinmesh.load(spinmesh.Signals, "ball.zarr")
    # The same code on the same input: equal to the last bit.
    assert torch.equal(signals.signal, expected())


def reduction(*words: str) -> Result:
    """`spinmesh reduce` on the ball."""
    return CliRunner().invoke(cli.app, ["reduce", "ball.vtu", "--out", "pack.zarr", *words])


def test_a_pack_gives_the_signals_of_the_mesh_also_of_other_water(folder: Path) -> None:
    strength = ["--strongest-gradient", "130", "--longest-time", "50", "--tolerance", "1e-3"]
    done = reduction(*strength)
    assert done.exit_code == 0 and "at 0.001 of S0" in done.output, done.output
    replayed = [word.replace("ball.vtu", "pack.zarr") for word in command("ball.zarr")]
    done = CliRunner().invoke(cli.app, replayed)
    assert done.exit_code == 0 and "estimated error" in done.output, done.output
    signal = spinmesh.load(spinmesh.Signals, "ball.zarr").signal
    scale = float((direct := expected()).abs().max())
    torch.testing.assert_close(signal, direct, rtol=0, atol=1e-3 * scale)
    slower = [*replayed, "--diffusivity", "1.5", "--force"]
    assert CliRunner().invoke(cli.app, slower).exit_code == 0
    change = spinmesh.load(spinmesh.Signals, "ball.zarr").signal - signal
    assert float(change.abs().max()) > 0.02 * scale
    done = CliRunner().invoke(cli.app, [*replayed, "--scale-to-um", "2", "--force"])
    assert isinstance(done.exception, ConfigError) and "a pack has its" in str(done.exception)


@pytest.mark.parametrize(
    "words",
    [[], ["--strongest-gradient", "130"], ["--scheme", "a.scheme", "--longest-time", "50"]],
    ids=["nothing", "half", "both"],
)
def test_a_pack_is_made_for_a_protocol_or_a_strength(folder: Path, words: list[str]) -> None:
    done = reduction(*words)
    assert isinstance(done.exception, ConfigError) and "either a protocol" in str(done.exception)
    assert not (folder / "pack.zarr").exists()


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


def test_a_compartment_with_closed_walls_has_the_signal_of_itself_alone(folder: Path) -> None:
    size = spinmesh.SweptDisk(rings=2, layers=4, radius_um=4.0, length_um=4.0, order=1)
    both = spinmesh.nested_cylinder(size, 1)
    spinmesh.write_mesh(both, folder / "ball.vtu")
    Path("tissue.yaml").write_text(
        "compartments: {1: {diffusivity_um2_per_ms: 2.0}, 2: {diffusivity_um2_per_ms: 1.0}}\n"
    )
    words = [*command("two.csv", tissue="tissue.yaml"), "--by-compartment"]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0, done.output
    table = pd.read_csv("two.csv")
    acquisition = spinmesh.read_acquisition(
        bvals="a.bval", bvecs="a.bvec", delta_ms=10.0, Delta_ms=40.0
    )
    for label, diffusivity in ((1, 2.0), (2, 1.0)):
        inside = both.tets[both.compartment == label]
        used, tets = torch.unique(inside, return_inverse=True)
        alone = spinmesh.TetMesh(both.points[used], tets, torch.full((len(tets),), label), "alone")
        tissue = spinmesh.Tissue.uniform(diffusivity, labels=(label,))
        signal = spinmesh.simulate(alone, tissue, acquisition, tolerance=1e-6).signal[0]
        # Both to the tolerance of their bases, 1e-5 of the unweighted signal of both.
        scale = float(table["signal_real"][0])
        assert table[f"signal_real_in_{label}"].to_numpy() == pytest.approx(
            signal.real.numpy(), abs=2e-5 * scale
        )
    total = table["signal_real_in_1"] + table["signal_real_in_2"]
    assert total.to_numpy() == pytest.approx(table["signal_real"].to_numpy(), rel=1e-10)


@pytest.mark.parametrize(
    ("out", "changes", "words"),
    [
        ("ball.zarr", {}, "columns of a .csv"),
        ("ball.csv", {"method": "stepping"}, "the sum of the compartments only"),
    ],
)
def test_signals_by_compartment_are_columns_of_reduced_models(
    folder: Path, out: str, changes: dict[str, str], words: str
) -> None:
    done = CliRunner().invoke(cli.app, [*command(out, **changes), "--by-compartment"])
    assert isinstance(done.exception, ConfigError) and words in str(done.exception)
    assert not (folder / out).exists()


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
        ("ball.csv", {"delta": "50"}, ["ConfigError", "delta_ms 50 exceeds Delta_ms 40"]),
        ("ball.zarr", {"bvals": "none.bval"}, ["none.bval"]),
        ("ball.zarr", {"bvecs": "a.bval"}, ["bvec"]),
        ("ball.zarr", {"basis": "fourier"}, ["fourier", "krylov, laplace"]),
        ("ball.csv", {"scheme": "a.scheme"}, ["`scheme` excludes bvals, bvecs"]),
        ("ball.csv", {"delta": ""}, ["delta_ms missing", "or `scheme`"]),
        ("ball.csv", {"tissue": "good.yaml", "diffusivity": "1"}, ["--diffusivity excludes"]),
        ("ball.csv", {"device": "tpu"}, ["'tpu' is unknown", "cpu or cuda"]),
        ("ball.csv", {"device": "cuda"}, ["torch sees no GPU", "Give cpu"]),
        ("ball.csv", {"tolerance": "1e-12"}, ["`tolerance` is 1e-12", "1e-9"]),
    ],
    ids=[
        *(
            "suffix",
            "tissue-key",
            "tissue-file",
            "delta",
            "bval",
            "bvec",
            "basis",
            "scheme-and-fsl",
        ),
        *("no-delta", "two-tissues", "device", "no-gpu", "tolerance"),
    ],
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
    Path("good.yaml").write_text("compartments: {1: {}}\n")
    before = sorted(folder.iterdir())
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr("sys.argv", ["spinmesh", *command(out, **changes)])
    with pytest.raises(SystemExit) as exit_:
        cli.run()
    assert exit_.value.code == 1
    message = capsys.readouterr().err.strip()
    assert len(message.splitlines()) == 1, message
    for word in words:
        assert word in message
    assert sorted(folder.iterdir()) == before


COLUMNS = "b_s_per_mm2,gx,gy,gz,delta_ms,Delta_ms,signal_real,signal_imag,attenuation"
TISSUE = """
compartments:
  2: {diffusivity_um2_per_ms: 2.0, t2_ms: 80.0, density: 0.5}
  1: {diffusivity_um2_per_ms: [[2, 0, 0], [0, 2, 0], [0, 0, 1]], t2_ms: .inf, density: 1.0}
interfaces:
  - {between: [1, 2], permeability_um_per_ms: 0.1}
walls:
  - {compartment: 2, permeability_um_per_ms: 0.05}
"""


def test_table_of_a_tissue_with_everything_is_that_of_the_verbs(folder: Path) -> None:
    """The columns as announced; T2, density, membrane, wall and tensor D all reach the signal."""
    mesh = spinmesh.nested_cylinder(
        spinmesh.SweptDisk(rings=2, layers=2, radius_um=4.0, length_um=8.0, order=1), 1
    )
    spinmesh.write_mesh(mesh, "ball.vtu")
    Path("tissue.yaml").write_text(TISSUE)
    done = CliRunner().invoke(cli.app, command("two.csv", tissue="tissue.yaml", tolerance="1e-1"))
    assert done.exit_code == 0, done.output
    with (folder / "two.csv").open() as file:
        assert file.readline().strip() == COLUMNS
        rows = list(csv.DictReader(file, COLUMNS.split(",")))
    filling = spinmesh.Tissue(
        (1, 2),
        torch.stack([torch.diag(torch.tensor([2.0, 2, 1])), 2 * torch.eye(3)]).double(),
        torch.tensor([torch.inf, 80.0]).double(),
        torch.tensor([1.0, 0.5]).double(),
        {(1, 2): 0.1},
        {2: 0.05},
    )
    acquisition = spinmesh.read_acquisition(
        bvals="a.bval", bvecs="a.bvec", delta_ms=10.0, Delta_ms=40.0
    )
    basis = spinmesh.Basis(tolerance=1e-1)
    read = spinmesh.read_mesh("ball.vtu")
    signals = spinmesh.simulate(read, filling, acquisition, basis)
    for name, value in (
        ("signal_real", signals.signal[0].real),
        ("signal_imag", signals.signal[0].imag),
        ("attenuation", signals.attenuation[0]),
    ):
        # Twelve digits are written; parts that symmetry makes zero are rounding.
        assert [float(row[name]) for row in rows] == pytest.approx(value.tolist(), abs=1e-8)
    # b = 0 is not attenuated, but half of it has decayed or left.
    assert float(rows[0]["attenuation"]) == pytest.approx(1.0, rel=1e-9)
    assert float(rows[0]["signal_real"]) < 0.8 * 0.625 * 3.14159 * 16 * 8


@pytest.mark.parametrize("kind", ["scheme", "raster", "csv"])
def test_any_scheme_file_gives_the_signals_of_the_fsl_files(folder: Path, kind: str) -> None:
    acquisition = spinmesh.read_acquisition(
        bvals="a.bval", bvecs="a.bvec", delta_ms=10.0, Delta_ms=40.0
    )
    name = "a.csv" if kind == "csv" else "a.scheme"
    if kind == "csv":
        write_waveforms(acquisition, name)
    else:
        write_camino_scheme(acquisition, name, None if kind == "scheme" else 1.0)
    words = ["simulate", "ball.vtu", "--scheme", name, "--out", "ball.zarr"]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0, done.output
    found = spinmesh.load(spinmesh.Signals, "ball.zarr").signal
    # Either basis is within 1e-5 of S0; a sequence along one line or in space is the same.
    assert torch.allclose(found, expected(), rtol=0, atol=2e-5 * float(expected()[0, 0].abs()))


def test_progress_and_estimated_errors_are_said(folder: Path) -> None:
    done = CliRunner().invoke(cli.app, command("ball.csv"))
    assert "ball.vtu: 129 points, 64 tets; simulating 4 measurements" in done.stderr
    assert "(basis of" in done.stdout and "(mesh) of S0" in done.stdout


def test_the_whole_system_through_time_gives_the_same(folder: Path) -> None:
    done = CliRunner().invoke(cli.app, command("ball.zarr", method="stepping"))
    assert "(time stepping) and unknown (mesh) of S0" in done.stdout
    found = spinmesh.load(spinmesh.Signals, "ball.zarr").signal
    # The bases' 1e-5 of S0, and as much.
    assert torch.allclose(found, expected(), rtol=0, atol=2e-5 * float(expected()[0, 0].abs()))
    assert CliRunner().invoke(cli.app, command("b.zarr", method="euler")).exit_code == 2


def test_a_tolerance_the_mesh_cannot_give_is_warned_of_or_refused(folder: Path) -> None:
    """The ball of 25 straight nodes is off by some per cent: facets hide a third of it."""
    spinmesh.write_mesh(spinmesh.ball(5.0, 1, 1), "ball.vtu")
    with pytest.warns(spinmesh.errors.ResolutionWarning, match=r"ball\.vtu: its 64 tets"):
        assert CliRunner().invoke(cli.app, command("b.csv", tolerance="2e-2")).exit_code == 0
    assert Path("b.csv").is_file()
    refused = CliRunner().invoke(cli.app, command("c.csv", tolerance="1e-6"))
    assert "1e-06 was asked for. Refine the mesh" in str(refused.exception)
    assert not Path("c.csv").exists()
    # Without the option the basis alone is kept to 1e-5, whatever the mesh.
    assert CliRunner().invoke(cli.app, command("d.csv")).exit_code == 0
