"""Figures of the published experiment: every method's errors, noise, and the ablations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from experiments.remidi.estimates import GOALS, PUBLISHED, Score
from spinmesh.report.style import BLUE, FAMILY_COLOURS, GREY, INK, VERMILLION, picture

FAMILIES = ("bend_twist", "beading", "fanning")
METHODS = {
    "gauss_newton": "Gauss-Newton",
    "gauss_newton_autoencoder": "... autoencoder",
    "gauss_newton_pca": "... PCA",
    "from_truth": "... from the truth",
    "adamw": "AdamW",
    "network": "network on the signal",
    "nearest": "nearest signal",
    "mean_shape": "mean shape",
    "template": "template",
    "decoder": "decoder alone",
    "decoder_autoencoder": "... autoencoder",
    "decoder_pca": "... PCA",
}
ABLATIONS = {
    "bend_twist": "bend and twist",
    "beads": "beads",
    "fans": "fan angle",
    "directions": "directions",
    "times": "diffusion times",
}
# No error is drawn below this (um): a decoder's may be rounding.
LEAST = 1e-4


def plot_paper(scores: list[Score], path: str | Path) -> None:
    """Errors (um) by method for each family, and against the SNR."""
    with picture(path, 13, 9.5) as figure:
        grid = figure.subplots(2, 3, sharey="row", height_ratios=(2, 1))
        for axes, below, family in zip(*grid, FAMILIES, strict=True):
            own = [row for row in scores if row.family == family]
            _methods(axes, own, family)
            _noise(below, own, family)
        grid[0, 0].set_ylabel("modified Chamfer distance, aligned (um)")
        grid[1, 0].set_ylabel("error (um)")


def _methods(axes: Axes, scores: list[Score], family: str) -> None:
    columns = []
    for method in METHODS:
        own = [row for row in scores if row.method == method]
        levels = sorted({row.snr for row in own}, reverse=True)
        columns += [(method, snr, _errors(own, snr)) for snr in levels]
    rng = np.random.default_rng(0)
    for x, (_, snr, error) in enumerate(columns):
        colour = BLUE if np.isinf(snr) else VERMILLION
        axes.plot(
            x + rng.uniform(-0.25, 0.25, len(error)), error, ".", color=colour, ms=3, alpha=0.5
        )
        axes.plot([x - 0.35, x + 0.35], [np.median(error)] * 2, color=INK, lw=2)
    axes.axhline(PUBLISHED[family], color=GREY, ls="--", lw=1)
    for goal, colour in zip(GOALS[family], (BLUE, VERMILLION), strict=True):
        axes.axhline(goal, color=colour, ls=":", lw=1.2)
    names = [METHODS[m] if np.isinf(s) else f"{METHODS[m]}, SNR {s:g}" for m, s, _ in columns]
    axes.set_xticks(range(len(columns)), names, rotation=90, fontsize=8)
    axes.set_yscale("log")
    axes.set_title(family.replace("_", " + "))


def _errors(scores: list[Score], snr: float) -> np.ndarray:
    """Aligned distances at one SNR, um."""
    return np.maximum([row.aligned for row in scores if row.snr == snr], LEAST)


def _noise(axes: Axes, scores: list[Score], family: str) -> None:
    """Median and quartiles against the SNR; infinity is the last place."""
    own = [row for row in scores if row.method == "gauss_newton"]
    levels = sorted({row.snr for row in own})
    quartiles = [np.percentile(_errors(own, level), (25, 50, 75)) for level in levels]
    low, middle, high = np.array(quartiles).reshape(-1, 3).T
    place = range(len(levels))
    axes.fill_between(place, low, high, color=FAMILY_COLOURS[family], alpha=0.25, lw=0)
    axes.plot(place, middle, "o-", color=FAMILY_COLOURS[family])
    mean_shape = [row.aligned for row in scores if row.method == "mean_shape"]
    axes.axhline(float(np.median(mean_shape)), color=GREY, ls="--", lw=1, label="mean shape")
    names = ["no noise" if np.isinf(v) else f"{v:g}" for v in levels]
    axes.set_xticks(place, names)
    axes.set_yscale("log")
    axes.set_xlabel("SNR")
    axes.legend(loc="upper right")


def plot_ablations(scores: list[Score], path: str | Path) -> None:
    """Error (um) of every case of the ablations that were made."""
    found = {name: [r for r in scores if r.method == f"ablation_{name}"] for name in ABLATIONS}
    made = [name for name, rows in found.items() if rows]
    with picture(path, 3.2 * max(len(made), 2), 4.2) as figure:
        panels = figure.subplots(1, max(len(made), 1), squeeze=False, sharey=True)[0]
        for axes, name in zip(panels, made, strict=False):
            _ablation(axes, found[name])
            axes.set_title(ABLATIONS[name])
        panels[0].set_ylabel("modified Chamfer distance, aligned (um)")


def _ablation(axes: Axes, scores: list[Score]) -> None:
    labels = list(dict.fromkeys(row.label for row in scores))
    for family in dict.fromkeys(row.family for row in scores):
        rows = [row for row in scores if row.family == family]
        place = [labels.index(row.label) for row in rows]
        error = np.maximum([row.aligned for row in rows], LEAST)
        colour = FAMILY_COLOURS[family]
        axes.plot(place, error, "o-", color=colour, label=family.replace("_", " + "))
    axes.set_xticks(range(len(labels)), labels, rotation=60, ha="right", fontsize=8)
    axes.set_yscale("log")
    axes.legend()
