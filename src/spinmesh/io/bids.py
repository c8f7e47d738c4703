"""Diffusion series and maps as BIDS folders: NIfTI, bval, bvec, JSON."""

from __future__ import annotations

import gzip
import json
import math
import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy import ndarray
from torch import Tensor

from spinmesh.errors import ConfigError
from spinmesh.files.writing import complete_or_absent, write_text
from spinmesh.grid import Grid
from spinmesh.inversion import VOXEL_NUMBERS, ShapeMaps
from spinmesh.io.acquisitions import fsl_axes, read_acquisition
from spinmesh.io.targets import read_voxels
from spinmesh.maps import MapModel, PosteriorMaps, posterior_maps
from spinmesh.maps.model import DETERMINED, FLAGS, QUANTILES
from spinmesh.phantom import Phantom
from spinmesh.provenance import package_version
from spinmesh.units import b_to_s_per_mm2, s_from_ms

BIDS_VERSION = "1.10.0"


def series_files(path: str | Path) -> dict[str, str]:
    """The image of a series and, under the keys of `AcquisitionFiles`, what lies beside it.

    `path` is a NIfTI, or a BIDS folder with one series `*_dwi.nii` or `*_dwi.nii.gz`; a sidecar
    may also be at the top, as `dwi.json`. Raises ConfigError if there is no series, or several.
    """
    path = Path(path)
    image = _only_series(path) if path.is_dir() else path
    if not image.name.endswith((".nii", ".nii.gz")):
        raise ConfigError(f"{path}: unknown kind of file. Give a .nii, .nii.gz or a BIDS folder.")
    stem = image.with_name(image.name.removesuffix(".gz").removesuffix(".nii"))
    beside = {
        "bvals": [stem.with_name(stem.name + ".bval")],
        "bvecs": [stem.with_name(stem.name + ".bvec")],
        "sidecar": [stem.with_name(stem.name + ".json"), path / "dwi.json"],
    }
    there = {key: next(filter(Path.is_file, files), None) for key, files in beside.items()}
    return {"image": str(image)} | {key: str(file) for key, file in there.items() if file}


def map_series(
    model: MapModel,
    path: str | Path,
    mask: str | Path | None = None,
    snr: float | None = None,
    device: str = "cpu",
    **files: Any,
) -> tuple[PosteriorMaps, str]:
    """The posterior of every voxel of a series, and its image.

    `files` replace what lies beside the image, a `scheme` all of it; mask and `snr` as in
    `read_voxels`. Raises what `read_acquisition`, `read_voxels` and `posterior_maps` do.
    """
    beside = series_files(path)
    image = beside["image"]
    acquisition = read_acquisition(**(files if "scheme" in files else beside | files))
    targets = read_voxels(acquisition, image, mask, snr)
    given = (targets.grid, targets.voxel, targets.attenuation, targets.sigma)
    return posterior_maps(model, acquisition, *given, device), image


def _only_series(folder: Path) -> Path:
    series = sorted(
        file
        for file in folder.rglob("*_dwi.nii*")
        if "derivatives" not in file.relative_to(folder).parts
    )
    if len(series) != 1:
        names = ", ".join(str(file.relative_to(folder)) for file in series[:5]) or "none"
        raise ConfigError(
            f"{folder}: {len(series)} diffusion series ({names}). Give the path of one of them."
        )
    return series[0]


def write_posterior(maps: PosteriorMaps, folder: str | Path, source: str | Path) -> None:
    """A BIDS derivative: for each quantity median, 10 %, 90 % and shrinkage, and the flags.

    Outside the mask 0, NaN where the posterior is not answered. `source` is the image that was
    read; its BIDS entities name the files. The folder is complete or absent.
    """
    answers, (low, _, high) = maps.answers, QUANTILES
    kinds = {
        "median": ("Posterior median.", answers.median),
        f"p{low * 100:.0f}": (f"Posterior quantile at {low:g}.", answers.low),
        f"p{high * 100:.0f}": (f"Posterior quantile at {high:g}.", answers.high),
        "shrinkage": (
            "Standard deviation of the posterior over that of the prior: near 1 the data say "
            f"nothing (above {DETERMINED:g}).",
            answers.shrinkage,
        ),
    }
    stem = Path(source).name.split(".nii")[0].removesuffix("_dwi")
    stem = stem if stem.startswith("sub-") else "sub-" + re.sub("[^A-Za-z0-9]", "", stem)
    with complete_or_absent(Path(folder)) as partial:
        target = partial / stem.split("_")[0] / "dwi"
        target.mkdir(parents=True)
        for number, (name, units) in enumerate(zip(maps.names, maps.units, strict=True)):
            label = re.sub("_(.)", lambda letter: letter[1].upper(), name)
            for kind, (words, values) in kinds.items():
                file = target / f"{stem}_model-spinmesh_param-{label}_desc-{kind}_dwimap"
                unit = "1" if kind == "shrinkage" else units
                about: dict[str, Any] = {"Description": words, "Units": unit}
                _write_map(maps, values[:, number], file, about | {"Sources": [str(source)]})
        about = {"Description": "Sum of flags; 0: answered.", "Flags": FLAGS}
        _write_map(maps, answers.flags, target / f"{stem}_model-spinmesh_desc-flags_dwimap", about)
        description = _description("derivative", "spinmesh posterior maps")
        _write_json(partial / "dataset_description.json", description)


def _write_map(maps: PosteriorMaps, values: Tensor, stem: Path, about: dict[str, Any]) -> None:
    whole = _on_grid(maps.grid, maps.voxel, values[:, None])[..., 0]
    _write_image(whole, maps.grid.affine.numpy(), stem)
    _write_json(stem.with_name(stem.name + ".json"), about)


def _on_grid(grid: Grid, voxel: Tensor, values: Tensor) -> ndarray:
    """Columns of numbers in an image, 0 outside the voxels; float32."""
    image = np.zeros((*grid.shape, values.shape[1]), dtype=np.float32)
    i, j, k = voxel.numpy().T
    image[i, j, k] = values.numpy()
    return image


def write_shape_maps(maps: ShapeMaps, path: str | Path) -> None:
    """A 4-D NIfTI, one volume per number, and a .json beside it that names them in order.

    0 outside the mask, NaN where no shape was found; float32.
    """
    path = Path(path)
    values = _on_grid(maps.grid, maps.voxel, maps.numbers)
    image = nib.nifti1.Nifti1Image(values, maps.grid.affine.numpy())
    image.header.set_xyzt_units("mm")
    content = image.to_bytes()
    with complete_or_absent(path) as partial:
        # Without a time stamp, so that equal maps are equal files.
        partial.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    names = [{"name": name, "units": units} for name, units in VOXEL_NUMBERS.items()]
    sidecar = path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".json")
    write_text(json.dumps({"volumes": names}, indent=1) + "\n", sidecar)


def write_bids(phantom: Phantom, folder: str | Path, label: str = "phantom") -> None:
    """A BIDS dataset: sub-<label>/dwi/sub-<label>_dwi.nii.gz, .bval, .bvec and .json.

    The truth (noise-free series, volume fractions, directions in world axes) is a derivative
    dataset inside. The folder is complete or absent.
    """
    with complete_or_absent(Path(folder)) as partial:
        stem = partial / f"sub-{label}/dwi/sub-{label}_dwi"
        stem.parent.mkdir(parents=True)
        affine, acquisition = phantom.field.affine.numpy(), phantom.acquisition
        _write_image(phantom.series, affine, stem)
        b = b_to_s_per_mm2(acquisition.b_value.numpy())
        np.savetxt(stem.with_suffix(".bval"), b[None], fmt="%.6g")
        # Along the image's own axes; `read_acquisition` with this image turns them back.
        vectors = acquisition.direction.numpy() @ fsl_axes(affine)
        np.savetxt(stem.with_suffix(".bvec"), vectors.T + 0.0, fmt="%.8f")
        _write_json(stem.with_suffix(".json"), _sidecar(phantom))
        _write_json(partial / "dataset_description.json", _description("raw"))
        (partial / "README").write_text(_README)
        _write_truth(phantom, partial / "derivatives/truth", label)


def _sidecar(phantom: Phantom) -> dict[str, Any]:
    """The JSON beside the series: BIDS names where there are some, times in seconds."""
    acquisition, times = phantom.acquisition, dict[str, list[Any]]()
    for name in ("delta", "Delta", "echo_time"):
        # null for a sequence that has no such time.
        values = s_from_ms(acquisition.durations(name)).tolist()
        times[name] = [None if math.isnan(value) else value for value in values]
    return {
        "Manufacturer": "spinmesh",
        "ManufacturersModelName": "finite-element simulation",
        "SoftwareVersions": package_version(),
        "EchoTime": max(times["echo_time"]),
        "EchoTimePerVolume": times["echo_time"],
        "SmallDelta": times["delta"],
        "LargeDelta": times["Delta"],
        "NumberOfVolumes": len(acquisition),
        "NoiseStandardDeviation": phantom.sigma,
        "Units": "arbitrary",
    }


def _write_truth(phantom: Phantom, folder: Path, label: str) -> None:
    field = phantom.field
    stem = folder / f"sub-{label}/dwi/sub-{label}_desc"
    stem.parent.mkdir(parents=True)
    _write_json(folder / "dataset_description.json", _description("derivative"))
    for name, values in {
        "noisefree_dwi": phantom.noise_free,
        "fractions_probseg": field.fractions,
        "directions_dwimap": field.direction.flatten(3),
    }.items():
        _write_image(values, field.affine.numpy(), stem.with_name(f"{stem.name}-{name}"))
    labels = {"LabelMap": list(field.materials)}
    _write_json(stem.with_name(f"{stem.name}-fractions_probseg.json"), labels)


def _write_image(values: Tensor | ndarray, affine: ndarray, stem: Path) -> None:
    """A float32 NIfTI whose qform and sform are the field's affine, in mm and seconds."""
    image = nib.Nifti1Image(np.asarray(values, dtype=np.float32), affine)
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    image.header.set_xyzt_units("mm", "sec")
    # Without a name and a time in the gzip header equal values are equal bytes.
    image.to_filename(stem.with_name(stem.name + ".nii.gz"))


def _description(kind: str, name: str = "spinmesh phantom") -> dict[str, Any]:
    return {
        "Name": name,
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": kind,
        "GeneratedBy": [{"Name": "spinmesh", "Version": package_version()}],
    }


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n")


_README = """A simulated diffusion series of spinmesh.

Bvecs follow FSL: along the image's axes, x reversed where the affine's determinant is positive.
derivatives/truth holds the series without noise, volume fractions, and the bundles' directions in
world axes (RAS), three numbers for each bundle.
"""
