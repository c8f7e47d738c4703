"""Every voxel of a mask by itself: many targets in, maps of shape numbers out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spinmesh.bloch_torrey import Signals
from spinmesh.errors import ReductionError
from spinmesh.inversion.credibility import credibility
from spinmesh.inversion.description import DESCRIPTION, describe_posterior, posterior_shapes
from spinmesh.inversion.gauss_newton import ReconstructionSpec
from spinmesh.inversion.protocol import refuse_other_protocol
from spinmesh.inversion.search import reconstruct
from spinmesh.inversion.shape_model import ShapeModel
from spinmesh.inversion.voxels import Grid, VoxelTargets
from spinmesh.progress import LOGGER, progress
from spinmesh.tissue import Tissue

# The numbers of a voxel, with their units: posterior mean and standard deviation, then the fit.
VOXEL_NUMBERS = {
    **DESCRIPTION,
    **{f"{name}_sd": unit for name, unit in DESCRIPTION.items()},
    "chi2_per_measurement": "1",
    "misfit_probability": "1",
    "outside_family": "1",
    "data_determined": "1",
}


@dataclass(frozen=True, eq=False)
class ShapeMaps:
    """The numbers `VOXEL_NUMBERS` and the latents of each voxel; NaN where no shape was found."""

    grid: Grid
    voxel: Int[Tensor, "voxel axis"]
    numbers: Float[Tensor, "voxel number"]
    latents: Float[Tensor, "voxel latent"]

    def __len__(self) -> int:
        return len(self.voxel)


def reconstruct_voxels(
    targets: VoxelTargets,
    model: ShapeModel,
    tissue: Tissue,
    spec: ReconstructionSpec,
    seed: int,
    training_signals: Signals | None = None,
) -> ShapeMaps:
    """`reconstruct` for every voxel; one without any valid start is logged and left NaN."""
    if training_signals is not None:
        refuse_other_protocol(training_signals, targets.acquisition)
    numbers = torch.full((len(targets), len(VOXEL_NUMBERS)), torch.nan, dtype=torch.float64)
    latents = torch.full((len(targets), model.latents.shape[1]), torch.nan, dtype=torch.float64)
    for index in progress(range(len(targets)), "voxels"):
        try:
            found = reconstruct(targets.target(index), model, tissue, spec, seed, training_signals)
            shapes = posterior_shapes(found, model)
        except ReductionError as error:
            LOGGER.warning("voxel %s: no shape. %s", targets.voxel[index].tolist(), error)
            continue
        trust = credibility(found, model)
        mean, spread = zip(*describe_posterior(shapes).values(), strict=True)
        fit = (
            found.metrics["chi2_per_measurement"],
            trust.misfit_probability,
            float(trust.distance > trust.family_distance),
            found.metrics["data_determined"],
        )
        numbers[index] = torch.tensor([*mean, *spread, *fit], dtype=torch.float64)
        latents[index] = found.latent
    return ShapeMaps(targets.grid, targets.voxel, numbers, latents)
