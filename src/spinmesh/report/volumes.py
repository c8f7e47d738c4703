"""Figures of volumes: phantoms with a tensor fitted by dipy, posterior maps, their coverage."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy import ndarray
from torch import Tensor

from spinmesh.estimators import coverage
from spinmesh.maps import MapCalibration, PosteriorMaps, Voxels
from spinmesh.maps.model import SNR_BANDS
from spinmesh.phantom import Phantom
from spinmesh.report.style import COLOURS, INK, blank, picture
from spinmesh.units import b_to_s_per_mm2

# A tensor describes the signal up to about this b (ms/um^2); beyond it the kurtosis shows.
MOST = 1.6
# Measurements below this (ms/um^2) are unweighted.
LEAST = 0.05
# Voxels with this part of tissue are fitted; the rest is mostly noise.
TISSUE = 0.5


def plot_phantom(phantom: Phantom, path: str | Path) -> Figure:
    """An unweighted and a weighted image, FA, MD and coloured directions of the middle slice."""
    section = phantom.series.shape[2] // 2
    fa, md, direction = tensor_maps(phantom, section)
    b = phantom.acquisition.b_value.numpy()
    series = phantom.series[:, :, section].numpy()
    strongest = int(b.argmax())
    plain = series[..., b <= LEAST].mean(-1) if (b <= LEAST).any() else series[..., b.argmin()]
    panels: list[tuple[str, ndarray, float | None]] = [
        ("Unweighted", plain, None),
        (f"b = {b_to_s_per_mm2(b[strongest]):.0f} s/mm²", series[..., strongest], None),
        ("FA", fa, 1.0),
        ("MD (µm²/ms)", md, 3.2),
        ("Direction, FA-weighted", np.abs(direction) * fa[..., None], 1.0),
    ]
    with picture(path, 3.1 * len(panels), 3.4) as figure:
        for axes, (title, values, top) in zip(figure.subplots(1, len(panels)), panels, strict=True):
            _draw(figure, axes, phantom, values, top)
            axes.set_title(title)
    return figure


def tensor_maps(phantom: Phantom, section: int) -> tuple[ndarray, ndarray, ndarray]:
    """FA, MD (um^2/ms) and principal direction (world axes) of one slice; zero outside tissue.

    Weighted least squares (dipy) on the measurements up to b = 1.6 ms/um^2 of one timing, that with
    most of them: unweighted signals of different echo times differ by T2.
    """
    from dipy.core.gradients import gradient_table
    from dipy.reconst.dti import TensorModel

    acquisition = phantom.acquisition
    low = acquisition.b_value <= MOST
    chosen = (low & (acquisition.timing == acquisition.timing[low].mode().values)).numpy()
    table = gradient_table(
        b_to_s_per_mm2(acquisition.b_value.numpy()[chosen]),
        bvecs=acquisition.direction.numpy()[chosen],
        b0_threshold=b_to_s_per_mm2(LEAST),
    )
    tissue = (phantom.field.fractions[:, :, section].sum(-1) >= TISSUE).numpy()
    series = phantom.series[:, :, section].numpy()[..., chosen]
    fit = TensorModel(table, fit_method="WLS").fit(series[tissue])
    fa, md, direction = np.zeros(tissue.shape), np.zeros(tissue.shape), np.zeros((*tissue.shape, 3))
    fa[tissue], md[tissue] = fit.fa, 1e3 * fit.md
    direction[tissue] = fit.evecs[..., 0]
    return fa, md, direction


def phantom_maps(phantom: Phantom) -> dict[str, ndarray]:
    """Maps of the whole volume by their words: images, FA and MD, and what the voxels hold."""
    b, series = phantom.acquisition.b_value, phantom.series
    slices = [tensor_maps(phantom, section) for section in range(series.shape[2])]
    fa, md = (np.stack([each[k] for each in slices], 2) for k in (0, 1))
    maps = {"unweighted": series[..., b <= max(LEAST, float(b.min()))].mean(-1).numpy()}
    maps |= {
        f"b = {b_to_s_per_mm2(float(b.max())):.0f} s/mm²": series[..., int(b.argmax())].numpy()
    }
    maps |= {"FA": fa, "MD (µm²/ms)": md}
    fractions = phantom.field.fractions.numpy()
    parts = {f"fraction of {m}": fractions[..., k] for k, m in enumerate(phantom.field.materials)}
    return maps | parts


def _draw(figure: Figure, axes: Axes, phantom: Phantom, values: ndarray, top: float | None) -> None:
    """One slice with right on the right and front up, whatever the grid's orientation."""
    linear = phantom.field.affine[:3, :3].numpy()
    x, y = (1 if linear[axis, axis] > 0 else -1 for axis in (0, 1))
    shown = np.swapaxes(values[::x, ::y], 0, 1).clip(0, top)
    height = abs(linear[1, 1] / linear[0, 0])
    image = blank(axes).imshow(shown, origin="lower", cmap="gray", vmin=0, vmax=top, aspect=height)
    if shown.ndim == 2:
        figure.colorbar(image, ax=axes, shrink=0.75, pad=0.02)


def plot_calibration(calibration: MapCalibration, path: str | Path) -> Figure:
    """Coverage of central intervals of every quantity, for each band of SNR."""
    levels = np.linspace(0.05, 0.95, 19).tolist()
    with picture(path, 4.2 * len(SNR_BANDS), 4.2) as figure:
        for axes, (low, high) in zip(figure.subplots(1, len(SNR_BANDS)), SNR_BANDS, strict=True):
            inside = (calibration.snr >= low) & (calibration.snr < high)
            names = [name.replace("_", " ") for name in calibration.names]
            _draw_coverage(axes, levels, coverage(calibration.rank[inside], levels), names)
            axes.set_title(f"SNR {low:g} to {high:g}, {int(inside.sum())} substrates")
    return figure


def plot_maps(maps: PosteriorMaps, truth: Voxels, path: str | Path) -> Figure:
    """For each quantity the truth of a slice, the median and the shrinkage; then the flags.

    Voxels of the truth are in the order of the image's indices.
    """
    answers, section = maps.answers, maps.grid.shape[:2]
    place = tuple(maps.voxel[:, :2].T.numpy())
    ratio = section[1] / section[0]

    def image(values: ndarray) -> ndarray:
        whole = np.full(section, np.nan)
        whole[place] = values
        return whole.T

    with picture(path, 2.3 * (len(maps.names) + 1), 3 * 2.3 * ratio + 1.2) as figure:
        panels = figure.subplots(3, len(maps.names) + 1)
        for column, (name, unit) in enumerate(zip(maps.names, maps.units, strict=True)):
            true = truth.quantities[:, column].reshape(section).T.numpy()
            low, high = np.nanmin(true), np.nanmax(true)
            rows = [true, image(answers.median[:, column].numpy())]
            rows.append(image(answers.shrinkage[:, column].numpy()))
            words = [
                f"{name.replace('_', ' ')} ({unit})".replace(" (1)", ""),
                "median",
                "shrinkage",
            ]
            for axes, values, word in zip(panels[:, column], rows, words, strict=True):
                limits = (0.0, 1.0) if word == "shrinkage" else (low, high)
                shown = blank(axes).imshow(
                    values, origin="lower", cmap="viridis", vmin=limits[0], vmax=limits[1]
                )
                figure.colorbar(shown, ax=axes, shrink=0.7, pad=0.02)
                axes.set_title(word, fontsize=9)
        flags = blank(panels[1, -1]).imshow(image(answers.flags.numpy()), origin="lower", vmin=0)
        figure.colorbar(flags, ax=panels[1, -1], shrink=0.7, pad=0.02)
        panels[1, -1].set_title("flags", fontsize=9)
        blank(panels[0, -1])
        blank(panels[2, -1])
    return figure


def _draw_coverage(
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
