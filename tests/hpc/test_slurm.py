"""Stages 1 and 2 on a private Slurm of two nodes, one of which is lost on the way.

`make test-hpc`. Needs root on Debian (packages are installed), and the extra `slurm`; 5 minutes.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from spinmesh.io.store import attributes_of
from tests.workflow.conftest import Workspace

SCRIPT = Path(__file__).parent / "start_slurm.sh"
# Seconds: for the whole run, and for a job to be started on the node that will be lost.
LONGEST, SOON = 1800, 300

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("SPINMESH_HPC" not in os.environ, reason="run by `make test-hpc`"),
]


class Cluster:
    """A private Slurm; its files and daemons are in `folder`."""

    def __init__(self, folder: Path) -> None:
        conf = {"SLURMLAB_DIR": str(folder), "SLURM_CONF": str(folder / "etc/slurm.conf")}
        self.environment = os.environ | conf

    def script(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run start_slurm.sh."""
        return self._output([str(SCRIPT), *words])

    def running(self) -> list[tuple[str, str]]:
        """(node, name of the rule) of every job that runs."""
        lines = self._output(["squeue", "-h", "-t", "R", "-o", "%N %k"]).stdout.splitlines()
        return [(line.split()[0], line.partition(" ")[2]) for line in lines]

    def _output(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=300,
        )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Started, and stopped at the end; skipped with the reason where it cannot start."""
    if find_spec("snakemake_executor_plugin_slurm") is None:
        pytest.skip("no executor: make setup EXTRAS=workflow,mesher,dev,slurm")
    lab = Cluster(tmp_path_factory.mktemp("slurm"))
    started = lab.script("start")
    if started.returncode != 0:
        lab.script("stop")
        pytest.skip(f"no Slurm here: {' '.join(started.stdout.split())[-300:]}")
    yield lab
    lab.script("stop")


def test_a_run_that_loses_a_node_has_the_arrays_of_a_local_run(
    cluster: Cluster, new_workspace: Callable[[], Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit; the lost jobs are sent again, and memory and time of every job were given."""
    monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
    local, remote = new_workspace(), new_workspace()
    options = ("--workflow-profile", "profiles/slurm", "--jobs", "2")
    begun, output = time.monotonic(), remote.root / "run.log"
    with output.open("w") as log:
        process = subprocess.Popen(
            remote.command("simulate", *options), cwd=remote.root, env=remote.environment,
            stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        lost = _lose_a_node(cluster, process)
        status = process.wait(timeout=LONGEST)
    told = output.read_text()
    assert status == 0, told
    wall = time.monotonic() - begun
    again = len(re.findall("Trying to restart job", told))
    assert again >= 1, told
    assert local.snakemake("simulate").returncode == 0
    stores = sorted(path.parent for path in local.results.rglob("zarr.json"))
    stores = [path for path in stores if "manifest" in attributes_of(path)]
    equal = [
        attributes_of(store)["manifest"]
        == attributes_of(remote.root / store.relative_to(local.root))["manifest"]
        for store in stores
    ]
    jobs = len(re.findall("has been submitted with SLURM jobid", told))
    print(
        f"\n| jobs sent | of these again | lost on node {lost[0]} | wall s | stores bit-equal |\n"
        f"| --- | --- | --- | --- | --- |\n"
        f"| {jobs} | {again} | {lost[1]} | {wall:.0f} | {sum(equal)} of {len(equal)} |"
    )
    assert len(equal) >= 6 and all(equal)


def _lose_a_node(cluster: Cluster, process: subprocess.Popen[bytes]) -> tuple[str, str]:
    """Kill the first node on which a job of stage 2 runs; that node, and the job."""
    end = time.monotonic() + SOON
    while time.monotonic() < end and process.poll() is None:
        for node, rule in cluster.running():
            if "simulate" in rule:
                cluster.script("kill-node", node)
                return node, rule
        time.sleep(0.5)
    pytest.fail("no job of stage 2 was seen running")
