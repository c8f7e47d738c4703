"""Maps of shape numbers: a NIfTI for viewers, and their store."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
import xarray as xr

from spinmesh.inversion.maps import VOXEL_NUMBERS, ShapeMaps
from spinmesh.inversion.voxels import Grid
from spinmesh.io.store import Codec, write_text
from spinmesh.writing import complete_or_absent


def write_maps(maps: ShapeMaps, path: str | Path) -> None:
    """A 4-D NIfTI, one volume per number, and a .json beside it that names them in order.

    0 outside the mask, NaN where no shape was found; float32.
    """
    path = Path(path)
    values = np.zeros((*maps.grid.shape, len(VOXEL_NUMBERS)), dtype=np.float32)
    i, j, k = maps.voxel.numpy().T
    values[i, j, k] = maps.numbers.numpy()
    image = nib.nifti1.Nifti1Image(values, maps.grid.affine.numpy())
    image.header.set_xyzt_units("mm")
    with complete_or_absent(path) as partial:
        partial.write_bytes(_packed(image, path))
    names = [{"name": name, "units": units} for name, units in VOXEL_NUMBERS.items()]
    sidecar = path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".json")
    write_text(json.dumps({"volumes": names}, indent=1) + "\n", sidecar)


def _packed(image: nib.nifti1.Nifti1Image, path: Path) -> bytes:
    """The file's bytes; gzip without a time stamp, so that equal maps are equal files."""
    content = image.to_bytes()
    return gzip.compress(content, mtime=0) if path.suffix == ".gz" else content


def _encode(maps: ShapeMaps) -> xr.Dataset:
    one = {"units": "1"}
    variables = {
        "index": xr.Variable(("voxel", "axis"), maps.voxel.numpy(), one),
        "latents": xr.Variable(("voxel", "latent"), maps.latents.numpy(), one),
        "affine": xr.Variable(("row", "column"), maps.grid.affine.numpy(), {"units": "mm"}),
    }
    for number, (name, units) in enumerate(VOXEL_NUMBERS.items()):
        values = maps.numbers[:, number].numpy()
        variables[name] = xr.Variable(("voxel",), values, {"units": units})
    return xr.Dataset(variables, attrs={"grid_shape": list(maps.grid.shape)})


def _decode(dataset: xr.Dataset) -> ShapeMaps:
    tensors = {str(k): torch.from_numpy(np.array(v)) for k, v in dataset.data_vars.items()}
    i, j, k = dataset.attrs["grid_shape"]
    return ShapeMaps(
        Grid((i, j, k), tensors["affine"]),
        tensors["index"],
        torch.stack([tensors[name] for name in VOXEL_NUMBERS], 1),
        tensors["latents"],
    )


CODECS = (Codec(ShapeMaps, "spinmesh/shape_maps", 1, "reconstruct", _encode, _decode),)
