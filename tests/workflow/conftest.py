"""A copy of the workflow and its sources, in which tests may run, edit and break things."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PARTS = (
    "Snakefile",
    "workflow",
    "config",
    "experiments",
    "src",
    "envs",
    "profiles",
    "pyproject.toml",
)
TINY = "config/test/tiny.yaml"


@dataclass(frozen=True)
class Workspace:
    """A folder to run snakemake in; the copied sources are both run and hashed there."""

    root: Path

    @property
    def results(self) -> Path:
        """Where the tiny run writes."""
        return self.root / "results/tiny"

    @property
    def environment(self) -> dict[str, str]:
        """Of the copy: its sources first, one thread for each job."""
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        own = {"PATH": programs, "PYTHONPATH": str(self.root / "src"), "OMP_NUM_THREADS": "1"}
        return os.environ | own

    def command(self, *arguments: str, config: str = TINY) -> list[str]:
        """A snakemake command line."""
        base = [sys.executable, "-m", "snakemake", "--configfile", config, "--cores", "2"]
        return [*base, *arguments]

    def snakemake(self, *arguments: str, config: str = TINY) -> subprocess.CompletedProcess[str]:
        """Run snakemake here; stderr goes with stdout, where some messages are."""
        return subprocess.run(
            self.command(*arguments, config=config),
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def with_values(self, values: dict[str, Any]) -> str:
        """Path of the tiny configuration with some values replaced; keys have dots."""
        config = yaml.safe_load((self.root / TINY).read_text())
        for path, value in values.items():
            *parents, last = path.split(".")
            node = config
            for key in parents:
                node = node[key]
            node[last] = value
        # In the same order: families are sampled one after another, so their order is a value.
        text = yaml.safe_dump(config, sort_keys=False)
        (self.root / "config/changed.yaml").write_text(text)
        return "config/changed.yaml"

    def plan(self, config: str = TINY, *targets: str) -> set[str]:
        """The rules a dry run would run, targets that make nothing left out.

        Read from the table "Job stats", whose own total shows that no row was missed.
        """
        done = self.snakemake("--dry-run", *targets, config=config)
        assert done.returncode == 0, done.stdout
        table = re.search(
            r"^Job stats:\njob +count\n[- ]+\n(.*?)^total +(\d+)$", done.stdout, re.M | re.S
        )
        if table is None:
            assert "Nothing to be done" in done.stdout, done.stdout
            return set()
        rows = [line.split() for line in table[1].splitlines()]
        assert sum(int(count) for _, count in rows) == int(table[2]), done.stdout
        return {rule for rule, _ in rows} - {"all", "everything"}


def workspace_in(root: Path) -> Workspace:
    """A fresh copy in an empty folder, without results."""
    for part in PARTS:
        if (ROOT / part).is_dir():
            nothing = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / part, root / part, ignore=nothing)
        else:
            shutil.copy2(ROOT / part, root / part)
    return Workspace(root)


@pytest.fixture(scope="session")
def new_workspace(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Workspace]:
    """Makes fresh copies, without results."""
    return lambda: workspace_in(tmp_path_factory.mktemp("workspace"))


# Seconds within which the first shard of a run is written; a machine with other work has taken 300.
PATIENCE = 900


@dataclass(frozen=True)
class Run:
    """A run that was killed with SIGKILL in stage 2 and then resumed."""

    workspace: Workspace
    before: dict[Path, int]  # times of the files that were complete when it was killed
    killed: int  # exit status
    resumed: subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def run(new_workspace: Callable[[], Workspace]) -> Run:
    """The only full run of the tests."""
    workspace = new_workspace()
    status = kill_in_stage_two(workspace)
    before = times(workspace.results / "mesh/substrates.zarr")
    # A killed run cannot take its lock away.
    assert workspace.snakemake("--unlock").returncode == 0
    return Run(workspace, before, status, workspace.snakemake("--rerun-incomplete"))


def kill_in_stage_two(workspace: Workspace) -> int:
    """Start a run and kill it with all its jobs as soon as stage 2 writes a store."""
    with (workspace.root / "killed.log").open("w") as log:
        process = subprocess.Popen(
            workspace.command(),
            cwd=workspace.root,
            env=workspace.environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        shards = workspace.results / "simulate/shards"
        end = time.monotonic() + PATIENCE
        while not written(shards) and process.poll() is None and time.monotonic() < end:
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
        return process.wait()


def written(folder: Path) -> bool:
    """Whether any store, finished or not, lies in the folder."""
    return folder.is_dir() and any(path.is_dir() for path in folder.iterdir())


def times(folder: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in sorted(folder.rglob("*")) if p.is_file()}
