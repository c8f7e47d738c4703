"""Phantoms: a BIDS folder (NIfTI, bval, bvec, JSON) for any dMRI tool."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy import ndarray
from torch import Tensor

from spinmesh.io.acquisitions import fsl_axes
from spinmesh.phantom import Phantom
from spinmesh.provenance import package_version
from spinmesh.units import b_to_s_per_mm2, s_from_ms
from spinmesh.writing import complete_or_absent

BIDS_VERSION = "1.10.0"


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


def _write_image(values: Tensor, affine: ndarray, stem: Path) -> None:
    """A float32 NIfTI whose qform and sform are the field's affine, in mm and seconds."""
    image = nib.Nifti1Image(values.numpy().astype(np.float32), affine)
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    image.header.set_xyzt_units("mm", "sec")
    # Without a name and a time in the gzip header equal values are equal bytes.
    image.to_filename(stem.with_name(stem.name + ".nii.gz"))


def _description(kind: str) -> dict[str, Any]:
    return {
        "Name": "spinmesh phantom",
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
