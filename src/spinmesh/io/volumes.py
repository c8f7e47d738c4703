"""Volumes: NIfTI series of measurements and masks; labels of NIfTI, Zarr and TIFF."""

from __future__ import annotations

import gzip
import html
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from spinmesh.errors import ConfigError, SequenceError, StoreError
from spinmesh.files.reading import reading
from spinmesh.grid import Grid

# What it finds wrong with a header and mends is of no use to a user.
nib.imageglobals.logger.setLevel("CRITICAL")
# Images of one space agree to this (mm) in every entry of their affine.
SAME_SPACE = 1e-3
# Deflate cannot shrink data by more than this.
MOST_DEFLATED = 1032
CHUNK = 1 << 24  # bytes
MOST_LABELS = 2**31
MOST_VOXELS = 500_000_000  # of a label volume that is read
# um of the units that headers name; a NIfTI header that names none is in mm.
UM = {
    **dict.fromkeys(("meter", "metre", "m"), 1e6),
    **dict.fromkeys(("millimeter", "millimetre", "mm"), 1e3),
    **dict.fromkeys(
        ("micrometer", "micrometre", "micron", "microns", "um", "\u00b5m", "\u03bcm"), 1.0
    ),
    **dict.fromkeys(("nanometer", "nanometre", "nm"), 1e-3),
    "angstrom": 1e-4,
}
# Attributes in which Zarr arrays without OME-NGFF say how large voxels are, in the order of axes.
VOXEL_SIZES = ("voxel_size_um", "element_size_um", "voxel_size", "resolution", "spacing")
LABELS = "labels"  # of an OME-NGFF image
# Tags of a TIFF page.
PHOTOMETRIC, DESCRIPTION, X_RESOLUTION, Y_RESOLUTION = 262, 270, 282, 283


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


def read_labels(
    path: str | Path, scale_to_um: float | None = None
) -> tuple[Int[ndarray, "x y z"], Float[ndarray, "4 4"]]:
    """Label of each voxel of a 3-D volume, and the affine from indices to um.

    NIfTI, a Zarr array or group (OME-NGFF or one array), or a TIFF stack. `scale_to_um` multiplies
    lengths, and is the side of the voxels where the file does not say it. Raises ConfigError for
    values that are not whole numbers from 0, another number of axes, or no size of voxels.
    """
    path = Path(path)
    read = _zarr_labels if path.is_dir() else _nifti_labels
    if path.suffix.lower() in (".tif", ".tiff"):
        read = _tiff_labels
    values, affine, doubt = read(path)
    if len(values.shape) != 3 or values.dtype.kind not in "biuf":
        raise ConfigError(f"{path}: shape {values.shape}; a label volume has 3 axes and numbers.")
    with np.errstate(invalid="ignore"):
        wrong = ~((values >= 0) & (values < MOST_LABELS) & (values == np.round(values)))
    if wrong.any():
        first = tuple(int(index) for index in np.argwhere(wrong)[0])
        raise ConfigError(
            f"{path}: voxel {first} is {values[first]}; labels are whole numbers from 0, below "
            f"{MOST_LABELS:,}. Is it an image and not a segmentation?"
        )
    if doubt and scale_to_um is None:
        raise ConfigError(
            f"{path}: {doubt}. Give --scale-to-um, or write it into the file (Zarr: "
            f"{VOXEL_SIZES[0]}; ImageJ: Properties)."
        )
    affine[:3] *= scale_to_um or 1.0
    return values.astype(np.int64), affine


Volume = tuple[ndarray, ndarray, str]


def _nifti_labels(path: Path) -> Volume:
    image = _image(path)
    shape = image.shape[:3] if image.shape[3:] in ((), (1,)) else image.shape
    with reading(path, "NIfTI image"):
        _refuse_damaged_gzip(path)
        values = np.asarray(image.dataobj).reshape(shape)
        unit = str(cast(nib.nifti1.Nifti1Header, image.header).get_xyzt_units()[0])
    affine = affine_of(path)
    affine[:3] *= UM.get(unit, UM["mm"])
    return values, affine, ""


def _question_size(path: Path, shape: Sequence[int]) -> None:
    if math.prod(shape) > MOST_VOXELS:
        raise ConfigError(f"{path}: shape {shape}; {MOST_VOXELS:,} voxels are read. Crop it.")


def _sized(
    path: Path, sides: Sequence[float] | None, units: Sequence[str | None]
) -> tuple[ndarray, str]:
    """The affine of voxels of these sides along x, y, z, and what is not known of it, if anything.

    What is not known is taken for 1, or um. Raises ConfigError for unknown units.
    """
    if sides is None:
        return np.eye(4), "does not say how large its voxels are: give the side of one in um"
    said = ", ".join(f"{side} {unit or '?'}" for side, unit in zip(sides, units, strict=False))
    lost = [unit for unit in units if unit is not None and unit.lower() not in UM]
    if lost or len(sides) != 3 or not all(0 < float(side) < np.inf for side in sides):
        raise ConfigError(f"{path}: voxels of {said}; give three sides > 0 in um, nm or mm.")
    um = [side * UM[(unit or "um").lower()] for side, unit in zip(sides, units, strict=True)]
    doubt = f"does not name the unit of its voxels of {said}: 1 is um, 1e-3 nm"
    return np.diag([*um, 1.0]), doubt if None in units else ""


def _zarr_labels(path: Path) -> Volume:
    """The array of a Zarr store: of OME-NGFF the finest, of its labels where an image has some."""
    import zarr

    with reading(path, "Zarr label volume"):
        node: Any = zarr.open(path, mode="r")
        about: dict[str, Any] = dict(node.attrs)
        about = about.get("ome", about)
        if isinstance(node, zarr.Group) and LABELS in node:
            inside: Any = node[LABELS]
            name = _only(path, "label volumes", sorted(inside.group_keys()))
            return _zarr_labels(path / LABELS / name)
        if isinstance(node, zarr.Group) and "multiscales" in about:
            return _multiscale(path, node, about["multiscales"][0])
        if isinstance(node, zarr.Group):
            arrays = {name: array for name, array in node.arrays() if array.ndim >= 3}
            node = arrays[_only(path, "arrays of 3 axes", sorted(arrays))]
        about |= dict(node.attrs)
        axes: Any = node.metadata.to_dict().get("dimension_names")
        axes = axes or about.get("_ARRAY_DIMENSIONS") or ["x", "y", "z"]
        size = next((key for key in VOXEL_SIZES if key in about), "")
        unit = about.get("voxel_unit", about.get("units", about.get("unit")))
        unit = "um" if size.endswith("_um") else unit
        return _in_order(path, node, axes, _three(about.get(size)), _three(unit) or [None] * 3)


def _only(path: Path, what: str, names: Sequence[str]) -> str:
    if len(names) != 1:
        shown = ", ".join(names[:5]) or "none"
        raise ConfigError(f"{path}: {len(names)} {what} ({shown}). Give the path of one within it.")
    return names[0]


def _three(value: Any) -> Any:
    return value if value is None or isinstance(value, list | tuple) else [value] * 3


def _multiscale(path: Path, group: Any, about: Mapping[str, Any]) -> Volume:
    """The first data set of an OME-NGFF image, with its scale."""
    finest = about["datasets"][0]
    array = group[finest["path"]]
    axes = [each if isinstance(each, dict) else {"name": each} for each in about.get("axes", "")]
    axes = axes or [{"name": name} for name in "tczyx"[-array.ndim :]]
    steps = [
        *finest.get("coordinateTransformations", ()),
        *about.get("coordinateTransformations", ()),
    ]
    scales = [each["scale"] for each in steps if each["type"] == "scale"]
    sides = np.prod(scales, axis=0).tolist() if scales else None
    names = [axis["name"] for axis in axes]
    return _in_order(path, array, names, sides, [axis.get("unit") for axis in axes])


def _in_order(
    path: Path, array: Any, axes: Sequence[str], sides: Any, units: Sequence[str | None]
) -> Volume:
    """Values with the axes x, y, z, and their affine; other axes have one place each."""
    _question_size(path, array.shape)
    space = [list(axes).index(name) for name in "xyz" if name in axes]
    if len(space) != 3 or len(axes) != array.ndim:
        raise ConfigError(f"{path}: axes {', '.join(axes)} of shape {array.shape}; x, y, z needed.")
    others = [axis for axis in range(array.ndim) if axis not in space]
    if any(array.shape[axis] != 1 for axis in others):
        raise ConfigError(f"{path}: shape {array.shape}; a label volume has 3 axes. Give one time.")
    values = (
        np.asarray(array[...]).transpose(*space, *others).reshape(*(array.shape[i] for i in space))
    )
    if sides is not None and len(sides) == array.ndim:
        sides, units = [sides[axis] for axis in space], [units[axis] for axis in space]
    sides = None if sides is None else [float(side) for side in sides]
    return values, *_sized(path, sides, units)


def _tiff_labels(path: Path) -> Volume:
    """Pages are z, rows y, columns x; sizes are those of ImageJ or of OME."""
    from PIL import Image, ImageSequence

    with reading(path, "TIFF stack"), Image.open(path) as image:
        tags, pages = image.tag_v2, getattr(image, "n_frames", 1)  # type: ignore[attr-defined]
        _question_size(path, (*image.size, pages))
        # Pillow reads it as Latin-1; writers mean UTF-8, with escapes of XML or Java.
        text = str(tags.get(DESCRIPTION, "")).encode("latin-1", "replace").decode(errors="replace")
        words = html.unescape(re.sub(r"\\u([0-9A-Fa-f]{4})", r"&#x\1;", text))
        many = re.findall(r'\b(?:channels|frames)=(\d+)|\bSize[CT]="(\d+)"', words)
        if any(int(a or b) > 1 for a, b in many):
            raise ConfigError(f"{path}: has channels or times; labels have 3 axes. Save one alone.")
        if any(int(count) != pages for count in re.findall(r"^images=(\d+)", words, re.M)):
            raise ConfigError(
                f"{path}: {pages} pages of the stack's are there. Save it as BigTIFF."
            )
        values = np.stack([np.asarray(page) for page in ImageSequence.Iterator(image)])
        if tags.get(PHOTOMETRIC) == 0 and image.mode in ("1", "L"):
            values = ~values  # Pillow turns round what is shown with 0 as white.
        values = values.transpose(2, 1, 0, *range(3, values.ndim))
        ome = [
            re.findall(rf'\bPhysicalSize{axis}(Unit)?="([^"]*)"', words) for axis in ("X", "Y", "Z")
        ]
        if all(ome):
            axes = [{bool(unit): value for unit, value in pairs} for pairs in ome]
            units = [axis.get(True, "um") for axis in axes]
            return values, *_sized(path, [float(axis[False]) for axis in axes], units)
        unit, depth = (re.search(rf"^{key}=(\S+)", words, re.M) for key in ("unit", "spacing"))
        if unit is None or depth is None or unit[1].lower() not in UM:
            return values, *_sized(path, None, ())
        plane = [1 / float(tags[tag]) for tag in (X_RESOLUTION, Y_RESOLUTION)]
        return values, *_sized(path, [*plane, float(depth[1])], [unit[1]] * 3)


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
