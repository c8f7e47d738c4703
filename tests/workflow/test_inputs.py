"""Inputs of a run: what an edit of one reruns, and one that fails beside one that does not."""

from __future__ import annotations

import csv
import os
import re
import shutil

import pytest

from spinmesh import read_mesh
from spinmesh.mesh import sizes
from tests.workflow.conftest import Run, Workspace

pytestmark = pytest.mark.slow

SPHERE = "config/demo/sphere.vtu"
AXON = {"path": ["config/demo/myelin.ply", "config/demo/axon.ply"], "name": "axon", "size_um": 2.0}
OF_ALL = {"show_inputs": 1, "tabulate_inputs": 1, "summarise": 1}


@pytest.fixture(scope="module")
def workspace(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A copy of the tiny run, in which inputs may be changed."""
    root = tmp_path_factory.mktemp("inputs") / "copy"
    return Workspace(shutil.copytree(run.workspace.root, root))


def planned(workspace: Workspace, config: str) -> tuple[dict[str, int], set[str]]:
    """How often each rule would run, and for which inputs."""
    text = workspace.snakemake("--dry-run", config=config).stdout
    table = re.search(r"^Job stats:\n(.*?)^total", text, re.M | re.S)
    assert table is not None, text
    rows = (line.split() for line in table[1].splitlines()[2:])
    counts = {rule: int(count) for rule, count in rows}
    return (
        {rule: counts[rule] for rule in counts if rule not in ("all", "everything")},
        set(re.findall(r"wildcards: input=(\S+)", text)),
    )


@pytest.mark.parametrize(
    ("axon", "rules"),
    [
        ({"size_um": 3.0}, {"mesh_input", "draw_input", "simulate_input"}),
        ({"tissue": {"compartments": {1: {"t2_ms": 30.0}}}}, {"simulate_input"}),
    ],
)
def test_an_edit_of_one_entry_reruns_its_jobs_alone(
    workspace: Workspace, axon: dict[str, object], rules: set[str]
) -> None:
    config = workspace.with_values({"mesh.inputs": [SPHERE, AXON | axon]})
    counts, inputs = planned(workspace, config)
    page = OF_ALL if "draw_input" in rules else OF_ALL.keys() - {"show_inputs"}
    assert counts == dict.fromkeys(rules | set(page), 1) and inputs == {"axon"}


def test_a_changed_file_reruns_its_jobs_alone(workspace: Workspace) -> None:
    file = workspace.root / SPHERE
    time = file.stat().st_mtime
    file.write_bytes(file.read_bytes() + b"\n")
    counts, inputs = planned(workspace, "config/test/tiny.yaml")
    assert counts == OF_ALL | {"mesh_input": 1, "draw_input": 1, "simulate_input": 1}
    assert inputs == {"sphere"}
    file.write_bytes(file.read_bytes()[:-1])
    os.utime(file, (time, time))


def test_table_has_a_row_for_each_input(run: Run) -> None:
    """With the sizes of the stores, and what the jobs took."""
    with (run.workspace.results / "inputs.csv").open() as table:
        rows = {row["name"]: row for row in csv.DictReader(table)}
    assert list(rows) == ["sphere", "axon"] and rows["axon"]["compartments"] == "1 2"
    mesh = read_mesh(run.workspace.results / "mesh/inputs/axon.zarr")
    for column, values in zip(("volume_um3", "area_um2"), sizes(mesh).T, strict=True):
        assert [float(x) for x in rows["axon"][column].split()] == pytest.approx(values, rel=1e-5)
    fractions = [float(x) for x in rows["axon"]["fraction"].split()]
    assert sum(fractions) == pytest.approx(1, rel=1e-5)
    assert int(rows["axon"]["tets"]) == len(mesh.tets)
    for row in rows.values():
        # Imports alone take a second, and a tenth of a GiB.
        assert float(row["mesh_cpu_seconds"]) > 0.5 and float(row["simulate_peak_gib"]) > 0.05


def test_an_input_that_cannot_be_meshed_stops_no_other(workspace: Workspace) -> None:
    """Its mesher is ended after a hundredth of a second, which only the job can tell."""
    one = {"path": SPHERE, "tissue": {"compartments": {1: {"t2_ms": 50.0}}}}
    config = workspace.with_values({"mesh.inputs": [one, AXON | {"time_limit_s": 0.01}]})
    meshed, simulated = (workspace.results / name / "inputs" for name in ("mesh", "simulate"))
    before = (simulated / "sphere.zarr/zarr.json").stat().st_mtime_ns
    stores = [f"results/tiny/simulate/inputs/{name}.zarr" for name in ("axon", "sphere")]
    done = workspace.snakemake("--keep-going", *stores, config=config)
    assert done.returncode != 0
    assert "took more than 0.01 s and was ended" in done.stdout
    assert not (meshed / "axon.zarr").exists()
    assert (simulated / "sphere.zarr/zarr.json").stat().st_mtime_ns > before
