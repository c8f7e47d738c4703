"""What a method found for some known shapes, and how it scores."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from spinmesh.errors import MeshError
from spinmesh.inversion.metrics import (
    aligned_chamfer_distance,
    modified_chamfer_distance,
    volume,
)
from spinmesh.mesh import TetMesh

# Columns of a score table: one row per shape found.
SCORES = (
    "method",
    "snr",
    "family",
    "label",
    "published_um",
    "aligned_um",
    "volume_error",
    "chi2_per_measurement",
    "cpu_s",
)


@dataclass(frozen=True, eq=False)
class Estimates:
    """Shapes found by one method from signals of one SNR (inf: none added).

    `truth` are the template's points under the true deformation, whatever mesh gave the signal, so
    that vertices of one template are compared. `chi2` is per measurement, NaN without a fit.
    """

    method: str
    snr: float
    family: tuple[str, ...]
    label: tuple[str, ...]
    truth: Float[Tensor, "estimate point 3"]
    points: Float[Tensor, "estimate point 3"]
    chi2: Float[Tensor, " estimate"]
    seconds: Float[Tensor, " estimate"]  # CPU

    def __post_init__(self) -> None:
        columns = (self.family, self.label, self.truth, self.points, self.chi2, self.seconds)
        lengths = {len(column) for column in columns}
        if len(lengths) != 1 or self.truth.shape != self.points.shape:
            raise MeshError(
                f"estimates of {self.method}: columns of lengths {sorted(lengths)}, points of "
                f"shapes {tuple(self.truth.shape)} and {tuple(self.points.shape)}."
            )


def score(estimates: Estimates, template: TetMesh) -> pd.DataFrame:
    """One row per shape, columns `SCORES`: the published metric, the aligned one, volume."""
    rows = []
    for i, (family, label) in enumerate(zip(estimates.family, estimates.label, strict=True)):
        found = template.with_points(estimates.points[i])
        truth = template.with_points(estimates.truth[i])
        published = modified_chamfer_distance(found, truth)
        aligned = min(published, aligned_chamfer_distance(found, truth))
        values = (
            abs(volume(found) / volume(truth) - 1),
            float(estimates.chi2[i]),
            float(estimates.seconds[i]),
        )
        rows.append((estimates.method, estimates.snr, family, label, published, aligned, *values))
    return pd.DataFrame(rows, columns=list(SCORES))


def summarise_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """Median, mean and spread per method, SNR and family, and the ratio to the mean shape's error.

    The ratio is of medians over the same shapes. Methods that know no signal count at every SNR.
    """
    keys = ["method", "snr", "family"]
    table = scores.groupby(keys, sort=False).agg(
        count=("aligned_um", "size"),
        published_median_um=("published_um", "median"),
        published_mean_um=("published_um", "mean"),
        published_std_um=("published_um", "std"),
        aligned_median_um=("aligned_um", "median"),
        aligned_mean_um=("aligned_um", "mean"),
        aligned_std_um=("aligned_um", "std"),
        volume_error_median=("volume_error", "median"),
        chi2_median=("chi2_per_measurement", "median"),
        cpu_s_median=("cpu_s", "median"),
    )
    mean_shape = scores[scores.method == "mean_shape"].set_index(["family", "label"])
    ratios = [
        _ratio(group, mean_shape.loc[[family]])
        for (_, _, family), group in scores.groupby(keys, sort=False)
    ]
    return table.assign(ratio_to_mean_shape=ratios).reset_index()


def _ratio(group: pd.DataFrame, mean_shape: pd.DataFrame) -> float:
    same = mean_shape.reset_index().label.isin(group.label)
    return float(group.aligned_um.median() / mean_shape.aligned_um[same.to_numpy()].median())


def joined_scores(parts: Iterable[Estimates], template: TetMesh) -> pd.DataFrame:
    """The scores of several methods, one below the other."""
    return pd.concat([score(part, template) for part in parts], ignore_index=True)
