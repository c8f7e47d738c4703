"""A mistake in the configuration or in an input file stops the run before any job starts."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import meshio
import numpy as np
import pytest
import torch

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
            {"mesh.inputs": "config/cube.vtu"},
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


def test_a_job_that_fails_says_why_in_its_log_and_in_one_line_on_the_console(
    new_workspace: Callable[[], Any],
) -> None:
    """A fan of 90 degrees folds an axon as thick as it is long; only the job can know."""
    workspace = new_workspace()
    target = {"shape": {"radius_um": 9.0, "fan_angle_deg": 90.0}, "refine": 2}
    config = workspace.with_values({"mesh.target": target})
    done = workspace.snakemake("results/tiny/mesh/target.zarr", config=config)
    assert done.returncode != 0
    line = next(line for line in done.stdout.splitlines() if line.startswith("MeshError: "))
    assert "(target): " in line and "tets are inverted" in line and "`fan_angle` folds it" in line
    log = workspace.results / "logs/make_target_mesh.log"
    assert f"(log: {log.relative_to(workspace.root)})" in line
    assert line.partition(" (log: ")[0] in log.read_text()
    assert "Traceback" in log.read_text() and "Traceback" not in done.stdout
    assert not (workspace.results / "mesh/target.zarr").exists()


def test_a_folder_that_cannot_be_written_is_told_before_any_job(workspace: Any) -> None:
    """A link to a scratch that is not mounted."""
    results = workspace.root / "results"
    results.mkdir(exist_ok=True)
    (results / "elsewhere").symlink_to("/scratch/not/mounted")
    done = workspace.snakemake("mesh", config=workspace.with_values({"run": "elsewhere"}))
    shutil.rmtree(results)
    assert done.returncode != 0
    assert "MachineError: results/elsewhere: cannot be written (No such file" in done.stdout
    assert "localrule" not in done.stdout, "no job may have started"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_where_one_is_asked_for_is_told_before_any_job(workspace: Any) -> None:
    """And only where a job that is to run asks for it."""
    config = workspace.with_values({"simulate.device": "cuda"})
    done = workspace.snakemake("simulate", config=config)
    assert done.returncode != 0
    assert "`device` of the stage (simulate_shard): cuda is asked for" in done.stdout
    assert "Give cpu" in done.stdout and "localrule" not in done.stdout


def test_a_store_of_another_configuration_is_told_before_any_job(
    new_workspace: Callable[[], Any],
) -> None:
    """Copied here without Snakemake's records, its time alone would make it good."""
    workspace, target = new_workspace(), "results/tiny/mesh/target.zarr"
    other = workspace.with_values({"mesh.target.shape.radius_um": 2.0})
    assert workspace.snakemake(target, config=other).returncode == 0
    shutil.rmtree(workspace.root / ".snakemake")
    done = workspace.snakemake("results/tiny/simulate/target.zarr")
    assert done.returncode != 0
    assert f"StoreError: {target}: was made with another configuration" in done.stdout
    assert "Delete it" in done.stdout and "localrule" not in done.stdout
