"""Figure of stage 2: attenuation against b, coloured by the angle between gradient and axon."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from torch import Tensor

from spinmesh.bloch_torrey import Signals
from spinmesh.inversion import Target
from spinmesh.mesh import Substrates
from spinmesh.report.meshes import most_deformed
from spinmesh.report.style import INK, VERMILLION, picture
from spinmesh.sequence import Acquisition

# At most so many rows of panels; the shortest and the longest timings are kept.
ROWS = 4
# Families shown if they are there; few panels are read, many are not.
SHOWN = ("straight", "beading", "fanning")
# Attenuations below this are under every scanner's noise.
LOWEST = 1e-3


def shown(substrates: Substrates) -> dict[int, str]:
    """Places in the table of those substrates whose signals are drawn, with their titles."""
    families = [f for f in SHOWN if f in substrates.family] or list(substrates.family[:1])
    places = {most_deformed(substrates, family): family for family in families}
    return {i: f"{family.replace('_', ' + ')} (no. {i})" for i, family in places.items()}


def plot_signals(
    signals: Signals, titles: Iterable[str], target: Target, path: str | Path
) -> Figure:
    """Log attenuation against b, a row per timing: titled substrates, and the noisy target."""
    columns: list[tuple[str, Acquisition, Tensor, float]] = [
        (title, signals.acquisition, attenuation, 0.0)
        for title, attenuation in zip(titles, signals.attenuation, strict=True)
    ]
    columns.append(("target, as measured", target.acquisition, target.attenuation, target.sigma))
    timings = timings_of([acquisition for _, acquisition, _, _ in columns])
    with picture(path, 2.75 * len(columns) + 1.2, 2.9 * len(timings) + 0.6) as figure:
        grid = figure.subplots(len(timings), len(columns), sharey=True, sharex="row", squeeze=False)
        for row, timing in zip(grid, timings, strict=True):
            for axes, (_, acquisition, attenuation, sigma) in zip(row, columns, strict=True):
                dots = _draw(axes, acquisition, attenuation, sigma, timing)
            row[0].set_ylabel(f"{timing}\nattenuation |S| / S(0)")
        for axes, (title, *_) in zip(grid[0], columns, strict=True):
            axes.set_title(title)
        for axes in grid[-1]:
            axes.set_xlabel("b (ms/µm² = 1000 s/mm²)")
        low = min(min(float(values.min()), sigma or 1) for _, _, values, sigma in columns)
        grid[0, 0].set(yscale="log", ylim=(max(LOWEST, 0.6 * low), 1.3))
        grid[0, 0].legend(loc="lower left")
        label = "angle between gradient and axis z (°)"
        figure.colorbar(dots, ax=grid, label=label, pad=0.01, ticks=range(0, 91, 15))
    return figure


def timings_of(acquisitions: list[Acquisition]) -> list[str]:
    """Labels of the different timings, by echo time, thinned out to `ROWS`."""
    echo = {s.label: s.echo_time for a in acquisitions for s in a.sequences}
    every = sorted(echo, key=echo.__getitem__)
    rows = np.linspace(0, len(every) - 1, min(ROWS, len(every))).round().astype(int)
    return [every[i] for i in rows]


def _draw(
    axes: Axes, acquisition: Acquisition, attenuation: Tensor, sigma: float, timing: str
) -> PathCollection:
    """One panel: a dot per measurement and the mean over directions at each b."""
    shown = np.array([sequence.label == timing for sequence in acquisition.sequences])
    here = shown[acquisition.timing.numpy()]
    b, value = acquisition.b_value.numpy()[here], attenuation.numpy()[here]
    cosine = np.abs(acquisition.direction.numpy()[here, 2]).clip(0, 1)
    # Without a gradient there is no angle.
    angle = np.where(b > 0, np.degrees(np.arccos(cosine)), np.nan)
    levels = np.unique(b.round(2))
    mean = [value[b.round(2) == level].mean() for level in levels]
    axes.plot(levels, mean, color=INK, lw=1.8, zorder=1.5, label="mean over directions")
    dots = axes.scatter(
        b, value, c=angle, s=22, cmap="viridis", vmin=0, vmax=90, edgecolor="white", linewidth=0.3,
        zorder=2, plotnonfinite=True,
    )  # fmt: skip
    if sigma > 0:
        floor = float(np.sqrt(np.pi / 2)) * sigma
        axes.axhline(floor, color=VERMILLION, ls="--", lw=1.2)
        axes.axhspan(1e-12, floor, color=VERMILLION, alpha=0.07, lw=0)
        words, beside = f"Rician floor, SNR {1 / sigma:.3g}", axes.get_yaxis_transform()
        axes.text(0.03, floor, words, transform=beside, va="top", fontsize=8, color=VERMILLION)
    axes.set_xlim(left=0)
    return dots
