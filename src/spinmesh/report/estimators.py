"""Figures of estimators: how often they are right, and whether they know it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from spinmesh.estimators import ClassScores
from spinmesh.estimators.ablation import FULL
from spinmesh.report.style import BLUE, COLOURS, GREY, INK, ORANGE, picture
from spinmesh.sounds import Recording, at_rate
from spinmesh.sounds.features import SHORT, decibels, power


def plot_class_scores(scores: Mapping[str, ClassScores], path: str | Path) -> None:
    """For each method its confusion matrix above its reliability diagram."""
    count = len(scores)
    with picture(path, 3.4 * count, 6.4) as figure:
        panels = figure.subplots(2, count, squeeze=False)
        for (confusion, reliability), (method, each) in zip(panels.T, scores.items(), strict=True):
            draw_confusion(confusion, each)
            confusion.set_title(f"{method}: macro-F1 {each.macro_f1:.2f}")
            draw_reliability(reliability, each)


def draw_confusion(axes: Axes, scores: ClassScores) -> None:
    """Rows are the true classes; colours are fractions of a row, numbers are examples."""
    counts = scores.confusion.double()
    shares = counts / counts.sum(1, keepdim=True).clamp_min(1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.grid(False)
    for true, predicted in np.ndindex(*shares.shape):
        colour = "white" if shares[true, predicted] > 0.5 else INK
        number = str(int(counts[true, predicted]))
        axes.text(predicted, true, number, ha="center", va="center", color=colour, fontsize=8)
    numbers = range(len(scores.classes))
    axes.set_xticks(numbers, scores.classes, rotation=30, ha="right")
    axes.set_yticks(numbers, scores.classes)
    axes.set(xlabel="predicted", ylabel="true")


def draw_reliability(axes: Axes, scores: ClassScores) -> None:
    """Accuracy against confidence, in bins; bars show how many examples a bin holds."""
    confidence, accuracy, share = scores.reliability.unbind(1)
    edges = np.linspace(0, 1, len(share) + 1)
    axes.stairs(share, edges, fill=True, color=GREY, alpha=0.3, label="share of the examples")
    axes.plot([0, 1], [0, 1], color=INK, lw=1, ls="--", label="calibrated")
    held = share > 0
    axes.plot(confidence[held], accuracy[held], "o-", color=BLUE, label="measured")
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy")
    axes.set_title(f"calibration error {scores.ece:.3f}")
    axes.legend(loc="upper left")


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


def draw_coverage(
    axes: Axes,
    levels: Sequence[float],
    covered: Float[Tensor, "level quantity"],
    quantities: Sequence[str],
) -> None:
    """How often central intervals hold the truth, against how often they should."""
    axes.plot([0, 1], [0, 1], color=INK, lw=1, ls="--")
    for name, column, colour in zip(quantities, covered.T, cycle(COLOURS), strict=False):
        axes.plot(levels, column, "o-", color=colour, ms=3, label=name)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="interval", ylabel="truths inside")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0))
    axes.legend()


def plot_sounds(recordings: Iterable[Recording], path: str | Path) -> None:
    """A spectrogram of one recording of each diagnosis, with what was heard in its cycles.

    Of each, the recording in which most was heard.
    """
    loudest: dict[str, Recording] = {}
    for recording in recordings:
        diagnosis = recording.diagnosis or "no diagnosis"
        if diagnosis not in loudest or _heard(recording) > _heard(loudest[diagnosis]):
            loudest[diagnosis] = recording
    with picture(path, 11.0, 1.9 * len(loudest) + 0.5) as figure:
        panels = figure.subplots(len(loudest), 1, squeeze=False)[:, 0]
        for axes, (diagnosis, recording) in zip(panels, sorted(loudest.items()), strict=True):
            draw_spectrogram(axes, recording)
            axes.set_title(f"{diagnosis}: {recording.name}")
        panels[-1].set_xlabel("s")


def _heard(recording: Recording) -> int:
    return sum(each.crackles + each.wheezes for each in recording.cycles)


def draw_spectrogram(axes: Axes, recording: Recording) -> None:
    """Short-time spectrum (dB) to 2 kHz; the cycles' ends as lines, their labels above."""
    sound = at_rate(recording)
    levels = decibels(power(sound.samples, SHORT))
    extent = (0.0, sound.seconds, 0.0, sound.rate / 2)
    axes.imshow(
        levels, origin="lower", aspect="auto", extent=extent, cmap="magma",
        vmin=levels.max() - 60, interpolation="nearest",
    )  # fmt: skip
    axes.set(ylabel="Hz", xlim=extent[:2])
    axes.grid(False)
    for each in recording.cycles:
        axes.axvline(each.start, color="white", lw=0.8, ls=":")
        axes.axvline(each.end, color="white", lw=0.8, ls=":")
        middle = (each.start + each.end) / 2
        axes.text(middle, 1750, each.label, color="white", ha="center", fontsize=8)


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
