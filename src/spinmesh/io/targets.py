"""A user's measured signal: a csv table, a voxel or a region of a NIfTI series, or every voxel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spinmesh.errors import ConfigError, SequenceError
from spinmesh.inversion import Target
from spinmesh.inversion.region import region_signal
from spinmesh.inversion.voxels import VoxelTargets
from spinmesh.io.signal_tables import read_signal_table
from spinmesh.io.volumes import grid_of, read_mask, read_series
from spinmesh.sequence import Acquisition
from spinmesh.units import b_from_s_per_mm2, b_to_s_per_mm2

# Measurements up to this b count as unweighted: scanners' nominal b0 images have b up to 10 s/mm^2.
UNWEIGHTED_BELOW = b_from_s_per_mm2(10.0)
# Degrees of freedom of a noise estimate; four give sigma to 35 %.
ENOUGH_REPEATS = 4
# An attenuation at b = 0 is 1 up to noise; beyond these it is a magnitude under another name.
UNIT_RANGE = (0.5, 2.0)


@dataclass(frozen=True, eq=False)
class _Measured:
    """Magnitudes, and their S0: 1 if they are attenuations already."""

    path: Path
    acquisition: Acquisition
    magnitude: Float[Tensor, "voxel measurement"]
    unweighted: Float[Tensor, "voxel measurement"]

    def noise(self, snr: float | None) -> Float[Tensor, " voxel"]:
        """Sigma of each row in the unit of its magnitudes: S0 / snr, or from repeats at b = 0."""
        if snr is not None:
            return self.unweighted.mean(1) / snr
        return torch.full_like(self.magnitude[:, 0], self._repeated())

    def _repeated(self) -> float:
        """Pooled standard deviation of equal unweighted measurements; ConfigError if too few."""
        free = self.acquisition.b_value <= UNWEIGHTED_BELOW
        shell = b_to_s_per_mm2(self.acquisition.b_value).round()
        square, degrees = 0.0, 0
        for number in range(len(self.acquisition.sequences)):
            own = free & (self.acquisition.timing == number)
            for b in shell[own].unique():
                values = self.magnitude[:, own & (shell == b)]
                square += float((values - values.mean(1, keepdim=True)).square().sum())
                degrees += len(values) * (values.shape[1] - 1)
        if degrees < ENOUGH_REPEATS:
            raise ConfigError(
                f"{self.path}: {degrees + 1} equal unweighted measurements are too few to estimate "
                f"the noise from ({ENOUGH_REPEATS + 1} are needed). Give `snr`, the unweighted "
                "signal's signal-to-noise ratio (inf for none)."
            )
        if square == 0:
            raise ConfigError(
                f"{self.path}: the unweighted measurements are all equal, so their noise is "
                "unknown. Give `snr`, the unweighted signal's signal-to-noise ratio (inf for none)."
            )
        return math.sqrt(square / degrees)


def read_target(
    acquisition: Acquisition,
    snr: float | None = None,
    csv: str | Path | None = None,
    nifti: str | Path | None = None,
    voxel: tuple[int, int, int] | None = None,
    roi: str | Path | None = None,
) -> Target:
    """The measured attenuations |S|/S0 of a csv table, or of one voxel or a region of a NIfTI.

    A csv needs a column `attenuation`, `signal` or `magnitude`, one row per measurement, or is one
    column of magnitudes without a name; columns of the acquisition, as `spinmesh simulate` writes
    them, are compared with `acquisition`. S0 is the mean unweighted signal of the same timing.
    `snr` is that of the unweighted signal of one voxel, estimated from repeated unweighted
    measurements if None. The mean over a `roi` of n voxels is freed of its Rician bias, and its
    noise is 1/sqrt(n) of a voxel's.

    Raises StoreError, SequenceError or ConfigError for a missing file, another number of
    measurements than the acquisition's, no unweighted measurement, S0 <= 0, or NaN.
    """
    _refuse_snr(snr)
    if (csv is None) == (nifti is None):
        raise ConfigError("signal: give either a csv file or a NIfTI series.")
    if nifti is None:
        if voxel is not None or roi is not None:
            raise ConfigError(f"{csv}: a voxel or a region goes with a NIfTI series only.")
        measured = _table(Path(str(csv)), acquisition)
    else:
        measured = _series(Path(nifti), acquisition, _place(nifti, voxel, roi))
    magnitude, sigma = region_signal(measured.magnitude, float(measured.noise(snr).mean()))
    reference = measured.unweighted.mean(0)
    return Target.from_signal(acquisition, magnitude, reference, sigma)


def read_voxels(
    acquisition: Acquisition,
    nifti: str | Path,
    mask: str | Path,
    snr: float | None = None,
) -> VoxelTargets:
    """The targets of every voxel of a mask; the errors are those of `read_target`.

    `snr` is that of each voxel's unweighted signal; if None, one sigma for the whole image is
    estimated from repeated unweighted measurements.
    """
    _refuse_snr(snr)
    grid = grid_of(nifti)
    voxel = read_mask(mask, grid)
    measured = _series(Path(nifti), acquisition, voxel)
    sigma = measured.noise(snr) / measured.unweighted.mean(1)
    attenuation = measured.magnitude / measured.unweighted
    return VoxelTargets(grid, voxel, acquisition, attenuation, sigma)


def _refuse_snr(snr: float | None) -> None:
    if snr is not None and not snr > 0:
        raise ConfigError(
            f"signal: snr is {snr}; give the unweighted signal's SNR, > 0 (inf for no noise)."
        )


def _place(
    nifti: str | Path, voxel: tuple[int, int, int] | None, roi: str | Path | None
) -> Int[Tensor, "voxel axis"]:
    if (voxel is None) == (roi is None):
        raise ConfigError(
            f"{nifti}: say where: a voxel i,j,k counted from 0, or a mask whose mean is taken."
        )
    grid = grid_of(nifti)
    if voxel is not None:
        return torch.tensor([voxel], dtype=torch.int64)
    return read_mask(str(roi), grid)


def _table(path: Path, acquisition: Acquisition) -> _Measured:
    magnitude, relative = read_signal_table(path, acquisition)
    magnitude = magnitude[None]
    _refuse_wrong(path, magnitude, acquisition, torch.zeros((1, 0), dtype=torch.int64))
    if not relative:
        return _Measured(path, acquisition, magnitude, _unweighted(path, magnitude, acquisition))
    free = acquisition.b_value <= UNWEIGHTED_BELOW
    if bool(free.any()):
        reference = float(magnitude[0, free].mean())
        low, high = UNIT_RANGE
        if not low < reference < high:
            raise SequenceError(
                f"{path}: the attenuation at b = 0 is {reference:g}, but it is 1 by definition. "
                "Name the column `signal` if it holds magnitudes, or repair S0."
            )
    return _Measured(path, acquisition, magnitude, torch.ones_like(magnitude))


def _series(path: Path, acquisition: Acquisition, voxel: Tensor) -> _Measured:
    count = read_series(path, voxel[:1]).shape[1]
    if count != len(acquisition):
        raise _other_count(path, count, acquisition)
    magnitude = read_series(path, voxel)
    _refuse_wrong(path, magnitude, acquisition, voxel)
    reference = _unweighted(path, magnitude, acquisition)
    dark = (reference <= 0).any(1)
    if bool(dark.any()):
        first = tuple(voxel[dark][0].tolist())
        raise SequenceError(
            f"{path}: {int(dark.sum())} of {len(voxel)} voxels have no unweighted signal (first: "
            f"{first}, S(b=0) = {float(reference[dark][0].min()):g}); attenuation needs S0 > 0. "
            "Choose a voxel in tissue, or take them out of the mask."
        )
    return _Measured(path, acquisition, magnitude, reference)


def _other_count(path: Path, count: int, acquisition: Acquisition) -> SequenceError:
    return SequenceError(
        f"{path}: {count} measurements, but its acquisition has {len(acquisition)}. Give the "
        "acquisition this signal was measured with."
    )


def _refuse_wrong(path: Path, magnitude: Tensor, acquisition: Acquisition, voxel: Tensor) -> None:
    """Another count, NaN, infinities or negative magnitudes."""
    if magnitude.shape[1] != len(acquisition):
        raise _other_count(path, magnitude.shape[1], acquisition)
    for wrong, what in ((~torch.isfinite(magnitude), "not finite"), (magnitude < 0, "negative")):
        if bool(wrong.any()):
            row, column = wrong.nonzero()[0].tolist()
            place = f" of voxel {tuple(voxel[row].tolist())}" if voxel.shape[1] else ""
            many = f" ({int(wrong.any(1).sum())} voxels have such)" if len(voxel) > 1 else ""
            raise SequenceError(
                f"{path}: measurement {column}{place} is {what}{many}. Choose another voxel, take "
                "such voxels out of the mask, or repair the file."
            )


def _unweighted(
    path: Path, magnitude: Tensor, acquisition: Acquisition
) -> Float[Tensor, "voxel measurement"]:
    """S0 of each measurement: its own timing's mean, or that of all where a timing has none."""
    free = acquisition.b_value <= UNWEIGHTED_BELOW
    if not bool(free.any()):
        raise SequenceError(
            f"{path}: no unweighted measurement (b <= 10 s/mm^2), so S0 is unknown. Give a csv "
            "with a column `attenuation` instead."
        )
    reference = magnitude[:, free].mean(1, keepdim=True).expand_as(magnitude).clone()
    for number in range(len(acquisition.sequences)):
        same = acquisition.timing == number
        if bool((same & free).any()):
            reference[:, same] = magnitude[:, same & free].mean(1, keepdim=True)
    return reference
