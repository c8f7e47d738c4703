"""Figures of stage 4: images side by side, spectra, the loss, every number with its floor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from torch import Tensor

from spinmesh.bundles import ImageSet
from spinmesh.images import Draws, Synthesis
from spinmesh.report.style import BLUE, GREEN, GREY, INK, VERMILLION, blank, picture, scale_bar
from spinmesh.scores import ScoreModel

SIDE = 5  # images along each side of a grid
MOST = 64  # images of a gallery, at most
GAP = 2  # pixels between them
# Myelin-dark rims would need a third phase; two phases get two calm colours.
TISSUE = LinearSegmentedColormap.from_list("tissue", ["#F4EFE6", "#7FA8C9", "#0B3C5D"])
NAMES = {
    "spectrum_log_error": "radial spectrum, log error",
    "pixel_w1": "grey levels, W1",
    "volume_fraction_w1": "volume fraction, W1",
    "memorisation": "memorisation (1 new, 0 copy)",
}
FOOTNOTE = "floor: training images; control: white noise (memorisation: copies)"
CURVES = {
    "test": ("held out", INK, "-", 3.0),
    "train": ("training (floor)", GREY, ":", 1.8),
    "samples": ("synthesised", BLUE, "-", 1.8),
    "control": ("white noise (control)", VERMILLION, "--", 1.8),
}


def plot_synthesis(
    images: ImageSet, model: ScoreModel, synthesis: Synthesis, path: str | Path
) -> Figure:
    """Held-out, synthesised and control images; radial spectra; training loss; the metrics."""
    test, train = images.select("test").images, images.select("train").images
    generator = torch.Generator().manual_seed(0)
    # The impostor of the metrics' control column: pixels of the right mean and spread, unrelated.
    white = train.mean() + train.std() * torch.randn(test[: SIDE**2].shape, generator=generator)
    sets = {"Held out": test, "Synthesised": synthesis.samples, "Control: white noise": white}
    with picture(path, 13.0, 8.6) as figure:
        top, bottom = figure.subfigures(2, 1, height_ratios=(1.62, 1), squeeze=False)[:, 0]
        for axes, (title, members) in zip(top.subplots(1, 3), sets.items(), strict=True):
            draw_grid(axes, members, synthesis.field_of_view)
            axes.set_title(title, fontsize=13)
        axes = bottom.subplots(1, 3, width_ratios=(1, 1, 1.25))
        _draw_spectra(axes[0], synthesis)
        _draw_loss(axes[1], model)
        _draw_table(axes[2], synthesis)
    return figure


def plot_draws(draws: Draws, path: str | Path) -> Figure:
    """Up to 64 images drawn for a signal, or without one, side by side."""
    images = draws.images[:MOST]
    columns = int(np.ceil(len(images) ** 0.5))
    rows = -(-len(images) // columns)
    with picture(path, 0.9 * columns + 0.3, 0.9 * rows + 0.5) as figure:
        axes = figure.subplots()
        draw_grid(axes, images, draws.field_of_view, columns)
        axes.set_title("given the signal" if draws.measured is not None else "without a signal")
    return figure


def draw_grid(axes: Axes, images: Tensor, field_of_view: float, columns: int | None = None) -> None:
    """Images in rows on empty axes, with a scale bar: all in so many columns, or up to 5 x 5."""
    if columns is None:
        columns = min(SIDE, int(len(images) ** 0.5))
        images = images[: columns**2]
    pixels = images.shape[-1]
    rows = -(-len(images) // columns)
    board = torch.full((rows * columns, pixels + GAP, pixels + GAP), torch.nan)
    board[: len(images), :pixels, :pixels] = images
    board = board.unflatten(0, (rows, columns)).transpose(1, 2).flatten(2).flatten(0, 1)
    board = board[:-GAP, :-GAP]
    blank(axes).imshow(board.numpy(), cmap=TISSUE, vmin=-1, vmax=1, interpolation="nearest")
    scale_bar(axes, 0.0, len(board) + 3.0, 3 * field_of_view, pixels / field_of_view)


def _draw_spectra(axes: Axes, synthesis: Synthesis) -> None:
    frequency = synthesis.frequency.numpy()
    for name, (label, colour, dashes, width) in CURVES.items():
        if name in synthesis.spectra:
            power = synthesis.spectra[name].numpy()
            axes.plot(frequency, power, color=colour, ls=dashes, lw=width, label=label)
    axes.set(yscale="log", xlabel="spatial frequency (1/µm)", ylabel="power per pixel")
    axes.set_title("Radial spectra")
    axes.legend(loc="lower left")


def _draw_loss(axes: Axes, model: ScoreModel) -> None:
    loss = model.loss_history.numpy()
    axes.plot(np.arange(1, len(loss) + 1), loss, color=BLUE, alpha=0.25, lw=0.8)
    window = max(1, len(loss) // 20)
    smooth = np.convolve(loss, np.ones(window) / window, "valid")
    axes.plot(np.arange(window, len(loss) + 1), smooth, color=BLUE, label=f"mean of {window}")
    axes.set(ylim=(0, 1.1), xlabel="iteration", ylabel="training loss")
    axes.set_title("Training")
    axes.legend()


def _draw_table(axes: Axes, synthesis: Synthesis) -> None:
    """One row per metric: samples, floor (training images) and control (an impostor)."""
    names = [name for name in NAMES if name in synthesis.metrics]
    columns = (synthesis.metrics, synthesis.floor, synthesis.control)
    table = blank(axes).table(
        [[f"{column[name]:.3f}" for column in columns] for name in names],
        rowLabels=[NAMES[name] for name in names],
        colLabels=["synthesised", "floor", "control"],
        bbox=Bbox.from_bounds(0.5, 0.25, 0.5, 0.7),
        edges="horizontal",
    )
    table.auto_set_font_size(False)
    table.set_fontsize(9)
    for column, colour in enumerate((BLUE, GREEN, VERMILLION)):
        table[0, column].set_text_props(color=colour, weight="bold")
    axes.set_title("Distance to held-out images")
    axes.text(0, 0.1, FOOTNOTE, fontsize=8, color=GREY)
