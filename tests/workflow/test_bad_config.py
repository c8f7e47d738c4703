"""A mistake in the configuration or in an input file stops the run before any job starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import meshio
import numpy as np
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workspace(new_workspace: Callable[[], Any]) -> Any:
    """A copy with a bad mesh added; no run in it ever gets anywhere."""
    copy = new_workspace()
    cube = np.array([[x, y, z] for z in (0.0, 1) for y in (0.0, 1) for x in (0.0, 1)])
    hexahedron = [("hexahedron", np.array([[0, 1, 3, 2, 4, 5, 7, 6]]))]
    meshio.Mesh(cube, hexahedron).write(copy.root / "config/cube.vtu")
    return copy


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"mesh.templete": 3}, ["unknown key `mesh.templete`", "Did you mean `template`?"]),
        (
            {"acquisition.bvals": "config/none.bval"},
            ["`acquisition.bvals`", "config/none.bval", "Correct the path"],
        ),
        (
            {"mesh.user_mesh": {"path": "config/cube.vtu"}},
            ["config/cube.vtu", "hexahedron", "tetra"],
        ),
    ],
    ids=lambda value: "-".join(map(str, value.items()))[:60] if isinstance(value, dict) else "",
)
def test_mistake_is_named_with_its_remedy_before_any_job(
    workspace: Any, values: dict[str, Any], words: list[str]
) -> None:
    done = workspace.snakemake(config=workspace.with_values(values))
    assert done.returncode != 0
    for word in words:
        assert word in done.stdout, done.stdout
    assert "Traceback" not in done.stdout
    assert not list(Path(workspace.root).glob("results/**/*")), "no job may have started"
