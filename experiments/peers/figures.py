"""What accuracy costs, for each way to a signal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spinmesh.report.style import COLOURS, picture


def plot_peers(rows: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Largest error against CPU seconds, a panel for each body: rows are those of `compared`."""
    bodies = list(dict.fromkeys(row["body"] for row in rows))
    ways = list(dict.fromkeys(row["way"] for row in rows))
    with picture(path, 5.0 * len(bodies), 4.2) as figure:
        for axes, body in zip(
            figure.subplots(1, len(bodies), squeeze=False)[0], bodies, strict=True
        ):
            for way, colour in zip(ways, COLOURS, strict=False):
                some = [row for row in rows if row["body"] == body and row["way"] == way]
                times, errors = ([row[key] for row in some] for key in ("cpu_s", "largest_error"))
                axes.loglog(times, errors, "o-", color=colour, label=way)
            axes.set(xlabel="CPU s for all signals", ylabel="largest error of S/S0", title=body)
        axes.legend()
