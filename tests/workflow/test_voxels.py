"""Every voxel of a tiny image as scattered jobs, gathered into maps."""

from __future__ import annotations

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
import xarray as xr

from spinmesh.bodies import simulate
from spinmesh.io.acquisitions import read_acquisition
from spinmesh.mesh import SweptDisk, swept_disk
from spinmesh.tissue import Tissue
from tests.workflow.conftest import Run, Workspace

pytestmark = pytest.mark.slow

RADII = {(0, 0, 0): 1.6, (0, 1, 0): 2.4, (1, 1, 0): 2.0}
MAPS = "results/tiny/reconstruct/maps.nii.gz"


@pytest.fixture(scope="module")
def workspace(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A copy of the tiny run, with a 2 x 2 x 1 image of three straight cylinders, and a mask."""
    root = tmp_path_factory.mktemp("voxels") / "copy"
    copy = Workspace(shutil.copytree(run.workspace.root, root))
    tiny = copy.root / "config/test"
    files = {"bvals": str(tiny / "tiny.bval"), "bvecs": str(tiny / "tiny.bvec")}
    acquisition = read_acquisition(**files, delta_ms=8.0, Delta_ms=str(tiny / "tiny.Delta"))
    data, mask = np.zeros((2, 2, 1, len(acquisition))), np.zeros((2, 2, 1))
    for voxel, radius in RADII.items():
        mesh = swept_disk(SweptDisk(rings=1, layers=6, radius_um=radius, length_um=12.0))
        signals = simulate(mesh, Tissue.uniform(2.0), acquisition)
        data[voxel], mask[voxel] = 700 * signals.attenuation[0].numpy(), 1
    for name, values in (("dwi", data), ("mask", mask), ("none", 0 * mask)):
        path = copy.root / f"config/{name}.nii.gz"
        nib.Nifti1Image(values, np.diag([2.0, 2.0, 3.0, 1.0])).to_filename(path)
    return copy


def config(workspace: Workspace, mask: str = "config/mask.nii.gz") -> str:
    """The tiny configuration with that image's voxels as its signal."""
    signal = {"nifti": "config/dwi.nii.gz", "mask": mask, "shards": 2, "snr": 200.0}
    return workspace.with_values({"reconstruct.signal": signal})


def test_mask_adds_the_scattered_rules_to_the_plan(workspace: Workspace) -> None:
    planned = workspace.plan(config(workspace))
    assert {"reconstruct_voxels", "gather_voxels", "read_signal"} <= planned
    # The image's axes turn its bvecs, so signals are simulated again; shapes are not learnt again.
    assert "simulate_shard" in planned and "train_shape_model" not in planned


def test_empty_mask_stops_the_run_before_any_job(workspace: Workspace) -> None:
    done = workspace.snakemake(config=config(workspace, "config/none.nii.gz"))
    assert done.returncode != 0 and "the mask is empty" in done.stdout, done.stdout
    assert not (workspace.results / "reconstruct/measured.zarr").exists()


def test_maps_of_a_tiny_image(workspace: Workspace) -> None:
    done = workspace.snakemake(MAPS, config=config(workspace))
    assert done.returncode == 0, done.stdout
    image = nib.load(workspace.root / MAPS)
    values = np.asarray(image.dataobj)
    names = json.loads((workspace.root / MAPS.replace(".nii.gz", ".json")).read_text())["volumes"]
    radius = values[..., [row["name"] for row in names].index("mean_radius")]
    assert radius.shape == (2, 2, 1) and radius[1, 0, 0] == 0, "outside the mask"
    # The tiny model and its four iterations tell thick from thin, no more.
    assert radius[0, 0, 0] < radius[0, 1, 0]
    store = xr.open_zarr(workspace.results / "reconstruct/voxels.zarr")
    assert store.attrs["schema"] == "spinmesh/shape_maps"
    assert [tuple(row) for row in store["voxel"].values.tolist()] == list(RADII)
    assert [row["name"] for row in names] == [
        store["names"].attrs["flag_meanings"][code] for code in store["names"].values
    ]
    column = [row["name"] for row in names].index("mean_radius")
    np.testing.assert_allclose(
        store["numbers"].values[:, column], [radius[voxel] for voxel in RADII], rtol=1e-6
    )
