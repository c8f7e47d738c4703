"""NIfTI images: series of measurements, and masks on the same grid."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from spinmesh.errors import ConfigError, SequenceError, StoreError
from spinmesh.grid import Grid
from spinmesh.reading import reading

# What it finds wrong with a header and mends is of no use to a user.
nib.imageglobals.logger.setLevel("CRITICAL")
# Images of one space agree to this (mm) in every entry of their affine.
SAME_SPACE = 1e-3
# Deflate cannot shrink data by more than this.
MOST_DEFLATED = 1032
CHUNK = 1 << 24  # bytes
MOST_LABELS = 2**31
# um of the units that a NIfTI header may name; where it names none, it is mm.
UM = {"meter": 1e6, "mm": 1e3, "micron": 1.0}


def grid_of(path: str | Path) -> Grid:
    """The lattice of a 4-D image; SequenceError if it has another number of axes."""
    shape = _image(path).shape
    if len(shape) != 4:
        raise SequenceError(
            f"{path}: image of shape {shape}; a diffusion series has 4 axes. Reshape it."
        )
    return Grid(shape[:3], torch.from_numpy(affine_of(path)))


def affine_of(path: str | Path) -> Float[ndarray, "4 4"]:
    """Voxel indices to scanner coordinates (mm); SequenceError if it is singular."""
    affine = np.array(_image(path).affine, dtype=np.float64)
    if not (np.isfinite(affine).all() and np.linalg.det(affine[:3, :3]) != 0):
        raise SequenceError(f"{path}: its affine is singular or not finite. Repair the header.")
    return affine


def read_series(
    path: str | Path, voxel: Int[Tensor, "voxel axis"]
) -> Float[Tensor, "voxel measurement"]:
    """The measurements of some voxels; ConfigError if one lies outside the image."""
    shape = grid_of(path).shape
    outside = (voxel < 0) | (voxel >= torch.tensor(shape))
    if bool(outside.any()):
        first = tuple(voxel[outside.any(1)][0].tolist())
        raise ConfigError(
            f"{path}: voxel {first} is not inside {shape}. Give indices i,j,k counted from 0."
        )
    image, low, high = _image(path), torch.amin(voxel, 0), torch.amax(voxel, 0) + 1
    with reading(path, "NIfTI image"):
        box = [slice(*ends) for ends in torch.stack([low, high], 1).tolist()]
        i, j, k = (voxel - low).numpy().T
        _refuse_damaged_gzip(path)
        signal = np.asarray(image.dataobj[tuple(box)])[i, j, k]
        # Complex series are taken by magnitude, before anything is averaged.
        magnitude = np.abs(signal) if np.iscomplexobj(signal) else signal
        return torch.from_numpy(magnitude.astype(np.float64))


def read_mask(path: str | Path, grid: Grid) -> Int[Tensor, "voxel axis"]:
    """Indices of the voxels where a mask on the same grid is above 0.5.

    Raises ConfigError if it is empty, or of another shape or place than the series.
    """
    image = _image(path)
    shape = image.shape[:3] if image.shape[3:] in ((), (1,)) else image.shape
    if shape != grid.shape:
        raise ConfigError(
            f"{path}: mask of shape {shape} for a series of shape {grid.shape}. Resample the mask "
            "to the series."
        )
    if not np.allclose(image.affine, grid.affine.numpy(), rtol=0, atol=SAME_SPACE):
        raise ConfigError(
            f"{path}: the mask's affine is not that of the series, so they may lie elsewhere. "
            "Resample the mask to the series."
        )
    with reading(path, "NIfTI image"):
        _refuse_damaged_gzip(path)
        inside = np.argwhere(np.asarray(image.dataobj).reshape(shape) > 0.5)
    if len(inside) == 0:
        raise ConfigError(f"{path}: the mask is empty (no voxel above 0.5). Give another mask.")
    return torch.from_numpy(inside.astype(np.int64))


def _refuse_damaged_gzip(path: str | Path) -> None:
    """Read to the end, where the checksum is: nibabel stops before it."""
    if str(path).endswith(".gz"):
        with gzip.open(path) as stream:
            while stream.read(CHUNK):
                pass


def read_labels(path: str | Path) -> tuple[Int[ndarray, "x y z"], Float[ndarray, "4 4"]]:
    """Label of each voxel of a 3-D image, and the affine from indices to um.

    Raises ConfigError for values that are not whole numbers from 0, or another number of axes.
    """
    image = _image(path)
    shape = image.shape[:3] if image.shape[3:] in ((), (1,)) else image.shape
    with reading(path, "NIfTI image"):
        _refuse_damaged_gzip(path)
        values = np.asarray(image.dataobj).reshape(shape)
        unit = str(cast(nib.nifti1.Nifti1Header, image.header).get_xyzt_units()[0])
    if len(shape) != 3 or values.dtype.kind not in "biuf":
        raise ConfigError(f"{path}: shape {shape}; a label volume has 3 axes and numbers.")
    with np.errstate(invalid="ignore"):
        wrong = ~((values >= 0) & (values < MOST_LABELS) & (values == np.round(values)))
    if wrong.any():
        first = tuple(int(index) for index in np.argwhere(wrong)[0])
        raise ConfigError(
            f"{path}: voxel {first} is {values[first]}; labels are whole numbers from 0, below "
            f"{MOST_LABELS:,}. Is it an image and not a segmentation?"
        )
    affine = affine_of(path)
    affine[:3] *= UM.get(unit, UM["mm"])
    return values.astype(np.int64), affine


def _image(path: str | Path) -> nib.spatialimages.SpatialImage:
    with reading(path, "NIfTI image"):
        image = cast(nib.spatialimages.SpatialImage, nib.load(path))
        size = math.prod(image.shape) * image.get_data_dtype().itemsize
        size += getattr(image.dataobj, "offset", 0)
        most = Path(path).stat().st_size * (MOST_DEFLATED if str(path).endswith(".gz") else 1)
    if min(image.shape, default=0) < 1 or size > most:
        raise StoreError(
            f"{path}: its header promises {size:,} bytes of shape {image.shape}; the file is "
            "truncated or damaged. Export or copy it again."
        )
    return image
