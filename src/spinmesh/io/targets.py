"""A user's measured signal: a csv table, a voxel or a region of a NIfTI series, or every voxel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from spinmesh.errors import ConfigError, SequenceError
from spinmesh.inversion import Target
from spinmesh.inversion.target import region_signal
from spinmesh.inversion.voxels import VoxelTargets
from spinmesh.io.tables import read_signal_table
from spinmesh.io.volumes import grid_of, read_mask, read_series
from spinmesh.progress import LOGGER
from spinmesh.sequence import Acquisition, same_echo, with_reference
from spinmesh.settings.reconstruct import SignalSection
from spinmesh.units import b_to_s_per_mm2

# Degrees of freedom of a noise estimate; four give sigma to 35 %.
ENOUGH_REPEATS = 4
# An attenuation at b = 0 is 1 up to noise; beyond these it is a magnitude under another name.
UNIT_RANGE = (0.5, 2.0)
# No noise that leaves a signal makes an attenuation larger.
MOST_ATTENUATION = 5.0
# Without a mask: part of the unweighted signal of the brightest (this quantile), air having less.
FOREGROUND, BRIGHTEST = 0.2, 0.98


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
    signal = _checked(csv=csv, nifti=nifti, voxel=voxel, roi=roi, snr=snr)
    acquisition = with_reference(acquisition)
    if signal.nifti is None:
        path = Path(str(signal.csv))
        column, relative = read_signal_table(path, acquisition)
        measured = _measured(path, acquisition, column[None], None, snr, relative)
    else:
        path, place = Path(signal.nifti), torch.tensor([signal.voxel or (0, 0, 0)])
        if signal.roi is not None:
            place = read_mask(signal.roi, grid_of(path))
        measured = _measured(path, acquisition, read_series(path, place), place, snr)
    magnitude, sigma = region_signal(measured.magnitude, float(measured.sigma.mean()))
    reference = measured.unweighted.mean(0)
    return Target(acquisition, magnitude / reference, sigma / float(reference.mean()))


def read_voxels(
    acquisition: Acquisition,
    nifti: str | Path,
    mask: str | Path | None,
    snr: float | None = None,
) -> VoxelTargets:
    """The targets of every voxel of a mask; the errors are those of `read_target`.

    Without a mask, of voxels whose mean unweighted signal exceeds a fifth of the brightest's.
    A voxel that cannot be used (a negative or NaN measurement, no unweighted signal) is NaN; how
    many there are is logged. `snr` is that of each voxel's unweighted signal; if None, one sigma
    for the whole image is estimated from repeated unweighted measurements.
    """
    place = {"voxel": (0, 0, 0)} if mask is None else {"mask": mask}
    _checked(nifti=nifti, snr=snr, **place)
    acquisition = with_reference(acquisition)
    grid = grid_of(nifti)
    voxel = torch.cartesian_prod(*map(torch.arange, grid.shape)).reshape(-1, 3)
    voxel = voxel if mask is None else read_mask(mask, grid)
    magnitude = read_series(nifti, voxel)
    if mask is None and magnitude.shape[1] == len(acquisition):
        bright = magnitude[:, acquisition.unweighted].mean(1)
        inside = bright > FOREGROUND * np.nanquantile(bright, BRIGHTEST)
        voxel, magnitude = voxel[inside], magnitude[inside]
    measured = _measured(Path(nifti), acquisition, magnitude, voxel, snr)
    sigma = torch.full((len(voxel),), torch.nan, dtype=torch.float64)
    sigma[measured.usable] = measured.sigma / measured.unweighted.mean(1)
    attenuation = torch.full((len(voxel), len(acquisition)), torch.nan, dtype=torch.float64)
    attenuation[measured.usable] = measured.magnitude / measured.unweighted
    return VoxelTargets(grid, voxel, acquisition, attenuation, sigma)


def _checked(**names: Any) -> SignalSection:
    words = {key: str(x) if isinstance(x, Path) else x for key, x in names.items()}
    return SignalSection.checked(words, "signal")


@dataclass(frozen=True, eq=False)
class _Measured:
    """The rows that can be used: magnitudes, their S0 (1 if they are attenuations) and noise."""

    usable: Bool[Tensor, " row"]
    magnitude: Float[Tensor, "voxel measurement"]
    unweighted: Float[Tensor, "voxel measurement"]
    sigma: Float[Tensor, " voxel"]


def _measured(
    path: Path,
    acquisition: Acquisition,
    magnitude: Float[Tensor, "row measurement"],
    voxel: Int[Tensor, "row axis"] | None,
    snr: float | None,
    relative: bool = False,
) -> _Measured:
    """Sigma is S0 / snr, or that of repeated unweighted measurements; SequenceError if none is."""
    _refuse_unfit(path, acquisition, magnitude, relative)
    unweighted = torch.ones_like(magnitude)
    # Whatever attenuations are relative to, divided by their own mean at small b > 0 they are
    # relative to that.
    if not relative or acquisition.reference is not None:
        unweighted = _unweighted(path, magnitude, acquisition)
    usable = _usable(path, magnitude, unweighted, voxel)
    magnitude, unweighted = magnitude[usable], unweighted[usable]
    if snr is None:
        sigma = torch.full_like(magnitude[:, 0], _repeated(path, acquisition, magnitude))
    else:
        sigma = unweighted.mean(1) / snr
    return _Measured(usable, magnitude, unweighted, sigma)


def _refuse_unfit(path: Path, acquisition: Acquisition, magnitude: Tensor, relative: bool) -> None:
    """SequenceError if a signal cannot be that of the acquisition, or says nothing."""
    free = acquisition.unweighted
    if magnitude.shape[1] != len(acquisition):
        raise SequenceError(
            f"{path}: {magnitude.shape[1]} measurements, but its acquisition has "
            f"{len(acquisition)}. Give the acquisition this signal was measured with."
        )
    if bool(free.all()):
        raise SequenceError(
            f"{path}: no measurement is diffusion-weighted (b > "
            f"{b_to_s_per_mm2(acquisition.unweighted_below):g} s/mm^2), so it says nothing of the "
            "tissue. Give the whole series, or lower the b0-threshold."
        )
    low, high = UNIT_RANGE
    if (
        relative
        and bool(free.any())
        and not low < (mean := float(magnitude[:, free].mean())) < high
    ):
        raise SequenceError(
            f"{path}: the attenuation at b = 0 is {mean:g}, but it is 1 by definition. "
            "Name the column `signal` if it holds magnitudes, or repair S0."
        )


def _repeated(path: Path, acquisition: Acquisition, magnitude: Tensor) -> float:
    """Pooled standard deviation of equal unweighted measurements; ConfigError if too few."""
    square, degrees = 0.0, 0
    shell = b_to_s_per_mm2(acquisition.b_value).round()
    kind = torch.stack([acquisition.timing.double(), shell], 1)
    for one in torch.unique(kind[acquisition.unweighted], dim=0):
        values = magnitude[:, acquisition.unweighted & (kind == one).all(1)]
        square += float((values - values.mean(1, keepdim=True)).square().sum())
        degrees += len(values) * (values.shape[1] - 1)
    if degrees < ENOUGH_REPEATS or square == 0:
        what = "all equal" if degrees >= ENOUGH_REPEATS else "too few"
        raise ConfigError(
            f"{path}: the repeated unweighted measurements are {what}, so their noise is unknown "
            f"({degrees + 1} of one kind; {ENOUGH_REPEATS + 1} are needed). Give `snr`, the "
            "unweighted signal's signal-to-noise ratio (inf for none)."
        )
    return math.sqrt(square / degrees)


def _usable(
    path: Path, magnitude: Tensor, reference: Tensor, voxel: Tensor | None
) -> Bool[Tensor, " voxel"]:
    """Rows without a fault; the others are counted in the log. SequenceError if none is left."""
    faults = {
        "not finite": ~torch.isfinite(magnitude),
        "negative": magnitude < 0,
        "without unweighted signal": ~(reference > 0),
        f"above {MOST_ATTENUATION:g} times the unweighted signal": magnitude
        > MOST_ATTENUATION * reference,
    }
    faults = {what: wrong for what, wrong in faults.items() if bool(wrong.any())}
    usable = ~sum(faults.values(), torch.zeros_like(magnitude, dtype=torch.bool)).any(1)
    if not bool(usable.any()):
        what, wrong = next(iter(faults.items()))
        row, column = wrong.nonzero()[0].tolist()
        place = "" if voxel is None else f" of voxel {tuple(voxel[row].tolist())}"
        raise SequenceError(
            f"{path}: measurement {column}{place} is {what}; attenuation needs magnitudes >= 0 and "
            "S0 > 0. Choose another voxel or mask, or repair the file."
        )
    if faults and voxel is not None:
        each = ", ".join(f"{int(wrong.any(1).sum())} {what}" for what, wrong in faults.items())
        first = tuple(voxel[~usable][0].tolist())
        count = f"{int((~usable).sum())} of {len(voxel)}"
        LOGGER.warning("%s: %s voxels are left out (first: %s): %s.", path, count, first, each)
    return usable


def _unweighted(
    path: Path, magnitude: Tensor, acquisition: Acquisition
) -> Float[Tensor, "voxel measurement"]:
    """S0 of each measurement: the mean unweighted signal of its echo time."""
    unweighted, same = acquisition.unweighted, same_echo(acquisition)
    if not bool(unweighted.any()):
        raise SequenceError(
            f"{path}: no unweighted measurement (b <= "
            f"{b_to_s_per_mm2(acquisition.unweighted_below):g} s/mm^2), so S0 is unknown. Raise "
            "the b0-threshold, or give a csv with a column `attenuation` instead."
        )
    alone = ~(same & unweighted).any(1)
    if bool(alone.any()):
        first, echo = int(alone.nonzero()[0]), acquisition.durations("echo_time")
        times = ", ".join(f"{t:g}" for t in torch.unique(echo[unweighted]).tolist())
        raise SequenceError(
            f"{path}: measurement {first} has echo time {float(echo[first]):g} ms, but unweighted "
            f"measurements only {times} ms, and T2 would count as diffusion. Without a given echo "
            "time it is the pulses' end: give TE if it is the same for all."
        )
    reference = torch.zeros_like(magnitude)
    for rows in torch.unique(same, dim=0):
        reference[:, rows] = magnitude[:, rows & unweighted].mean(1, keepdim=True)
    return reference
