"""Figures of estimators: how often they are right, and whether they know it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from spinmesh.estimators import ClassScores
from spinmesh.report.style import BLUE, GREY, INK, picture
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
