"""What a method found for some known shapes, and how it scores."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

import numpy as np
from jaxtyping import Float
from torch import Tensor, set_num_threads

from experiments.remidi.metric import chamfer_distances
from experiments.remidi.surface import surface_distance
from spinmesh.errors import MeshError
from spinmesh.mesh import TetMesh
from spinmesh.shapes import volume
from spinmesh.stored import quantity, store

# Means as published (arXiv 2502.01988, which names no unit), and what we set out to reach without
# noise and at SNR 50, um.
PUBLISHED = {"bend_twist": 1.709, "beading": 0.568, "fanning": 7.433}
GOALS = {"bend_twist": (0.10, 0.30), "beading": (0.08, 0.25), "fanning": (0.10, 0.30)}
GOAL_SNR = (math.inf, 50.0)


@dataclass(frozen=True)
class Score:
    """How far one shape that a method found is from the true one.

    `published` and `aligned` are modified Chamfer distances of the vertices (um): as published, and
    minimised over every rotation. `surface` is the distance of the surfaces (um), which does not
    see where a mesh puts its vertices. `volume` is relative, `chi2` per measurement, `seconds` of
    CPU.
    """

    method: str
    snr: float
    family: str
    label: str
    published: float
    aligned: float
    surface: float
    volume: float
    chi2: float
    seconds: float


@store("spinmesh/estimates", version=2, stage="paper")
@dataclass(frozen=True, eq=False)
class Estimates:
    """Shapes found by one method from signals of one SNR (inf: none added).

    `truth` are the template's points under the true deformation, whatever mesh gave the signal, so
    that vertices of one template are compared. `chi2` is per measurement, NaN without a fit.
    """

    method: str
    snr: float
    family: tuple[str, ...] = quantity(axis="estimate")
    label: tuple[str, ...] = quantity(axis="estimate")
    truth: Float[Tensor, "estimate point 3"] = quantity("um")
    points: Float[Tensor, "estimate point 3"] = quantity("um")
    chi2: Float[Tensor, " estimate"] = quantity()
    seconds: Float[Tensor, " estimate"] = quantity("s")  # CPU

    def __post_init__(self) -> None:
        columns = (self.family, self.label, self.truth, self.points, self.chi2, self.seconds)
        lengths = {len(column) for column in columns}
        if len(lengths) != 1 or self.truth.shape != self.points.shape:
            raise MeshError(
                f"estimates of {self.method}: columns of lengths {sorted(lengths)}, points of "
                f"shapes {tuple(self.truth.shape)} and {tuple(self.points.shape)}."
            )


def score(estimates: Estimates, template: TetMesh) -> list[Score]:
    """One row per shape."""
    rows = []
    for i, (family, label) in enumerate(zip(estimates.family, estimates.label, strict=True)):
        found = template.with_points(estimates.points[i])
        truth = template.with_points(estimates.truth[i])
        published, aligned = chamfer_distances(found, truth)
        apart = surface_distance(found, truth)
        size = abs(volume(found) / volume(truth) - 1)
        fit = (float(estimates.chi2[i]), float(estimates.seconds[i]))
        rows.append(
            Score(
                *(estimates.method, estimates.snr, family, label),
                *(published, aligned, apart, size, *fit),
            )
        )
    return rows


def joined_scores(parts: Iterable[Estimates], template: TetMesh, workers: int = 1) -> list[Score]:
    """The scores of several methods, one below the other; by so many processes."""
    scored = partial(score, template=template)
    if workers == 1:
        return [row for part in parts for row in scored(part)]
    # Forked as torch's own data loaders are: a spawned one would run the script again.
    with ProcessPoolExecutor(workers, get_context("fork"), set_num_threads, (1,)) as pool:
        return [row for rows in pool.map(scored, parts) for row in rows]


def summarise_scores(scores: list[Score]) -> list[dict[str, str | float]]:
    """One row per method, SNR and family: median, mean, spread, and ratio to the mean shape's.

    Beside the published figure and our goal.

    The ratio is of aligned medians over the same shapes; NaN where the mean shape was not scored.
    """
    groups: dict[tuple[str, float, str], list[Score]] = {}
    for row in scores:
        groups.setdefault((row.method, row.snr, row.family), []).append(row)
    mean_shape = {(r.family, r.label): r.aligned for r in scores if r.method == "mean_shape"}
    return [_summary(key, rows, mean_shape) for key, rows in groups.items()]


def _summary(
    key: tuple[str, float, str], rows: list[Score], mean_shape: Mapping[tuple[str, str], float]
) -> dict[str, str | float]:
    summary: dict[str, str | float] = dict(zip(("method", "snr", "family"), key, strict=True))
    summary["count"] = len(rows)
    summary["paper_um"] = PUBLISHED.get(str(summary["family"]), math.nan)
    goals = dict(zip(GOAL_SNR, GOALS.get(str(summary["family"]), ()), strict=False))
    summary["goal_um"] = goals.get(float(summary["snr"]), math.nan)
    for name in ("published", "aligned", "surface"):
        values = np.array([getattr(row, name) for row in rows])
        summary[f"{name}_median_um"] = float(np.median(values))
        summary[f"{name}_mean_um"] = float(values.mean())
        summary[f"{name}_std_um"] = float(values.std(ddof=len(values) > 1))
    same = [mean_shape.get((row.family, row.label), np.nan) for row in rows]
    summary["ratio_to_mean_shape"] = summary["aligned_median_um"] / float(np.median(same))  # type: ignore[operator]
    for name in ("volume", "chi2", "seconds"):
        summary[f"{name}_median"] = float(np.median([getattr(row, name) for row in rows]))
    return summary
