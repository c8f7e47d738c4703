"""A user's measured signal: a csv table, or one voxel of a NIfTI series."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.errors import ConfigError, SequenceError, StoreError
from spinmesh.inversion import Target
from spinmesh.io.acquisitions import AcquisitionFiles, read_acquisition
from spinmesh.sequence import Acquisition
from spinmesh.units import b_from_s_per_mm2

# Measurements up to this b count as unweighted: scanners' nominal b0 images have b up to 10 s/mm^2.
UNWEIGHTED_BELOW = b_from_s_per_mm2(10.0)


@dataclass(frozen=True)
class SignalFile:
    """A csv file with a column `attenuation` or `signal`, or a NIfTI series and a voxel of it.

    `snr` is that of the unweighted signal; the reconstruction weighs its residuals by it.
    """

    path: str
    acquisition: AcquisitionFiles
    snr: float
    voxel: tuple[int, int, int] | None = None


def read_target(file: SignalFile) -> Target:
    """The measured attenuations |S|/S0, S0 being the mean unweighted signal of the same timing.

    Raises StoreError, SequenceError or ConfigError for a missing file, another number of
    measurements than the acquisition's, no unweighted measurement, S0 <= 0, or NaN.
    """
    acquisition = read_acquisition(file.acquisition)
    if not file.snr > 0:
        raise ConfigError(f"signal: snr is {file.snr}; give the unweighted signal's SNR, > 0.")
    magnitude, relative = _read_magnitude(file)
    if len(magnitude) != len(acquisition):
        raise SequenceError(
            f"{file.path}: {len(magnitude)} measurements, but its acquisition has "
            f"{len(acquisition)}. Give the acquisition this signal was measured with."
        )
    if not bool(torch.isfinite(magnitude).all()):
        bad = int((~torch.isfinite(magnitude)).nonzero()[0])
        raise SequenceError(f"{file.path}: measurement {bad} is not finite. Choose another voxel.")
    if relative:
        return Target(acquisition, magnitude, 1 / file.snr)
    reference = _unweighted(magnitude, acquisition, file.path)
    sigma = float(reference.mean()) / file.snr
    return Target.from_signal(acquisition, magnitude, reference, sigma)


def _read_magnitude(file: SignalFile) -> tuple[Float[Tensor, " measurement"], bool]:
    """Magnitudes, and whether they are relative to S0 already."""
    path = Path(file.path)
    if not path.is_file():
        raise StoreError(f"{path}: no such signal file. Check the path (from the folder of the run).")
    if path.name.endswith((".nii", ".nii.gz")):
        return _read_voxel(path, file.voxel), False
    table = pd.read_csv(path)
    for column in ("attenuation", "signal"):
        if column in table:
            values = np.array(table[column], dtype=np.float64)
            return torch.from_numpy(values), column == "attenuation"
    raise SequenceError(
        f"{path}: columns are {list(table.columns)}; one must be `attenuation` or `signal`."
    )


def _read_voxel(path: Path, voxel: tuple[int, int, int] | None) -> Float[Tensor, " measurement"]:
    image = nib.load(path)
    shape = image.shape
    if len(shape) != 4:
        raise SequenceError(f"{path}: image of shape {shape}; a diffusion series has 4 axes.")
    if voxel is None or not all(0 <= i < n for i, n in zip(voxel, shape[:3], strict=True)):
        raise ConfigError(f"{path}: voxel {voxel} is not inside {shape[:3]}. Give `voxel: [i, j, k]`.")
    return torch.from_numpy(np.array(image.dataobj[*voxel, :], dtype=np.float64))


def _unweighted(
    magnitude: Tensor, acquisition: Acquisition, path: str
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
