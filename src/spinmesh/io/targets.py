"""A user's measured signal: a csv table, or one voxel of a NIfTI series."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.errors import ConfigError, SequenceError, StoreError
from spinmesh.inversion import Target
from spinmesh.sequence import Acquisition
from spinmesh.units import b_from_s_per_mm2

# Measurements up to this b count as unweighted: scanners' nominal b0 images have b up to 10 s/mm^2.
UNWEIGHTED_BELOW = b_from_s_per_mm2(10.0)


def read_target(
    acquisition: Acquisition,
    snr: float,
    csv: str | Path | None = None,
    nifti: str | Path | None = None,
    voxel: tuple[int, int, int] | None = None,
) -> Target:
    """The measured attenuations |S|/S0 of a csv table or of one voxel of a NIfTI series.

    A csv needs a column `attenuation` or `signal`, one row per measurement. S0 is the mean
    unweighted signal of the same timing; `snr` is its signal-to-noise ratio, which weighs the
    residuals of a reconstruction.

    Raises StoreError, SequenceError or ConfigError for a missing file, another number of
    measurements than the acquisition's, no unweighted measurement, S0 <= 0, or NaN.
    """
    if not snr > 0:
        raise ConfigError(f"signal: snr is {snr}; give the unweighted signal's SNR, > 0.")
    if (csv is None) == (nifti is None):
        raise ConfigError("signal: give either a csv file or a NIfTI series.")
    path = Path(str(csv or nifti))
    if not path.is_file():
        raise StoreError(
            f"{path}: no such signal file. Check the path (from the folder of the run)."
        )
    if csv is not None:
        magnitude, relative = _read_table(path)
    else:
        magnitude, relative = _read_voxel(path, voxel), False
    if len(magnitude) != len(acquisition):
        raise SequenceError(
            f"{path}: {len(magnitude)} measurements, but its acquisition has "
            f"{len(acquisition)}. Give the acquisition this signal was measured with."
        )
    if not bool(torch.isfinite(magnitude).all()):
        bad = int((~torch.isfinite(magnitude)).nonzero()[0])
        raise SequenceError(f"{path}: measurement {bad} is not finite. Choose another voxel.")
    if relative:
        return Target(acquisition, magnitude, 1 / snr)
    reference = _unweighted(magnitude, acquisition, path)
    return Target.from_signal(acquisition, magnitude, reference, float(reference.mean()) / snr)


def _read_table(path: Path) -> tuple[Float[Tensor, " measurement"], bool]:
    """Magnitudes, and whether they are relative to S0 already."""
    table = pd.read_csv(path)
    for column in ("attenuation", "signal"):
        if column in table:
            values = np.array(table[column], dtype=np.float64)
            return torch.from_numpy(values), column == "attenuation"
    raise SequenceError(
        f"{path}: columns are {list(table.columns)}; one must be `attenuation` or `signal`."
    )


def _read_voxel(path: Path, voxel: tuple[int, int, int] | None) -> Float[Tensor, " measurement"]:
    image = cast(nib.spatialimages.SpatialImage, nib.load(path))
    shape = image.shape
    if len(shape) != 4:
        raise SequenceError(f"{path}: image of shape {shape}; a diffusion series has 4 axes.")
    if voxel is None or not all(0 <= i < n for i, n in zip(voxel, shape[:3], strict=True)):
        raise ConfigError(
            f"{path}: voxel {voxel} is not inside {shape[:3]}. Give `voxel: [i, j, k]`."
        )
    return torch.from_numpy(np.array(image.dataobj[*voxel, :], dtype=np.float64))


def _unweighted(
    magnitude: Tensor, acquisition: Acquisition, path: Path
) -> Float[Tensor, " measurement"]:
    """S0 of each measurement: its own timing's mean, or that of all where a timing has none."""
    free = acquisition.b_value <= UNWEIGHTED_BELOW
    if not bool(free.any()):
        raise SequenceError(
            f"{path}: no unweighted measurement (b <= 10 s/mm^2), so S0 is unknown. Give a csv "
            "with a column `attenuation` instead."
        )
    reference = torch.full_like(magnitude, float(magnitude[free].mean()))
    for number in range(len(acquisition.sequences)):
        same = acquisition.timing == number
        if bool((same & free).any()):
            reference[same] = magnitude[same & free].mean()
    return reference
