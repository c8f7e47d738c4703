"""What a run that failed has of its inputs, and why the rest is not there."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from spinmesh.io.tables import write_input_table
from spinmesh.io.text import text_of

JOBS = {"mesh": "mesh_input", "figure": "draw_input", "signals": "simulate_input"}


def show_what_is_there(
    files: Mapping[str, Sequence[str]],
    patterns: Mapping[str, str],
    logs: str,
    table: str,
) -> str:
    """Write the table of the inputs that a run with failures has, and say so.

    `files` are those of each input by its name. `patterns` are the places of `mesh`, `signals` and
    `figure`, with `{input}` for the name, and `logs` is the folder of the jobs' logs. The table is
    dated before all that it shows, so that the next run makes it anew. Nothing is written, and the
    answer is empty, where nothing failed.
    """
    failed = {name: _reason(name, patterns, logs) for name in files}
    if not any(failed.values()):
        return ""
    places = {
        part: [pattern.format(input=name) for name in files] for part, pattern in patterns.items()
    }
    write_input_table(places["mesh"], places["signals"], list(files.values()), table, failed)
    os.utime(table, (0, 0))
    reasons = [f"  {name}: {reason}" for name, reason in failed.items() if reason]
    head = (
        f"{len(reasons)} of {len(files)} inputs are not complete; {table} has the rest, and "
        f"`spinmesh view {Path(table).parent}` shows it"
    )
    return "\n".join([head, *reasons])


def _reason(name: str, patterns: Mapping[str, str], logs: str) -> str:
    """Why a part of an input is absent, by the log of the first job that failed; else empty."""
    for part, job in JOBS.items():
        if not Path(patterns[part].format(input=name)).exists():
            shares = sorted(Path(logs).glob(f"simulate_share-{name}-[0-9]*-[0-9]*.log"))
            own = [Path(logs) / f"{job}-{name}.log", *(shares if part == "signals" else [])]
            lines = [line for log in own if log.exists() for line in text_of(log).splitlines()]
            errors = [
                line for line in lines if re.match(r"\w+(\.\w+)*(Error|Exit|Exception)\b", line)
            ]
            return re.sub(r"^(\w+\.)+", "", [f"{job} was not run", *errors][-1])
    return ""
