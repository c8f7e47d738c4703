"""Imports point one way, and the diagram in the documentation draws the very same order."""

import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest
import torch
from beartype.roar import BeartypeCallHintParamViolation

from spinmesh.mesh import TetMesh
from spinmesh.provenance import code_digest

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
LAYERS = next(c["layers"] for c in SETTINGS["contracts"] if c["id"] == "layers")
PAGE = (ROOT / "docs" / "architecture.md").read_text()


def fenced(language: str) -> str:
    return re.search(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[1]  # type: ignore[index]


def modules(layer: str) -> list[str]:
    return [name.strip() for name in re.split(r"[|:]", layer)]


def test_imports_keep_every_contract() -> None:
    """Layers, file formats known to io alone, no Snakemake in the package."""
    command = "from importlinter.cli import lint_imports_command as c; c()"
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_page_lists_the_layers_of_the_contract() -> None:
    assert [line.strip() for line in fenced("layers").splitlines()] == LAYERS


def test_diagram_arrows_point_down_the_layers_and_leave_none_out() -> None:
    """An arrow `a --> b` reads "a imports b": b must be below a, and every module is drawn."""
    depth = {name: row for row, layer in enumerate(LAYERS) for name in modules(layer)}
    drawn = set()
    for line in fenced("mermaid").splitlines():
        if arrow := re.fullmatch(r"\s*([\w &]+?)\s*-->\s*([\w &]+?)\s*", line):
            above, below = ([n.strip() for n in side.split("&")] for side in arrow.groups())
            drawn |= {*above, *below}
            for upper in above:
                for lower in below:
                    assert depth[upper] < depth[lower], f"{upper} --> {lower}"
    assert drawn == set(depth)


def test_every_stage_store_of_the_diagram_is_declared_in_the_package() -> None:
    """What `spinmesh.stored.store` marks."""
    sources = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    declared = re.findall(r"^@store\([^)]*\)\n(?:@[^\n]*\n)*class (\w+)", sources, re.MULTILINE)
    assert set(re.findall(r"\[\((\w+)<br/>", fenced("mermaid"))) == set(declared)


def test_no_package_has_more_than_twelve_files() -> None:
    """What does not fit into a package of twelve is two things."""
    files = Counter(path.parent for path in (ROOT / "src").rglob("*.py"))
    assert {folder: count for folder, count in files.items() if count > 12} == {}


def test_tests_check_the_types_of_arguments() -> None:
    """Points are (point, 3); a transposed array must not pass in the tests."""
    tets, label = torch.tensor([[0, 1, 2, 3]]), torch.tensor([1])
    with pytest.raises(BeartypeCallHintParamViolation):
        TetMesh(torch.zeros(2, 5, dtype=torch.float64), tets, label)


def test_tests_check_types_where_no_shape_is_written() -> None:
    """By beartype alone. Unchecked, iterating over the number would fail, but elsewhere."""
    with pytest.raises(BeartypeCallHintParamViolation):
        code_digest(3)
