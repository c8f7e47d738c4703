"""Tables of any size: CPU time and memory of the jobs of stages 1 and 2.

`python benchmarks/tables.py 1000 4000 16000`, in the clone's folder with its environment. Each
table is a run of the workflow of its own on one core, results/table-<count>. With `--first 5` the
table is sampled whole and five of its jobs of stage 2 are run, as many for a million as for less.
"""

from __future__ import annotations

import argparse
import csv
import math
import subprocess
import sys
from pathlib import Path

import yaml

FAMILIES = ("straight", "bend_twist", "beading", "fanning", "combined")
TEMPLATE = {"rings": 1, "layers": 10, "radius_um": 2.0, "length_um": 12.0, "order": 1}
# Substrates of one job.
SHARD = 2000
TARGETS = ("simulate/signals.zarr", "figures/mesh.png", "figures/signals.png")


def run(count: int, first: int | None) -> Path:
    """Run stages 1 and 2 for a table, or its `first` shards; the folder of its benchmarks."""
    config = yaml.safe_load(Path("config/test/tiny.yaml").read_text())
    name = f"table-{count}"
    families = {family: count // len(FAMILIES) for family in FAMILIES}
    config["run"] = name
    config["mesh"] |= {"template": TEMPLATE, "families": families, "inputs": []}
    config["simulate"]["shards"] = -(-count // SHARD)
    results = Path("results") / name
    results.mkdir(parents=True, exist_ok=True)
    file = results / "config.yaml"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    shards = config["simulate"]["shards"]
    parts = [f"simulate/shards/{shard}-of-{shards}.zarr" for shard in range(first or 0)]
    targets = [str(results / target) for target in parts or TARGETS]
    options = ["--configfile", str(file), "--cores", "1", "--quiet", "all"]
    subprocess.run([sys.executable, "-m", "snakemake", *targets, *options], check=True)
    return results / "times"


def jobs(folder: Path) -> dict[str, list[tuple[float, float]]]:
    """CPU seconds and peak memory (MB) of each job, by rule."""
    found: dict[str, list[tuple[float, float]]] = {}
    for file in sorted(folder.glob("*/*.tsv")):
        with file.open() as rows:
            row = next(csv.DictReader(rows, delimiter="\t"))
        rule = file.stem.partition("-")[0]
        found.setdefault(rule, []).append((float(row["cpu_time"]), float(row["max_rss"])))
    return found


def main(counts: list[int], first: int | None) -> None:
    """Print the tables, and between two counts the exponent with which the CPU time grows."""
    before: tuple[int, float] | None = None
    for count in counts:
        rules = jobs(run(count, first))
        total = sum(cpu for each in rules.values() for cpu, _ in each)
        largest = max(memory for each in rules.values() for _, memory in each)
        print(f"\n{count:,} substrates: {total:.0f} CPU s", end="")
        print("" if first else f", {count / total:.0f} per CPU s", end="")
        print(f", largest job {largest:.0f} MB")
        for rule, each in sorted(rules.items()):
            cpu, memory = sum(c for c, _ in each), max(m for _, m in each)
            print(f"  {rule:20} {len(each):4} jobs {cpu:8.1f} CPU s {memory:6.0f} MB")
        if before is not None:
            growth = math.log(total / before[1]) / math.log(count / before[0])
            print(f"  CPU time grows with the exponent {growth:.2f}")
        before = count, total


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("counts", type=int, nargs="+", help="substrates of each table")
    parser.add_argument("--first", type=int, help="run so many jobs of stage 2 only")
    options = parser.parse_args()
    main(options.counts, options.first)
