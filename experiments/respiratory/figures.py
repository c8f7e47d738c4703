"""Figures of what bits cost, and of how a random split flatters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from experiments.respiratory.ablation import FULL
from spinmesh.report.style import BLUE, COLOURS, GREY, ORANGE, picture


def plot_splits(rows: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Macro-F1 of each method by patient and at random, from the rows of a summary."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    splits = {"patient": ("by patient", BLUE), "random": ("at random", ORANGE)}
    with picture(path, 7.0, 4.0) as figure:
        axes = figure.subplots()
        for number, (split, (words, colour)) in enumerate(splits.items()):
            chosen = {row["method"]: row for row in rows if row["split"] == split}
            places = np.arange(len(methods)) + 0.4 * number - 0.2
            heights = [chosen[method]["f1"] for method in methods]
            spread = [chosen[method]["f1_deviation"] for method in methods]
            bars = axes.bar(places, heights, 0.38, yerr=spread, color=colour, label=words)
            axes.bar_label(bars, fmt="%.2f", fontsize=8)
        axes.set_xticks(range(len(methods)), methods)
        axes.set(ylim=(0, 1), ylabel="macro-F1")
        axes.legend()


def plot_ablation(rows: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Accuracy against bits, a panel for each task: rows are those of `Ablation.rows`."""
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    with picture(path, 5.2 * len(tasks) + 3, 5.0) as figure:
        for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
            _draw_ablation(axes, [row for row in rows if row["task"] == task])
            axes.set_title(task)
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))


def _draw_ablation(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    full, few = ([r for r in rows if (r["bits"] == FULL) is whole] for whole in (True, False))
    for row, dashes in zip(full, ("--", ":", "-.", (0, (1, 4))), strict=True):
        label = f"full precision: {row['method']}"
        axes.axhline(row["accuracy"], color=GREY, lw=1, ls=dashes, label=label)
    widths = sorted({row["bits"] for row in few}, reverse=True)
    methods = list(dict.fromkeys(row["method"] for row in few))
    kinds = list(dict.fromkeys(method.partition(",")[0] for method in methods))
    for number, method in enumerate(methods):
        points = {row["bits"]: row for row in few if row["method"] == method}
        # Side by side, so that bars do not hide each other.
        x = [widths.index(bits) + 0.05 * (number - len(methods) / 2) for bits in points]
        y = [row["accuracy"] for row in points.values()]
        bars = [row["accuracy_std"] for row in points.values()]
        colour = COLOURS[kinds.index(method.partition(",")[0]) % len(COLOURS)]
        dashes = "--" if "uniform" in method else "-"
        axes.errorbar(x, y, bars, marker="o", ms=4, ls=dashes, color=colour, label=method)
    axes.set_xticks(range(len(widths)), [str(bits) for bits in widths])
    # What is far below, such as the majority class, is in the table and would flatten all others.
    lowest = min(row["accuracy"] for row in few)
    axes.set(ylim=(max(lowest - 10, 0), 101), xlabel="bits", ylabel="accuracy on test examples (%)")
