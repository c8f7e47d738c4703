"""`spinmesh plan`: what a run will take on a cluster, from what earlier runs took."""

from __future__ import annotations

import csv
import heapq
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from spinmesh.cli.measured import tell
from spinmesh.errors import ConfigError

JOB = re.compile(r'^\s*(\d+)\[label = "([^"\\]+)', re.MULTILINE)
EDGE = re.compile(r"^\s*(\d+) -> (\d+)", re.MULTILINE)
RECORDED = (
    "Folders results/<run> of earlier runs; two of different size tell what a substrate takes."
)
OVERHEAD = "Seconds from a job's turn to its start, which a scheduler takes."


@dataclass(frozen=True)
class Line:
    """A quantity that grows with the items of a job: start + slope * items."""

    start: float
    slope: float

    @classmethod
    def through(cls, items: list[float], values: list[float]) -> Line:
        """Least squares with weights 1/value; through equal items the largest value, level."""
        import numpy as np

        if len(set(items)) == 1:
            return cls(max(values), 0.0)
        weight = 1 / np.maximum(values, 1e-9)
        slope, start = np.polyfit(items, values, 1, w=weight).tolist()
        return cls(start, slope) if slope > 0 else cls(max(values), 0.0)

    def at(self, items: int | float) -> float:
        """The value for a job of so many items."""
        return max(self.start + self.slope * items, 0.0)


@dataclass(frozen=True)
class Recorded:
    """Of each rule, what one of its jobs takes by the substrates that it is for; bytes of a run."""

    seconds: Mapping[str, Line]
    megabytes: Mapping[str, Line]
    written: Line

    @classmethod
    def of(cls, folders: list[Path]) -> Recorded:
        """From the tables that Snakemake's `benchmark:` wrote in each run's `times`."""
        items, seconds, memory = (defaultdict[str, list[float]](list) for _ in range(3))
        sizes, written = [], []
        for folder in folders:
            count, files = substrates_of(folder), sorted((folder / "times").glob("*/*.tsv"))
            jobs = Counter(file.stem.partition("-")[0] for file in files)
            for file in files:
                rule = file.stem.partition("-")[0]
                with file.open() as rows:
                    row = next(csv.DictReader(rows, delimiter="\t"))
                items[rule].append(count / jobs[rule])
                seconds[rule].append(float(row["s"]))
                memory[rule].append(float(row["max_rss"]))
            sizes.append(float(count))
            written.append(float(sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())))
        return cls(
            {rule: Line.through(items[rule], values) for rule, values in seconds.items()},
            {rule: Line.through(items[rule], values) for rule, values in memory.items()},
            Line.through(sizes, written),
        )


def substrates_of(folder: Path) -> int:
    """How many substrates the table of a run has; ConfigError if there is none."""
    group = folder / "mesh/substrates.zarr/zarr.json"
    if not group.is_file() or not (folder / "times").is_dir():
        raise ConfigError(f"{folder}: no finished run is there. Give the folder results/<run>.")
    arrays = json.loads(group.read_text())["consolidated_metadata"]["metadata"]
    return int(arrays["parameters"]["shape"][0])


@dataclass(frozen=True)
class Schedule:
    """When jobs end, on so many cores, and the chain of jobs that the end had to wait for."""

    seconds: float
    chain: list[tuple[str, float]]  # rule, and seconds since the end of the one before


def scheduled(
    rules: Mapping[int, str], edges: list[tuple[int, int]], taken: Mapping[str, float], cores: int
) -> Schedule:
    """Each job on the first free core once all that it reads is there; longest way ahead first."""
    before: dict[int, list[int]] = {job: [] for job in rules}
    after: dict[int, list[int]] = {job: [] for job in rules}
    for source, reader in edges:
        before[reader].append(source)
        after[source].append(reader)
    waiting = {job: len(sources) for job, sources in before.items()}
    order = [job for job, count in waiting.items() if count == 0]
    left = dict(waiting)
    for job in order:  # grows while it is read: sources first
        for reader in after[job]:
            left[reader] -= 1
            order += [reader] if left[reader] == 0 else []
    ahead: dict[int, float] = {}
    for job in reversed(order):
        ahead[job] = taken[rules[job]] + max((ahead[reader] for reader in after[job]), default=0.0)
    ready = [(-ahead[job], job) for job in rules if waiting[job] == 0]
    heapq.heapify(ready)
    free, now, last = cores, 0.0, -1
    running: list[tuple[float, int]] = []
    waited_for, ends = dict[int, int](), dict[int, float]()
    while ready or running:
        while ready and free:
            _, job = heapq.heappop(ready)
            # The job whose end made this one ready, or its core free.
            waited_for[job] = last
            heapq.heappush(running, (now + taken[rules[job]], job))
            free -= 1
        now, last = heapq.heappop(running)
        ends[last], free = now, free + 1
        for reader in after[last]:
            waiting[reader] -= 1
            if waiting[reader] == 0:
                heapq.heappush(ready, (-ahead[reader], reader))
    chain, job = list[tuple[str, float]](), last
    while job >= 0:
        chain.append((rules[job], ends[job] - ends.get(waited_for[job], 0.0)))
        job = waited_for[job]
    return Schedule(now, chain[::-1])


def plan(
    config: Annotated[Path, typer.Argument(help="Configuration of the run.")],
    recorded: Annotated[list[Path], typer.Argument(help=RECORDED)],
    nodes: Annotated[int, typer.Option(help="Nodes of the cluster.")] = 1,
    cores: Annotated[int, typer.Option(help="Cores of a node, one a job.")] = 16,
    overhead: Annotated[float, typer.Option(help=OVERHEAD)] = 20.0,
) -> None:
    """Plan a run, as in `snakemake --dag --forceall | spinmesh plan CONFIG RESULTS...`.

    Prints its jobs, core-hours, memory, bytes and time, and what the end waits for.
    """
    from spinmesh.settings import load_config

    text = sys.stdin.read()
    rules = {int(number): rule for number, rule in JOB.findall(text)}
    edges = [(int(source), int(reader)) for source, reader in EDGE.findall(text)]
    if not rules:
        raise ConfigError("plan: no jobs in what was piped in. Pipe `snakemake --dag --forceall`.")
    past = Recorded.of(recorded)
    substrates = sum(load_config(config).mesh.families.values())
    # A target is no job: nothing reads it, and no run of it was ever timed.
    read = {source for source, _ in edges}
    rules = {job: rule for job, rule in rules.items() if job in read or rule in past.seconds}
    counts = Counter(rules.values())
    if unknown := sorted(counts.keys() - past.seconds.keys()):
        raise ConfigError(f"plan: no run has recorded {', '.join(unknown)}. Give one that has.")
    seconds = {rule: past.seconds[rule].at(substrates / n) for rule, n in counts.items()}
    taken = {rule: each + overhead for rule, each in seconds.items()}
    inner = [(source, reader) for source, reader in edges if reader in rules]
    result = scheduled(rules, inner, taken, nodes * cores)
    rows = {
        rule: {
            "jobs": count,
            "minutes": seconds[rule] / 60,
            "core_hours": count * seconds[rule] / 3600,
            "memory_gb": past.megabytes[rule].at(substrates / count) / 1000,
        }
        for rule, count in sorted(counts.items())
    }
    chain = defaultdict[str, float](float)
    for rule, spent in result.chain:
        chain[rule] += spent
    whole = {
        "jobs": len(rules),
        "core_hours": sum(row["core_hours"] for row in rows.values()),
        "gigabytes": past.written.at(substrates) / 1e9,
        "minutes": result.seconds / 60,
        "waited_for_minutes": {rule: spent / 60 for rule, spent in chain.items()},
    }
    tell(
        _words(rows, whole, f"{nodes} nodes of {cores} cores, {overhead:g} s"), rules=rows, **whole
    )


def _words(rows: Mapping[str, Mapping[str, Any]], whole: Mapping[str, Any], cluster: str) -> str:
    """A table of the rules, and below it the whole run."""
    lines = [
        "| rule | jobs | minutes a job | core-hours | memory a job, GB |",
        "| --- | --- | --- | --- | --- |",
    ]
    for rule, row in rows.items():
        cells = "{jobs:,} | {minutes:.1f} | {core_hours:.2f} | {memory_gb:.1f}".format(**row)
        lines.append(f"| {rule} | {cells} |")
    waits: Mapping[str, float] = whole["waited_for_minutes"]
    slowest = max(waits, key=waits.__getitem__)
    listed = ", ".join(f"{rule} {spent:.1f} min" for rule, spent in waits.items())
    lines += [
        "\n{jobs:,} jobs, {core_hours:.1f} core-hours, {gigabytes:.2f} GB written; "
        "{minutes:.0f} minutes on ".format(**whole)
        + f"{cluster} a job for its scheduler.",
        f"Bottleneck: {slowest}, {waits[slowest] / whole['minutes']:.0%} of the time. "
        f"The end waited for {listed}.",
    ]
    return "\n".join(lines)
