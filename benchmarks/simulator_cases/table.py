"""One row per measured thing, printed as it comes and written as csv and Markdown."""

from __future__ import annotations

import csv
import datetime
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path

from spinmesh.provenance import revision

# Work shorter than this (s) is repeated and the least CPU time kept: the machine may be shared.
WORTH_REPEATING = 4.0
REPEATS = 3
PACKAGES = ("torch", "numpy", "scipy")


@dataclass(frozen=True)
class Settings:
    """What the command line asks of every case; `folder` is where figures go, if anywhere."""

    quick: bool = False
    device: str = "cpu"
    folder: Path | None = None


@dataclass(frozen=True)
class Row:
    """A measurement beside its target; `met` is None where there is no target to meet."""

    case: str
    what: str
    error: float | None = None  # of the signal, as a fraction of the unweighted one
    cpu_s: float | None = None
    target: str = ""
    met: bool | None = None
    note: str = ""


def cpu_seconds(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Least CPU time (s) of this process over some runs; long work runs once."""
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
        if best > WORTH_REPEATING:
            break
    return best


def _cells(row: Row) -> dict[str, str]:
    words = {None: "", True: "yes", False: "no"}
    return {
        **{name: str(value) for name, value in asdict(row).items()},
        "error": "" if row.error is None else f"{row.error:.1e}",
        "cpu_s": "" if row.cpu_s is None else f"{row.cpu_s:.3g}",
        "met": words[row.met],
    }


def printed(row: Row) -> str:
    """One line for the terminal."""
    cell = _cells(row)
    error = f"error {cell['error']}" if cell["error"] else ""
    seconds = f"{cell['cpu_s']} s" if cell["cpu_s"] else ""
    target = f"target {cell['target']}: {cell['met'] or 'not judged'}" if cell["target"] else ""
    rest = "; ".join(part for part in (target, cell["note"]) if part)
    return f"  {cell['what']:<64} {error:<14} {seconds:>8}   {rest}".rstrip()


def machine() -> str:
    """Processor, versions, commit and date: what a number has to be read with."""
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{_processor()}, one thread; Python {platform.python_version()}, {versions}; "
        f"commit {revision()}; {datetime.datetime.now(datetime.UTC):%Y-%m-%d}"
    )


def _processor() -> str:
    """Its name as Linux tells it; elsewhere what Python knows."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def write(rows: Sequence[Row], folder: Path) -> None:
    """simulator.csv (the machine in its last column) and simulator.md."""
    names, where = [field.name for field in fields(Row)], machine()
    with open(folder / "simulator.csv", "w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow([*names, "machine"])
        table.writerows([*(_cells(row)[name] for name in names), where] for row in rows)
    lines = [
        "# The simulator against its targets",
        "",
        f"Made by `python benchmarks/simulator.py` on {where}.",
        "Errors are fractions of the unweighted signal; times are CPU seconds of one thread.",
        "",
        "| " + " | ".join(names) + " |",
        "|" + " --- |" * len(names),
        *("| " + " | ".join(_cells(row)[name] for name in names) + " |" for row in rows),
    ]
    (folder / "simulator.md").write_text("\n".join(lines) + "\n")
