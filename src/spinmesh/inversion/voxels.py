"""What every voxel of a mask measured."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from spinmesh.inversion.target import Target
from spinmesh.sequence import Acquisition


@dataclass(frozen=True, eq=False)
class Grid:
    """A NIfTI image's lattice: its size, and voxel index to scanner coordinates (mm)."""

    shape: tuple[int, int, int]
    affine: Float[Tensor, "4 4"]


@dataclass(frozen=True, eq=False)
class VoxelTargets:
    """Attenuations and noise of some voxels of a grid, `voxel` being their indices."""

    grid: Grid
    voxel: Int[Tensor, "voxel axis"]
    acquisition: Acquisition
    attenuation: Float[Tensor, "voxel measurement"]
    sigma: Float[Tensor, " voxel"]

    def __len__(self) -> int:
        return len(self.voxel)

    def target(self, index: int) -> Target:
        """What one voxel measured."""
        return Target(self.acquisition, self.attenuation[index], float(self.sigma[index]))

    def shard(self, number: int, count: int) -> VoxelTargets:
        """Every `count`-th voxel from `number` on, so that shards cost alike; may be empty."""
        own = slice(number, None, count)
        return VoxelTargets(
            self.grid, self.voxel[own], self.acquisition, self.attenuation[own], self.sigma[own]
        )
