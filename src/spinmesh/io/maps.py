"""Maps of shape numbers as a NIfTI for viewers."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np

from spinmesh.inversion import VOXEL_NUMBERS, ShapeMaps
from spinmesh.writing import complete_or_absent, write_text


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
    content = image.to_bytes()
    with complete_or_absent(path) as partial:
        # Without a time stamp, so that equal maps are equal files.
        partial.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    names = [{"name": name, "units": units} for name, units in VOXEL_NUMBERS.items()]
    sidecar = path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".json")
    write_text(json.dumps({"volumes": names}, indent=1) + "\n", sidecar)
