"""What the documentation tells to type can be typed, and the how-to pages do what they say."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import meshio
import pytest
import trimesh
import typer
from typer.testing import CliRunner

from spinmesh import SweptDisk, cli, swept_disk

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
HOWTO = sorted((ROOT / "docs/howto").glob("*.md"))
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```', re.MULTILINE | re.DOTALL)
# Needs a trained model and a scan.
TOO_MUCH = ("spinmesh reconstruct", "spinmesh view voxel/")


def commands(page: Path) -> list[list[str]]:
    """The words of every command of ours in the page's shell blocks."""
    blocks = [text for language, _, text in BLOCK.findall(page.read_text()) if language == "sh"]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("spinmesh ")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_on_a_page_exists_with_its_options(page: Path) -> None:
    group = typer.main.get_command(cli.app)
    for words in commands(page):
        command = group.commands[words[0]]
        options = {name for each in command.params for name in each.opts} | {"--help"}
        for word in words[1:]:
            assert not word.startswith("--") or word.partition("=")[0] in options, words


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the pages speak of, small."""
    shutil.copy(ROOT / "config/demo/sphere.vtu", tmp_path)
    (tmp_path / "cell.swc").write_text("1 1 0 0 0 3 -1\n2 3 0 0 6 1 1\n")
    radii = {"myelin.ply": 4.0, "axon.ply": 3.0, "neuron.ply": 3.0, "spheres.ply": 3.0}
    for name, radius in (radii | {"in_metres.stl": 3e-6, "in_metres.ply": 3e-6}).items():
        trimesh.creation.icosphere(1, radius).export(tmp_path / name)
    cylinder = swept_disk(SweptDisk(rings=2, layers=4, radius_um=3.0, length_um=9.0, order=1))
    tets = [("tetra", cylinder.tets.numpy())]
    meshio.Mesh(cylinder.points.numpy(), tets).write(tmp_path / "cylinder.1.node")
    (tmp_path / "dwi.bval").write_text("0 1000 3000\n")
    (tmp_path / "dwi.bvec").write_text("0 1 0\n0 0 0\n0 0 1\n")
    scheme = "VERSION: STEJSKALTANNER\n0 0 0 0 0.02 0.008 0.036\n1 0 0 0.08 0.02 0.008 0.036\n"
    for name in ("dwi.scheme", "pgse.scheme"):
        (tmp_path / name).write_text(scheme)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", HOWTO, ids=lambda page: page.stem)
def test_a_page_does_what_it_says(page: Path, folder: Path) -> None:
    """Its files are written, then its commands and its Python are run in their order."""
    text, names = page.read_text(), dict[str, object]()
    for _, title, content in BLOCK.findall(text):
        if title:
            (folder / title).write_text(content)
    for language, _, content in BLOCK.findall(text):
        if language == "python":
            exec(compile(content, str(page), "exec"), names)
        elif language == "sh":
            for line in content.replace("\\\n", " ").splitlines():
                if not line.startswith(TOO_MUCH):
                    run(shlex.split(line, comments=True)[1:])


def run(words: list[str]) -> None:
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0, f"{words}: {done.output} {done.exception}"
    if "--out" in words:
        assert Path(words[words.index("--out") + 1]).exists()


def test_the_runner_sees_commands() -> None:
    """More than twenty on all pages together."""
    assert sum(len(commands(page)) for page in PAGES) > 20
