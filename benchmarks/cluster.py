"""Two Slurm nodes against one, and what Slurm and Snakemake add to a job of minutes.

`python benchmarks/cluster.py FOLDER [SUBSTRATES]`, in the clone, as root on Debian with the
extra `slurm`, alone on a machine of two cores: a private Slurm (tests/hpc/start_slurm.sh) with one
CPU a node. Shards of one table are simulated by one node, the other being drained, then by two.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import yaml

SCRIPT = Path("tests/hpc/start_slurm.sh")
SHARDS = 4
TEMPLATE = {"rings": 2, "layers": 20, "radius_um": 2.0, "length_um": 12.0, "order": 1}
BASIS = {"kind": "krylov", "tolerance": 1e-4}


def table(count: int) -> tuple[Path, Path]:
    """The results' folder, its shapes sampled on this machine, and the configuration's file."""
    config = yaml.safe_load(Path("config/test/tiny.yaml").read_text())
    config["run"] = "cluster"
    config["mesh"] |= {"template": TEMPLATE, "families": {"combined": count}, "inputs": []}
    config["simulate"] |= {"basis": BASIS, "shards": SHARDS}
    results = Path("results/cluster")
    results.mkdir(parents=True, exist_ok=True)
    file = results / "config.yaml"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    snakemake([f"{results}/mesh/substrates.zarr"], file, "--cores", "2")
    return results, file


def snakemake(targets: list[str], config: Path, *options: str) -> float:
    """Seconds that a run of the workflow takes."""
    command = [sys.executable, "-m", "snakemake", *targets, "--configfile", str(config), *options]
    begun = time.monotonic()
    subprocess.run([*command, "--quiet", "all"], check=True)
    return time.monotonic() - begun


def jobs(results: Path) -> list[float]:
    """Seconds that each shard's job took, by Snakemake's `benchmark:` files."""
    seconds = []
    for file in sorted(results.glob("times/simulate/simulate_shard-*.tsv")):
        with file.open() as rows:
            seconds.append(float(next(csv.DictReader(rows, delimiter="\t"))["s"]))
    return seconds


def main(folder: str, count: int) -> None:
    """Print a row for each number of nodes."""
    os.environ |= {"SLURMLAB_DIR": folder, "SLURMLAB_CPUS": "1"}
    os.environ["SLURM_CONF"] = f"{folder}/etc/slurm.conf"
    results, config = table(count)
    subprocess.run([SCRIPT, "start"], check=True)
    shards = [f"{results}/simulate/shards/{number}-of-{SHARDS}.zarr" for number in range(SHARDS)]
    walls = {}
    try:
        print("| nodes | wall s | shards' jobs, s | added to each job, s | efficiency |")
        print("| --- | --- | --- | --- | --- |")
        for nodes, state in ((1, ["state=drain", "reason=benchmark"]), (2, ["state=resume"])):
            subprocess.run(["scontrol", "update", "nodename=n2", *state], check=True)
            shutil.rmtree(results / "simulate", ignore_errors=True)
            walls[nodes] = snakemake(shards, config, "--workflow-profile", "profiles/slurm")
            seconds = jobs(results)
            added = (walls[nodes] * nodes - sum(seconds)) / SHARDS
            each = " ".join(f"{second:.0f}" for second in seconds)
            efficiency = walls[1] / (nodes * walls[nodes])
            print(f"| {nodes} | {walls[nodes]:.0f} | {each} | {added:.0f} | {efficiency:.3f} |")
    finally:
        subprocess.run([SCRIPT, "stop"], check=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 2000)
