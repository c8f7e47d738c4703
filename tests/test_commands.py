"""What all commands share: examples, --json, exit codes, and a look at the machine."""

import json
import re
import shlex
import subprocess
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import spinmesh
from spinmesh import cli
from spinmesh.cli.running import PARTS
from spinmesh.errors import MachineError, MeshError

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/commands.md").read_text()
COMMANDS: dict[str, Any] = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]


def test_every_command_is_on_the_page_has_examples_and_answers_in_json() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)) == set(COMMANDS)
    assert set(cli.EXAMPLES) == set(COMMANDS)
    for name, command in COMMANDS.items():
        answers = any("--json" in option.opts for option in command.params)
        assert answers == (name != "run"), name


@pytest.mark.parametrize("example", [each for some in cli.EXAMPLES.values() for each in some])
def test_every_example_of_the_help_is_read_as_a_terminal_would(example: str) -> None:
    """Options are there and have values of their kind; a misspelt one is not."""
    for part in re.split(r"\||&&", example):
        words = shlex.split(part)
        if words[0] == "spinmesh":
            COMMANDS[words[1]].make_context(words[1], words[2:])
            with pytest.raises(Exception, match="No such option"):
                COMMANDS[words[1]].make_context(words[1], ["--tolerence", *words[2:]])


def interrupted() -> None:
    raise KeyboardInterrupt


def refused() -> None:
    raise MeshError("cell.msh: no tetrahedra.")


def crowded() -> None:
    raise MachineError("memory is full.")


CODES = {
    "0": ["doctor", "--help"],
    "1": refused,
    "2": ["simulate", "--tolerence", "1"],
    "75": crowded,
    "130": interrupted,
}


@pytest.mark.parametrize("code", re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE))
def test_exit_codes_are_those_of_the_page(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cause = CODES[code]
    if isinstance(cause, list):
        monkeypatch.setattr("sys.argv", ["spinmesh", *cause])
    else:
        app = typer.Typer()
        app.command()(cause)
        monkeypatch.setattr(cli, "app", app)
        monkeypatch.setattr("sys.argv", ["spinmesh"])
    with pytest.raises(SystemExit) as end:
        cli.run()
    assert str(end.value.code) == code


def test_doctor_names_what_is_missing_and_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An extra may be missing; a package that everything needs, or another version of it, not."""
    absent, module = {"netgen-mesher"}, import_module("spinmesh.cli.doctor")

    def without(name: str) -> str:
        if name in absent:
            raise PackageNotFoundError(name)
        return "1.0" if name == "zarr" else version(name)

    monkeypatch.setattr(module, "version", without)
    done = CliRunner().invoke(cli.app, ["doctor"])
    assert done.exit_code == 1
    assert "zarr is 1.0, not" in done.stdout and "pip install 'spinmesh'" in done.stdout
    monkeypatch.setattr(module, "version", lambda n: without(n) if n in absent else version(n))
    done = CliRunner().invoke(cli.app, ["doctor", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["missing"]["mesher"] == ["netgen-mesher is missing"]


def test_init_lays_out_a_folder_that_run_takes_and_nothing_over_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    nowhere = CliRunner().invoke(cli.app, ["run"])
    assert "`spinmesh init DIR`" in str(nowhere.exception)
    done = CliRunner().invoke(cli.app, ["init", "study", "--json"])
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert (tmp_path / answer["config"]).is_file()
    assert sorted(path.name for path in Path("study").iterdir()) == sorted(PARTS)
    again = CliRunner().invoke(cli.app, ["init", "study"])
    assert "the folder is not empty" in str(again.exception)
    assert "blanks" in str(CliRunner().invoke(cli.app, ["init", "my study"]).exception)


def test_run_starts_snakemake_with_the_screen_and_hands_on_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("os.execv", lambda program, words: started.append(words))
    words = [
        "run",
        "--config",
        "config/test/tiny.yaml",
        "--cores",
        "2",
        "phantom",
        "--",
        "--unlock",
    ]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0, done.output
    line = " ".join(started[0][1:])
    assert line.startswith("-m snakemake --snakefile Snakefile --configfile config/test/tiny.yaml")
    assert line.endswith("--logger spinmesh --cores 2 phantom --unlock")


# ---- several meshes in one call
@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Balls of three radii and an acquisition, in the current folder."""
    for radius in (3, 4, 5):
        spinmesh.write_mesh(spinmesh.ball(float(radius), 1), tmp_path / f"r{radius}.vtu")
    (tmp_path / "a.bval").write_text("0 1000\n")
    (tmp_path / "a.bvec").write_text("0 1\n0 0\n0 0\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


PROTOCOL = ["--bvals", "a.bval", "--bvecs", "a.bvec", "--delta", "10", "--Delta", "40"]


def test_several_meshes_leave_a_table_each_and_one_that_is_refused_stops_none(
    folder: Path,
) -> None:
    (folder / "r4.vtu").write_text("no mesh")
    words = ["simulate", "r3.vtu", "r4.vtu", "r5.vtu", *PROTOCOL, "--out", "signals", "--json"]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 1 and "r4.vtu" in done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["mesh"] for answer in answers] == ["r3.vtu", "r5.vtu"]
    assert [answer["tets"] for answer in answers] == [64, 64]
    alone = CliRunner().invoke(cli.app, ["simulate", "r5.vtu", *PROTOCOL, "--out", "r5.csv"])
    assert alone.exit_code == 0, alone.output
    assert Path(answers[1]["file"]).read_text() == Path("r5.csv").read_text()


@pytest.mark.parametrize(
    ("meshes", "out", "words"),
    [
        ("r3.vtu r5.vtu", "all.csv", "2 meshes need a folder"),
        ("r3.vtu other/r3.vtu", "signals", "two meshes are called r3"),
        ("r3.vtu r5.vtu", "there", "--force"),
    ],
)
def test_a_place_for_several_that_would_lose_one_is_refused_first(
    folder: Path, meshes: str, out: str, words: str
) -> None:
    (folder / "there").mkdir()
    (folder / "there/r5.csv").touch()
    done = CliRunner().invoke(cli.app, ["simulate", *meshes.split(), *PROTOCOL, "--out", out])
    assert words in str(done.exception)
    assert not (folder / "there/r3.csv").exists()


@pytest.mark.slow
def test_a_command_imports_what_it_uses_and_no_more(folder: Path) -> None:
    """Each of these takes from a fifth to all of the time that torch takes."""
    heavy = {"torch", "numpy", "scipy", "pandas", "xarray", "zarr", "matplotlib", "sklearn"}
    code = (
        "import sys, spinmesh.cli as cli\n"
        f"sys.argv = ['spinmesh', *sys.argv[1:]]; heavy = {heavy}\n"
        "try:\n    cli.run()\nexcept SystemExit:\n    pass\n"
        "print(*sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    for words, needed in (
        (["--help"], set()),
        (["simulate", "r5.vtu", *PROTOCOL, "--out", "r5.csv"], {"torch", "numpy", "scipy"}),
    ):
        command = [sys.executable, "-c", code, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert set(done.stderr.splitlines()[-1].split()) == needed
