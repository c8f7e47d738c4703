"""What the workflow asks of a scheduler, and what it does when a job fails."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spinmesh.cli import app
from spinmesh.errors import StoreError
from spinmesh.io.store import attributes_of
from spinmesh.provenance import NUMERICS
from tests.workflow.conftest import ROOT, Workspace
from tests.workflow.test_scripts import RULES

# Each of five jobs counts those that run beside it, on a machine of two cards.
GPU_JOBS = f"""
import torch
torch.cuda.device_count = lambda: 2
LOGS = TIMES = "logs"
rule all:
    input: [f"{{job}}.txt" for job in range(5)]
rule one:
    output: "{{job}}.txt"
    resources: gpu=1
    shell: "touch on.{{wildcards.job}}; sleep 1; ls on.* | wc -l > {{output}}; sleep 0.5; "
           "rm on.{{wildcards.job}}"
include: "{ROOT}/workflow/rules/bookkeeping.smk"
"""
LIGHT = re.compile(r"(plot|tabulate|show|read|write)_.*|summarise")


@pytest.mark.parametrize("name", sorted(RULES))
def test_rule_states_what_it_needs(name: str) -> None:
    """Figures, tables and small files take what the profile gives."""
    assert ("**needs(" in RULES[name]) != bool(LIGHT.fullmatch(name))


@pytest.fixture(scope="module")
def workspace(new_workspace: Callable[[], Workspace]) -> Workspace:
    """A copy in which only stage 1 is run."""
    return new_workspace()


def asked(workspace: Workspace, *options: str, **values: str | int) -> dict[str, str]:
    """Resources of each rule's last job, as a dry run tells them."""
    config = workspace.with_values({key.replace("_", ".", 1): v for key, v in values.items()})
    done = workspace.snakemake("--dry-run", "--forceall", *options, config=config)
    assert done.returncode == 0, done.stdout
    return dict(re.findall(r"^rule (\w+):$.*?^    resources: (.*?)$", done.stdout, re.M | re.S))


@pytest.mark.slow
def test_one_key_asks_for_the_gpu_and_uses_it(workspace: Workspace) -> None:
    """And memory and time grow with the attempt."""
    trainings = {"train_score_model", "train_shape_model"}
    several = {f"{stage}_{key}": value for stage in ("synthesise", "reconstruct")
               for key, value in (("device", "cuda"), ("gpus", 3))}  # fmt: skip
    resources = asked(workspace, simulate_device="cuda", **several)
    for count, rules in {1: {"simulate_shard", "simulate_input"}, 3: trainings}.items():
        assert {name for name, text in resources.items() if f"gpu={count}" in text} == rules
    assert {name for name, text in resources.items() if "nodes=1" in text} == trainings
    assert "mem_mb=24000" in resources["train_score_model"], "8 GB for each process"
    assert "gpu=1" not in str(asked(workspace, simulate_device="auto", synthesise_device="auto"))
    second = asked(workspace, "--attempt", "2")
    assert "mem_mb=3000" in resources["simulate_shard"]
    assert "runtime=60" in resources["simulate_shard"]
    assert "mem_mb=6000" in second["simulate_shard"]
    assert "runtime=120" in second["simulate_shard"]


@pytest.mark.slow
def test_what_was_refused_is_not_tried_again_and_what_died_is(workspace: Workspace) -> None:
    script = workspace.root / "workflow/scripts/make_target_mesh.py"
    before, again = script.read_text(), "Trying to restart job"
    target = "results/tiny/mesh/target.zarr"
    fold = {"mesh.target.shape": {"radius_um": 5.0, "fan_angle_deg": 90.0}}
    folded = workspace.with_values(fold)
    refused = workspace.snakemake(target, "--retries", "2", config=folded)
    assert refused.returncode != 0
    assert "`fan_angle` folds it" in refused.stdout and again not in refused.stdout
    # Of another cause, twice: the log of the refusal is still there.
    counted = 'attempts = open("attempts", "a+")\nattempts.write("x")\nattempts.seek(0)\n'
    script.write_text(before + counted + "1 / (len(attempts.read()) > 2)\n")
    died = workspace.snakemake(target, "--retries", "2")
    script.write_text(before)
    assert died.returncode == 0, died.stdout
    assert died.stdout.count(again) == 2


@pytest.mark.slow
def test_a_store_tells_the_command_that_makes_it_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleted and made by that command, every file has the digest that it had."""
    store = workspace.root / "results/tiny/mesh/target.zarr"
    done = workspace.snakemake(str(store.relative_to(workspace.root)))
    assert done.returncode == 0, done.stdout
    before = attributes_of(store)
    monkeypatch.chdir(workspace.root)
    told = CliRunner().invoke(app, ["provenance", str(store)])
    assert told.exit_code == 0, told.output
    rows = dict(re.split(r"  +", line, maxsplit=1) for line in told.stdout.splitlines())
    assert rows["seed"] == "7"
    assert all(f"{name} {version(name)}" in rows["versions"] for name in NUMERICS)
    command = rows["made again by"].replace("--cores all", "--cores 1").split()
    shutil.rmtree(store)
    run = [sys.executable, "-m", *command]
    subprocess.run(run, cwd=workspace.root, env=workspace.environment, check=True)
    assert attributes_of(store)["manifest"] == before["manifest"]
    (store / "zarr.json").unlink()
    refused = CliRunner().invoke(app, ["provenance", str(store)])
    assert isinstance(refused.exception, StoreError)


@pytest.mark.slow
def test_another_copy_of_the_package_is_refused_at_start(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own edits would change nothing: the copy in site-packages ran instead."""
    elsewhere = {**workspace.environment, "PYTHONPATH": str(ROOT / "src")}
    monkeypatch.setattr(Workspace, "environment", elsewhere)
    refused = workspace.snakemake("--dry-run")
    assert refused.returncode != 0
    assert f"imported from {ROOT}/src/spinmesh" in refused.stdout
    assert "make setup" in refused.stdout


@pytest.mark.slow
def test_as_many_jobs_that_ask_for_a_gpu_run_as_there_are_cards(tmp_path: Path) -> None:
    """Nothing but their number holds a third one back."""
    (tmp_path / "Snakefile").write_text(GPU_JOBS)
    command = [sys.executable, "-m", "snakemake", "--cores", "5"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    counts = [int((tmp_path / f"{job}.txt").read_text()) for job in range(5)]
    assert max(counts) == 2
