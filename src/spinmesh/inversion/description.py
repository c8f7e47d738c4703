"""A shape in a few numbers a reader of images asks for, and their posterior."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from spinmesh.errors import ReductionError
from spinmesh.inversion.metrics import TRIM, profile, volume
from spinmesh.inversion.reconstruction import Reconstruction
from spinmesh.inversion.shape_model import ShapeModel
from spinmesh.mesh import Substrates, TetMesh

# Numbers of `describe` with their units.
DESCRIPTION = {"volume": "um^3", "length": "um", "mean_radius": "um", "bend": "um"}


def describe(mesh: TetMesh) -> dict[str, float]:
    """Volume, length, mean radius and bend (RMS deviation from straight) of an elongated cell.

    The keys are those of `DESCRIPTION`. The mean radius is that of the middle 80 % of the volume;
    either tenth at an end adds to the length what a cylinder of the outermost radius would.
    """
    own, whole = profile(mesh), volume(mesh)
    ends = TRIM * whole / (torch.pi * own.radius[[0, -1]].square())
    return {
        "volume": whole,
        "length": own.length + float(ends.sum()),
        "mean_radius": float(own.radius.mean()),
        "bend": own.bend,
    }


def posterior_shapes(found: Reconstruction, model: ShapeModel) -> Substrates:
    """The posterior's samples as shapes in the target's frame.

    Their parameters are the latents and the free quantities of the tissue (in units of Tissue).
    Raises ReductionError with fewer than two samples: spreads would mean nothing.
    """
    samples = found.posterior.samples
    if len(samples) < 2:
        raise ReductionError(
            f"posterior: {len(samples)} samples with a valid mesh. Ask for more (`samples`); if "
            "that does not help, the signal determines too little: measure more."
        )
    latents = tuple(f"latent_{i}" for i in range(samples.latent.shape[1]))
    return Substrates(
        model.basis.template,
        samples.points(model).detach(),
        torch.cat([samples.latent, samples.physics], 1),
        (*latents, *samples.quantities),
        ("posterior",) * len(samples),
        ("sample",) * len(samples),
    )


def describe_posterior(samples: Substrates) -> Mapping[str, tuple[float, float]]:
    """Mean and standard deviation of every number of `describe` over the samples."""
    rows = [describe(samples.mesh(i)) for i in range(len(samples))]
    table = torch.tensor([list(row.values()) for row in rows], dtype=torch.float64)
    pairs = zip(table.mean(0).tolist(), table.std(0).tolist(), strict=True)
    return dict(zip(DESCRIPTION, pairs, strict=True))
