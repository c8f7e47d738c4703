"""Every voxel of a mask by itself: many targets in, maps of shape numbers out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spinmesh.bloch_torrey import Signals
from spinmesh.errors import ReductionError, SequenceError
from spinmesh.grid import Grid
from spinmesh.inversion.judgement import (
    DESCRIPTION,
    credibility,
    describe_posterior,
    posterior_shapes,
)
from spinmesh.inversion.search import reconstruct
from spinmesh.inversion.target import Target, refuse_other_protocol
from spinmesh.progress import LOGGER, progress
from spinmesh.sequence import Acquisition
from spinmesh.settings.reconstruct import Reconstruct
from spinmesh.shapes import ShapeModel
from spinmesh.stored import quantity, store
from spinmesh.tissue import Tissue

# The numbers of a voxel, with their units: posterior mean and standard deviation, then the fit.
VOXEL_NUMBERS = {
    **DESCRIPTION,
    **{f"{name}_sd": unit for name, unit in DESCRIPTION.items()},
    "chi2_per_measurement": "1",
    "misfit_probability": "1",
    "outside_family": "1",
    "data_determined": "1",
    "of_the_signal": "1",
}


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
        every = slice(number, None, count)
        rows = (self.attenuation[every], self.sigma[every])
        return VoxelTargets(self.grid, self.voxel[every], self.acquisition, *rows)


@store("spinmesh/shape_maps", version=3, stage="reconstruct")
@dataclass(frozen=True, eq=False)
class ShapeMaps:
    """`VOXEL_NUMBERS` of each voxel by name, and its latents; NaN where no shape was found."""

    grid: Grid
    voxel: Int[Tensor, "voxel axis"]
    numbers: Float[Tensor, "voxel number"] = quantity(", ".join(VOXEL_NUMBERS.values()))
    latents: Float[Tensor, "voxel latent"] = quantity()
    names: tuple[str, ...] = quantity(axis="number", default=tuple(VOXEL_NUMBERS))

    def __len__(self) -> int:
        return len(self.voxel)


def reconstruct_voxels(
    targets: VoxelTargets,
    model: ShapeModel,
    tissue: Tissue,
    settings: Reconstruct,
    seed: int,
    training_signals: Signals | None = None,
) -> ShapeMaps:
    """`reconstruct` for every voxel; one without signal or valid start is logged and left NaN."""
    if training_signals is not None:
        refuse_other_protocol(training_signals, targets.acquisition)
    numbers = torch.full((len(targets), len(VOXEL_NUMBERS)), torch.nan, dtype=torch.float64)
    latents = torch.full((len(targets), model.latents.shape[1]), torch.nan, dtype=torch.float64)
    for index in progress(range(len(targets)), "voxels"):
        try:
            target = targets.target(index)
            result = reconstruct(target, model, tissue, settings, seed, training_signals)
            shapes = posterior_shapes(result, model)
        except (ReductionError, SequenceError) as error:
            LOGGER.warning("voxel %s: no shape. %s", targets.voxel[index].tolist(), error)
            continue
        trust = credibility(result, model)
        mean, spread = zip(*describe_posterior(shapes).values(), strict=True)
        fit = (
            result.fit.chi2_per_measurement,
            trust.misfit_probability,
            float(trust.distance > trust.family_distance),
            float(result.fit.determined),
            float(trust.of_the_signal),
        )
        numbers[index] = torch.tensor([*mean, *spread, *fit], dtype=torch.float64)
        latents[index] = result.posterior.latent.mean
    return ShapeMaps(targets.grid, targets.voxel, numbers, latents)
