"""The screen of a run: its stages, the jobs at work, and how far it is."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from snakemake_logger_plugin_spinmesh.jobs import Run, clock

# Rows of jobs at work.
MOST_JOBS = 8
WIDTH = 30


def drawn(run: Run, log: str) -> RenderableType:
    """All of it, in the colours that a terminal has."""
    done, left = run.work()
    count, total = run.count()
    share = done / (done + left) if done + left > 0 else 0.0
    whole = Table.grid(padding=(0, 1))
    words = f"{100 * share:.0f} %  {clock(run.passed)} passed{run.to_go()}"
    whole.add_row(f"{count} of {total} jobs", ProgressBar(1.0, share, WIDTH), words)
    return Group(_stages(run), _jobs(run), whole, Text(f"the whole log: {log}", "dim"))


def _stages(run: Run) -> Table:
    table = Table.grid(padding=(0, 1))
    for stage, (done, total) in run.by_stage().items():
        style = "green" if done == total else ""
        table.add_row(Text(stage, style), ProgressBar(total, done, WIDTH), f"{done}/{total}")
    return table


def _jobs(run: Run) -> Table:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    jobs = [job for job in list(run.running.values()) if run.counts(job)]
    for job in jobs[:MOST_JOBS]:
        table.add_row(f"> {job.name}", clock(job.passed), Text(job.progress(), "cyan"))
    if len(jobs) > MOST_JOBS:
        table.add_row(f"  and {len(jobs) - MOST_JOBS} more")
    return table
