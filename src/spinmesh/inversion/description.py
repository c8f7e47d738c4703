"""A shape in a few numbers a reader of images asks for, and their posterior."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.errors import ReductionError
from spinmesh.inversion.metrics import TRIM, profile, volume
from spinmesh.inversion.reconstruction import Reconstruction
from spinmesh.inversion.shape_model import ShapeModel
from spinmesh.mesh import Substrates, TetMesh, jacobian_determinants

# Numbers of `describe` with their units.
DESCRIPTION = {"volume": "um^3", "length": "um", "mean_radius": "um", "bend": "um"}
# Draws per wanted sample before giving up: a law most of whose draws fold says little.
ATTEMPTS = 4


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


def posterior_shapes(
    reconstruction: Reconstruction, model: ShapeModel, count: int, seed: int
) -> Substrates:
    """Shapes drawn from the Laplace posterior, in the target's frame; the parameters are latents.

    A draw whose mesh folds is no shape and is drawn again. Raises ReductionError if most do.
    """
    latent, template = reconstruction.posterior.latent, model.basis.template
    values, vectors = torch.linalg.eigh(latent.covariance)
    root = vectors * values.clamp_min(0).sqrt()
    generator = torch.Generator().manual_seed(seed)
    shape = (ATTEMPTS * count, len(latent.mean))
    kept: list[Tensor] = []
    for draw in torch.randn(shape, generator=generator, dtype=torch.float64):
        z = latent.mean + root @ draw
        points = model.decode(z).detach()
        if float(jacobian_determinants(points, template.tets).min()) > 0:
            kept.append(z)
        if len(kept) == count:
            break
    if len(kept) < count:
        raise ReductionError(
            f"posterior: {len(kept)} of {len(shape)} x {count} draws are valid meshes. The signal "
            "determines too little: measure more, or train on milder deformations."
        )
    latents = torch.stack(kept)
    return Substrates(
        template,
        model.decode(latents).detach() @ reconstruction.rotation.T,
        latents,
        tuple(f"latent_{i}" for i in range(latents.shape[1])),
        ("posterior",) * count,
        ("sample",) * count,
    )


def describe_posterior(samples: Substrates) -> Mapping[str, tuple[float, float]]:
    """Mean and standard deviation of every number of `describe` over the samples."""
    rows = [describe(samples.mesh(i)) for i in range(len(samples))]
    table = torch.tensor([list(row.values()) for row in rows], dtype=torch.float64)
    spread = table.std(0) if len(rows) > 1 else torch.full((len(DESCRIPTION),), torch.nan)
    pairs = zip(table.mean(0).tolist(), spread.tolist(), strict=True)
    return dict(zip(DESCRIPTION, pairs, strict=True))


def point_spread(samples: Substrates) -> Float[Tensor, " point"]:
    """RMS distance (um) of every node from its mean over the samples, each moved to one centre."""
    centred = samples.points - samples.points.mean(1, keepdim=True)
    return (centred - centred.mean(0)).square().sum(-1).mean(0).sqrt()
