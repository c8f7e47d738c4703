"""Inputs of a run: what an edit of one reruns, and one that fails beside one that does not."""

from __future__ import annotations

import csv
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from spinmesh import read_mesh
from spinmesh.bloch_torrey import Signals
from spinmesh.errors import ConfigError
from spinmesh.inputs.checking import check_inputs
from spinmesh.io import load
from spinmesh.mesh import sizes
from spinmesh.settings import validate_config
from tests.workflow.conftest import ROOT, TINY, Run, Workspace

SPHERE = "config/demo/sphere.vtu"
AXON = {"path": ["config/demo/myelin.ply", "config/demo/axon.ply"], "name": "axon", "size_um": 2.0}
OF_ALL = ("view", "tabulate_inputs", "summarise")


@pytest.fixture(scope="module")
def workspace(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A copy of the tiny run, in which inputs may be changed."""
    root = tmp_path_factory.mktemp("inputs") / "copy"
    return Workspace(shutil.copytree(run.workspace.root, root))


@pytest.mark.slow
def test_an_edit_of_an_entry_or_a_file_reruns_its_jobs_alone(workspace: Workspace) -> None:
    """Of the sphere tissue and jobs, which its mesh does not depend on; of the axon a file."""
    file = workspace.root / AXON["path"][0]
    time = file.stat().st_mtime
    file.write_bytes(file.read_bytes() + b"\n")
    sphere = {"path": SPHERE, "tissue": {"compartments": {1: {"t2_ms": 30.0}}}, "jobs": 3}
    config = workspace.with_values({"mesh.inputs": [sphere, AXON]})
    text = workspace.snakemake("--dry-run", config=config).stdout
    jobs = re.findall(
        r"^(?:local)?rule (\w+):\n(?: .*\n)*? +wildcards: input=([^\s,]+)", text, re.M
    )
    of_axon = {(rule, "axon") for rule in ("mesh_input", "draw_input", "simulate_input")}
    of_sphere = {("simulate_input", "sphere"), ("simulate_share", "sphere")}
    assert set(jobs) == of_axon | of_sphere and jobs.count(("simulate_share", "sphere")) == 3, text
    table = re.search(r"^Job stats:\n(.*?)^total", text, re.M | re.S)
    assert table is not None, text
    rules = {line.split()[0] for line in table[1].splitlines()[2:]} - {"all", "everything"}
    assert rules == {*OF_ALL, "mesh_input", "draw_input", "simulate_input", "simulate_share"}
    file.write_bytes(file.read_bytes()[:-1])
    os.utime(file, (time, time))


@pytest.mark.slow
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


@pytest.mark.slow
def test_an_input_that_fails_stops_no_other_and_has_a_row_with_the_reason(
    workspace: Workspace,
) -> None:
    """Its mesher is ended; the sphere is simulated anew by two jobs, of which the second has no
    piece; what an earlier run left is not shown."""
    sphere = {"path": SPHERE, "tissue": {"compartments": {1: {"t2_ms": 50.0}}}, "jobs": 2}
    config = workspace.with_values({"mesh.inputs": [sphere, AXON | {"time_limit_s": 0.001}]})
    done = workspace.snakemake("--keep-going", "inputs", config=config)
    results = workspace.root / "results/tiny"
    assert done.returncode != 0 and not (results / "mesh/inputs/axon.zarr").exists()
    assert "1 of 2 inputs are not complete; results/tiny/inputs.csv" in done.stdout, done.stdout
    with (results / "inputs.csv").open() as table:
        rows = {row["name"]: row for row in csv.DictReader(table)}
    assert rows["axon"]["failed"].startswith("MeshError: ") and not rows["axon"]["tets"]
    assert (results / "simulate/inputs/axon.zarr").exists()
    assert not rows["axon"]["simulate_cpu_seconds"]
    assert "took more than 0.001 s" in rows["axon"]["failed"]
    stores = ("inputs/sphere", "shares/sphere/0-of-2", "shares/sphere/1-of-2")
    whole, *jobs = (load(Signals, results / f"simulate/{store}.zarr") for store in stores)
    assert torch.equal(whole.signal, jobs[0].signal) and not jobs[1].unweighted.any()
    assert not rows["sphere"]["failed"] and float(rows["sphere"]["simulate_cpu_seconds"]) > 0
    # What the next run must make anew is older than all that it is made of.
    assert (results / "inputs.csv").stat().st_mtime == 0


@pytest.mark.parametrize(
    ("entry", "labels"),
    [
        (AXON | {"name": None}, (1, 2)),
        (AXON | {"box": True}, (1, 2, 3)),
        (AXON | {"box": True, "compartments": [4, 4, 0]}, (4,)),
        ({"path": ["cell.swc"], "tight_um": 0.5}, (1, 2)),
        ({"path": ["cell.swc", "config/demo/axon.ply"]}, (1, 2)),
        ({"path": ["labels.tif"], "scale_to_um": 1.0, "box": True}, (3, 7, 8)),
        ({"path": ["config/demo/sphere.vtu"]}, (1,)),
        ({"bundle": {"axons": 3, "g_ratio": None}, "name": "pack"}, (1, 2)),
    ],
)
def test_a_tissue_of_other_compartments_is_refused_before_any_job(
    entry: dict[str, Any], labels: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever kind of input it is; the tissue of the very compartments is taken."""
    (tmp_path / "config").symlink_to(ROOT / "config")
    (tmp_path / "cell.swc").write_text("1 1 0 0 0 2 -1\n")
    pages = [Image.new("L", (4, 4), label) for label in (0, 3, 7)]
    pages[0].save(tmp_path / "labels.tif", save_all=True, append_images=pages[1:])
    monkeypatch.chdir(tmp_path)
    filled = [labels, (*labels, 9)]
    for compartments in filled:
        tissue = {"compartments": {label: {"t2_ms": 50.0} for label in compartments}}
        values = yaml.safe_load(Path(TINY).read_text())
        values["mesh"]["inputs"] = [entry | {"tissue": tissue}]
        config = validate_config(values)
        if compartments == labels:
            check_inputs(config)
        else:
            with pytest.raises(ConfigError, match=re.escape(f"those of the mesh {labels}")):
                check_inputs(config)
