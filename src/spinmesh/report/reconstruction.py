"""Figure of stage 3: the reconstructed shape on the true one, and how well the signals agree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator
from scipy.spatial import cKDTree
from torch import Tensor

from spinmesh.inversion import HISTORY, Reconstruction, credibility
from spinmesh.mesh import Substrates, TetMesh
from spinmesh.noise import rician_mean, rician_std
from spinmesh.report.style import (
    BLUE,
    COLOURS,
    GREY,
    INK,
    VERMILLION,
    blank,
    picture,
    scale_bar,
)  # fmt: skip
from spinmesh.report.surface import Surface, paint, silhouette, surface, view
from spinmesh.shapes import Profile, ShapeModel, errors_beside_mean_shape, point_matrices, profile

# Standard deviations on either side that hold 90 % of a normal law.
NINETY = 1.645
ERROR_MAP = "plasma"
NOTE = "|S| is blind to translation and point reflection:\nboth are removed before comparing."


def plot_reconstruction(
    reconstruction: Reconstruction,
    path: str | Path,
    model: ShapeModel,
    truth: Substrates | None = None,
) -> Figure:
    """Overlay with the truth if known, convergence, radius along the axis, measured and predicted.

    `truth` is a table of the one true shape. The title says if the shape is not to be believed.
    """
    doubts = credibility(reconstruction, model).warnings
    true_mesh = None if truth is None else truth.mesh(0)
    with picture(path, 13.5, 7.6) as figure:
        title = figure.suptitle(
            "\n".join([headline(reconstruction, model, truth), *map(_warning, doubts)]),
            x=0.01, ha="left", fontsize=11, weight="bold",
        )  # fmt: skip
        title.set_color(VERMILLION if doubts else INK)
        left, right = figure.subfigures(1, 2, width_ratios=(1, 2), squeeze=False)[0]
        _draw_overlay(left, reconstruction, true_mesh)
        axes = right.subplots(2, 2)
        _draw_convergence(axes[0, 0], reconstruction)
        _draw_radius(axes[1, 0], reconstruction, model, true_mesh)
        _draw_agreement(axes[0, 1], axes[1, 1], reconstruction)
    return figure


def headline(reconstruction: Reconstruction, model: ShapeModel, truth: Substrates | None) -> str:
    """The numbers that matter, in one line."""
    words = [
        f"{name} error {error:.3f} µm (mean training shape: {of_mean:.3f})"
        for name, (error, of_mean) in errors_beside_mean_shape(
            reconstruction.mesh, model, truth
        ).items()
    ]
    words.append(f"χ² per measurement {reconstruction.fit.chi2_per_measurement:.2f}")
    return "Reconstruction: " + ", ".join(words)


def _warning(doubt: str) -> str:
    """What is wrong, without the remedy, in a line that fits the figure."""
    return "WARNING: " + doubt.partition(". ")[0]


def _draw_overlay(figure: SubFigure, reconstruction: Reconstruction, truth: TetMesh | None) -> None:
    mesh = reconstruction.mesh
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    sign, shift = (1.0, np.zeros(3)) if truth is None else aligned(mesh, truth)
    norm = None
    middle = (mesh if truth is None else truth).points.numpy().mean(0)
    for ax, side in zip(axes, (False, True), strict=True):
        blank(ax).set_aspect("equal")
        rotation = view(mesh if truth is None else truth, side)
        shape = _moved(surface(mesh, sign * rotation, [BLUE]), rotation @ (shift - middle))
        if truth is not None:
            true = _moved(surface(truth, rotation, [GREY]), -rotation @ middle)
            distance = cKDTree(true.triangles.mean(1)).query(shape.triangles.mean(1))[0]
            norm = norm or Normalize(0, float(np.quantile(distance, 0.98)))
            shape = replace(shape, colour=colormaps[ERROR_MAP](norm(distance))[:, :3])
            ax.add_collection(
                LineCollection(
                    list(silhouette(true)), color=INK, lw=2.2, zorder=3, capstyle="round"
                )
            )
        else:
            values = _on_triangles(reconstruction, shape, rotation @ (shift - middle), rotation)
            norm = norm or Normalize(0, float(np.quantile(values, 0.98)))
            shape = replace(shape, colour=colormaps[ERROR_MAP](norm(values))[:, :3])
        paint(ax, shape)
        ax.autoscale_view()
        ax.set_title("from the side" if side else "from the front", fontsize=10)
    low, extent = axes[0].dataLim.min, axes[0].dataLim.height
    scale_bar(axes[0], low[0], low[1] - 0.04 * extent, extent)
    figure.supxlabel(NOTE, fontsize=9, color=INK)
    if truth is not None:
        axes[1].plot([], [], color=INK, lw=2.2, label="outline of the truth")
        axes[1].legend(loc="upper center", bbox_to_anchor=(0.4, 0.02))
    if norm is not None:
        figure.colorbar(
            ScalarMappable(norm, ERROR_MAP), ax=axes, location="bottom", shrink=0.8, pad=0.02,
            label="posterior spread (µm)" if truth is None else "distance to the true surface (µm)",
        )  # fmt: skip


def _on_triangles(
    reconstruction: Reconstruction, shape: Surface, shift: np.ndarray, rotation: np.ndarray
) -> np.ndarray:
    """Posterior spread at each drawn triangle: that of the nearest point of the mesh."""
    points = reconstruction.mesh.points.numpy() @ rotation.T + shift
    nearest = cKDTree(points).query(shape.triangles.mean(1))[1]
    return np.asarray(reconstruction.spread)[nearest]


def aligned(mesh: TetMesh, truth: TetMesh) -> tuple[float, np.ndarray]:
    """Sign and shift (um) of sign * points + shift: on the truth's centre of volume, and nearer."""
    points, tree = mesh.points.numpy(), cKDTree(truth.points.numpy())
    centre, goal = _centre(mesh), _centre(truth)

    def apart(sign: float) -> float:
        return float(tree.query(sign * (points - centre) + goal)[0].mean())

    sign = min((1.0, -1.0), key=apart)
    return sign, goal - sign * centre


def _centre(mesh: TetMesh) -> np.ndarray:
    weight = np.asarray(point_matrices(mesh)[1].sum(0))[0]
    return np.asarray(weight @ mesh.points.numpy() / weight.sum())


def _moved(shape: Surface, shift: np.ndarray) -> Surface:
    return Surface(shape.triangles + shift, shape.colour, shape.edges + shift)


def _draw_convergence(axes: Axes, reconstruction: Reconstruction) -> None:
    history = reconstruction.history.numpy()
    start, chi2, accepted = (history[:, HISTORY.index(n)] for n in ("start", "chi2", "accepted"))
    count = len(reconstruction.fit.chi2)
    for number in np.unique(start):
        rows = start == number
        colour = COLOURS[int(number) % len(COLOURS)]
        x, y = np.arange(rows.sum()), chi2[rows] / count
        label = "mean latent" if number == 0 else f"start {int(number)}"
        axes.plot(x, y, color=colour, label=label)
        taken = accepted[rows] > 0
        axes.plot(x[taken], y[taken], "o", color=colour, ms=5)
        axes.plot(x[~taken], y[~taken], "o", mfc="white", mec=colour, ms=5)
    axes.axhline(1, color=GREY, ls="--", lw=1.2)
    axes.annotate(
        "noise alone", (1, 1), (-2, -3), xycoords=("axes fraction", "data"), ha="right", va="top",
        textcoords="offset points", fontsize=9, color=GREY,
    )  # fmt: skip
    axes.set(yscale="log", xlabel="trial step (open: refused)", ylabel="χ² per measurement")
    axes.set_title("Convergence")
    axes.set_ylim(bottom=min(0.6, 0.8 * float(chi2.min()) / count))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()


def _draw_radius(
    axes: Axes, reconstruction: Reconstruction, model: ShapeModel, truth: TetMesh | None
) -> None:
    shape = profile(reconstruction.mesh)
    reference = shape
    if truth is not None:
        reference = profile(truth)
        shape = _same_way(shape, reference)
        axes.plot(_arc(reference), reference.radius, color=INK, lw=2.5, label="truth")
    band = NINETY * radius_spread(reconstruction, model, shape)
    low, high = shape.radius - band, shape.radius + band
    axes.fill_between(_arc(shape), low, high, color=VERMILLION, alpha=0.2, lw=0, label="90 % band")
    mean = profile(model.basis.template.with_points(model.mean_points))
    mean = _same_way(mean, reference)
    axes.plot(_arc(mean), mean.radius, color=GREY, ls=":", label="mean training shape")
    axes.plot(_arc(shape), shape.radius, color=VERMILLION, ls="--", lw=2.2, label="reconstruction")
    axes.set(xlabel="arc length from the middle (µm)", ylabel="radius of equal area (µm)")
    axes.set_title("Radius along the axis")
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower center", ncols=2)


def radius_spread(
    reconstruction: Reconstruction, model: ShapeModel, shape: Profile
) -> Float[Tensor, " station"]:
    """Standard deviation of the radius: the Laplace posterior carried through the profile.

    One step of one standard deviation along each principal axis of the latent covariance.
    """
    latent = reconstruction.posterior.latent
    values, vectors = torch.linalg.eigh(latent.covariance)
    steps = (vectors * values.clamp_min(0).sqrt()).T
    points = model.decode(latent.mean + steps).detach()
    moved = [_same_way(profile(model.basis.template.with_points(p)), shape) for p in points]
    return torch.stack([p.radius - shape.radius for p in moved]).square().sum(0).sqrt()


def _same_way(shape: Profile, reference: Profile) -> Profile:
    """The profile, or its reverse if that is the nearer one."""
    choices = (shape, shape.reversed())
    return min(choices, key=lambda p: float((p.radius - reference.radius).square().sum()))


def _arc(shape: Profile) -> np.ndarray:
    count = len(shape.radius)
    return (np.arange(count) + 0.5 - count / 2) / count * shape.length


def _draw_agreement(above: Axes, below: Axes, reconstruction: Reconstruction) -> None:
    target = reconstruction.target
    acquisition = target.acquisition
    expected = rician_mean(reconstruction.fit.predicted, target.sigma)
    residual = reconstruction.fit.chi2.sqrt() * (target.attenuation - expected).sign()
    for number, sequence in enumerate(acquisition.sequences):
        rows = acquisition.timing == number
        style: dict[str, Any] = {
            "s": 18,
            "alpha": 0.75,
            "lw": 0,
            "color": COLOURS[number % len(COLOURS)],
        }
        label = sequence.label
        above.scatter(expected[rows], target.attenuation[rows], label=label, **style)
        below.scatter(acquisition.b_value[rows], residual[rows], **style)
    line = torch.logspace(np.log10(float(expected.min()) * 0.8), 0, 60, dtype=torch.float64)
    spread = 2 * rician_std(line, target.sigma)
    above.fill_between(
        line, (line - spread).clamp_min(1e-6), line + spread, color=GREY, alpha=0.2, lw=0,
        label="± 2 noise spreads",
    )  # fmt: skip
    above.plot(line, line, color=INK, lw=1)
    low = 0.8 * float(torch.minimum(expected, target.attenuation).clamp_min(1e-3).min())
    above.set(xscale="log", yscale="log", xlim=(low, 1.15), ylim=(low, 1.3))
    above.set(xlabel="predicted attenuation, noise floor included", ylabel="measured attenuation")
    above.set_title("Signals")
    above.legend(loc="upper left", markerscale=1.4)
    below.axhspan(-2, 2, color=GREY, alpha=0.2, lw=0)
    below.axhline(0, color=INK, lw=1)
    below.set(xlabel="b (ms/µm² = 1000 s/mm²)", ylabel="measured - predicted (noise spreads)")
    below.set_title("Residuals")
