"""Figure of stage 3: the reconstructed shape on the true one, and how well the signals agree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
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
from spinmesh.noise import rician_mean
from spinmesh.report.style import BLUE, COLOURS, GREY, INK, VERMILLION, blank, picture, scale_bar
from spinmesh.report.surface import paint, silhouette, surface, view
from spinmesh.shapes import Profile, ShapeModel, errors_beside_mean_shape, point_matrices, profile

# Standard deviations on either side that hold 90 % of a normal law.
NINETY = 1.645
NOTE = "|S| is blind to translation and point reflection:\nboth are removed before comparing."


def plot_reconstruction(
    reconstruction: Reconstruction,
    path: str | Path,
    model: ShapeModel,
    truth: Substrates | None = None,
) -> Figure:
    """Overlay with the truth if known, convergence, misfit of the signals, radius along the axis.

    `truth` is a table of the one true shape. The title says if the shape is not to be believed.
    """
    doubts = credibility(reconstruction, model).warnings
    true_mesh = None if truth is None else truth.mesh(0)
    with picture(path, 13.5, 7.6) as figure:
        # What is wrong, without the remedy, in a line that fits the figure.
        warnings = [f"WARNING: {doubt.partition('. ')[0]}" for doubt in doubts]
        words = "\n".join([_title(reconstruction, model, truth), *warnings])
        colour = VERMILLION if doubts else INK
        figure.suptitle(words, x=0.01, ha="left", fontsize=11, weight="bold", color=colour)
        left, right = figure.subfigures(1, 2, width_ratios=(1, 2), squeeze=False)[0]
        _draw_overlay(left, reconstruction, true_mesh)
        axes = right.subplot_mosaic([["steps", "signals"], ["radius", "radius"]])
        _draw_convergence(axes["steps"], reconstruction)
        _draw_residuals(axes["signals"], reconstruction)
        _draw_radius(axes["radius"], reconstruction, model, true_mesh)
    return figure


def _title(reconstruction: Reconstruction, model: ShapeModel, truth: Substrates | None) -> str:
    """The numbers that matter, in one line."""
    errors = errors_beside_mean_shape(reconstruction.mesh, model, truth)
    words = [
        f"{name} error {error:.3f} µm (mean training shape: {of_mean:.3f})"
        for name, (error, of_mean) in errors.items()
    ]
    words.append(f"χ² per measurement {reconstruction.fit.chi2_per_measurement:.2f}")
    return "Reconstruction: " + ", ".join(words)


def _draw_overlay(figure: SubFigure, reconstruction: Reconstruction, truth: TetMesh | None) -> None:
    """Two views, coloured by the distance to the truth, or without one by the posterior spread."""
    mesh = reconstruction.mesh
    shape, outline = surface(mesh, np.eye(3), [BLUE]), None
    if truth is None:
        label, nearest = "posterior spread (µm)", cKDTree(mesh.points.numpy())
        value = reconstruction.spread.numpy()[nearest.query(shape.triangles.mean(1))[1]]
    else:
        sign, shift = aligned(mesh, truth)
        shape = surface(mesh, sign * np.eye(3), [BLUE]).moved(shift)
        outline = surface(truth, np.eye(3), [GREY])
        label, nearest = "distance to the true surface (µm)", cKDTree(outline.triangles.mean(1))
        value = nearest.query(shape.triangles.mean(1))[0]
    colours = ScalarMappable(Normalize(0, float(np.quantile(value, 0.98))), "plasma")
    shape = replace(shape, colour=colours.to_rgba(value)[:, :3])
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    middle = (outline or shape).box.mean(0)
    for ax, side in zip(axes, (False, True), strict=True):
        rotation = view(mesh if truth is None else truth, side)
        paint(blank(ax), shape.moved(-middle).turned(rotation))
        if outline is not None:
            rim = list(silhouette(outline.moved(-middle).turned(rotation)))
            ax.add_collection(LineCollection(rim, color=INK, lw=2.2, zorder=3, capstyle="round"))
        ax.autoscale_view()
        ax.set_title("from the side" if side else "from the front", fontsize=10)
    low, extent = axes[0].dataLim.min, axes[0].dataLim.height
    scale_bar(axes[0], low[0], low[1] - 0.04 * extent, extent)
    figure.supxlabel(NOTE, fontsize=9, color=INK)
    if outline is not None:
        axes[1].plot([], [], color=INK, lw=2.2, label="outline of the truth")
        axes[1].legend(loc="upper center", bbox_to_anchor=(0.4, 0.02))
    figure.colorbar(colours, ax=axes, location="bottom", shrink=0.8, pad=0.02, label=label)


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
        inside = np.where(accepted[rows] > 0, colour, "white")
        axes.scatter(x, y, 25, inside, edgecolors=colour, zorder=2)
    axes.axhline(1, color=GREY, ls="--", lw=1.2, label="noise alone")
    axes.set(yscale="log", xlabel="trial step (open: refused)", ylabel="χ² per measurement")
    axes.set_title("Convergence")
    axes.set_ylim(bottom=min(0.6, 0.8 * float(chi2.min()) / count))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()


def _draw_radius(
    axes: Axes, reconstruction: Reconstruction, model: ShapeModel, truth: TetMesh | None
) -> None:
    reference = shape = profile(reconstruction.mesh)
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


def _draw_residuals(axes: Axes, reconstruction: Reconstruction) -> None:
    target = reconstruction.target
    expected = rician_mean(reconstruction.fit.predicted, target.sigma)
    residual = reconstruction.fit.chi2.sqrt() * (target.attenuation - expected).sign()
    for number, sequence in enumerate(target.acquisition.sequences):
        rows = target.acquisition.timing == number
        b = target.acquisition.b_value[rows]
        colour = COLOURS[number % len(COLOURS)]
        axes.scatter(b, residual[rows], 18, colour, alpha=0.75, lw=0, label=sequence.label)
    axes.axhspan(-2, 2, color=GREY, alpha=0.2, lw=0)
    axes.axhline(0, color=INK, lw=1)
    axes.set(xlabel="b (ms/µm² = 1000 s/mm²)", ylabel="measured - predicted (noise spreads)")
    axes.set_title("Signals")
    axes.legend(markerscale=1.4)
