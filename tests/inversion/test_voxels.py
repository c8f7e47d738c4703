"""Every voxel of an image by itself, in shards that are put together again."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from spinmesh.bloch_torrey import Signals
from spinmesh.bodies import simulate
from spinmesh.errors import SequenceError
from spinmesh.grid import Grid
from spinmesh.inversion import VOXEL_NUMBERS, ShapeMaps, VoxelTargets, reconstruct_voxels
from spinmesh.io.codec import gather
from spinmesh.io.targets import read_voxels
from spinmesh.mesh import SweptDisk, swept_disk
from spinmesh.settings.reconstruct import Reconstruct
from spinmesh.shapes import ShapeModel
from spinmesh.tissue import Tissue

RADII = {(0, 0, 0): 1.2, (0, 1, 0): 1.8, (1, 1, 0): 1.5}
SETTINGS = Reconstruct(starts=1, iterations=6, samples=16)
TISSUE = Tissue.uniform(2.0)


@pytest.fixture
def targets(tmp_path: Path, acquisition) -> VoxelTargets:
    """Straight cylinders of three radii in a 2 x 2 x 1 image whose fourth voxel is masked out."""
    data, mask = np.zeros((2, 2, 1, len(acquisition))), np.zeros((2, 2, 1))
    for voxel, radius in RADII.items():
        mesh = swept_disk(SweptDisk(rings=2, layers=8, radius_um=radius, length_um=11.0))
        data[voxel] = 500 * simulate(mesh, TISSUE, acquisition).attenuation[0].numpy()
        mask[voxel] = 1
    for name, values in (("dwi", data), ("mask", mask)):
        nib.Nifti1Image(values, np.eye(4)).to_filename(tmp_path / f"{name}.nii.gz")
    return read_voxels(acquisition, tmp_path / "dwi.nii.gz", tmp_path / "mask.nii.gz", 1e4)


@pytest.mark.slow
def test_radius_map_shows_the_radii_of_the_voxels(targets, model: ShapeModel) -> None:
    maps = reconstruct_voxels(targets, model, TISSUE, SETTINGS, seed=0)
    column = list(VOXEL_NUMBERS).index
    for voxel, numbers in zip(maps.voxel.tolist(), maps.numbers, strict=True):
        # b = 12 ms/um^2 sees r = 1.2 um poorly: chi2 differs little; within a fifth.
        assert float(numbers[column("mean_radius")]) == pytest.approx(RADII[tuple(voxel)], rel=0.2)
        assert float(numbers[column("outside_family")]) == 0
    order = torch.argsort(maps.numbers[:, column("mean_radius")]).tolist()
    assert [tuple(maps.voxel[i].tolist()) for i in order] == sorted(RADII, key=RADII.__getitem__)


def test_shards_are_put_together_in_the_order_of_the_mask(model: ShapeModel, acquisition) -> None:
    count = 7
    voxel = torch.stack([torch.arange(count), torch.zeros(count), torch.zeros(count)], 1).long()
    attenuation = torch.ones((count, len(acquisition)), dtype=torch.float64)
    grid = Grid((7, 1, 1), torch.eye(4, dtype=torch.float64))
    sigma = torch.arange(1.0, 8.0, dtype=torch.float64) / 100
    whole = VoxelTargets(grid, voxel, acquisition, attenuation, sigma)
    for shards in (1, 2, 3, 9):
        parts = []
        for number in range(shards):
            own = whole.shard(number, shards)
            row = own.sigma[:, None]
            parts.append(ShapeMaps(grid, own.voxel, row.repeat(1, len(VOXEL_NUMBERS)), row))
        together = gather(parts, "voxel")
        assert torch.equal(together.voxel, voxel)
        assert torch.equal(together.latents[:, 0], sigma)


def test_voxel_without_any_valid_start_is_left_out_and_said(targets, model, caplog) -> None:
    folded = Reconstruct(minimum_volume=50.0)
    caplog.set_level("WARNING", "spinmesh")
    maps = reconstruct_voxels(targets.shard(0, 3), model, TISSUE, folded, seed=0)
    assert bool(maps.numbers.isnan().all()) and maps.voxel.tolist() == [[0, 0, 0]]
    assert "voxel [0, 0, 0]: no shape" in caplog.text


def test_training_signals_of_another_protocol_stop_before_the_first_voxel(targets, model) -> None:
    other = targets.acquisition.select(slice(0, 5))
    ones = torch.ones((1, 5), dtype=torch.float64)
    signals = Signals(other, ones.to(torch.complex128), ones)
    with pytest.raises(SequenceError, match="another protocol"):
        reconstruct_voxels(targets, model, TISSUE, SETTINGS, 0, signals)
