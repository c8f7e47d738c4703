"""NIfTI images: series of measurements, and masks on the same grid."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from spinmesh.errors import ConfigError, SequenceError, StoreError
from spinmesh.inversion.voxels import Grid

# Images of one space agree to this (mm) in every entry of their affine.
SAME_SPACE = 1e-3


def grid_of(path: str | Path) -> Grid:
    """The lattice of a 4-D image; SequenceError if it has another number of axes."""
    image = _image(path)
    shape = image.shape
    if len(shape) != 4:
        raise SequenceError(f"{path}: image of shape {shape}; a diffusion series has 4 axes.")
    return Grid(shape[:3], torch.from_numpy(np.array(image.affine, dtype=np.float64)))


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
    values = _image(path).dataobj
    if len(voxel) == 1:
        i, j, k = voxel[0].tolist()
        return torch.from_numpy(np.array(values[i, j, k, :], dtype=np.float64)[None])
    i, j, k = voxel.numpy().T
    return torch.from_numpy(np.asarray(values)[i, j, k].astype(np.float64))


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
    inside = np.argwhere(np.asarray(image.dataobj).reshape(shape) > 0.5)
    if len(inside) == 0:
        raise ConfigError(f"{path}: the mask is empty (no voxel above 0.5). Give another mask.")
    return torch.from_numpy(inside.astype(np.int64))


def _image(path: str | Path) -> nib.spatialimages.SpatialImage:
    path = Path(path)
    if not path.is_file():
        raise StoreError(f"{path}: no such image. Check the path (from the folder of the run).")
    try:
        return cast(nib.spatialimages.SpatialImage, nib.load(path))
    except nib.filebasedimages.ImageFileError as error:
        raise StoreError(f"{path}: nibabel cannot read it ({error}). Export it again.") from error
