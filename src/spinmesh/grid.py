"""The lattice of an image."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from spinmesh.stored import quantity


@dataclass(frozen=True, eq=False)
class Grid:
    """A NIfTI image's lattice: its size, and voxel index to scanner coordinates (mm)."""

    shape: tuple[int, int, int]
    affine: Float[Tensor, "4 4"] = quantity("mm")
