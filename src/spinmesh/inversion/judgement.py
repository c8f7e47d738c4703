"""A reconstruction in a few numbers a reader of images asks for, and whether it may be believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from scipy.special import chdtr, chdtrc

from spinmesh.errors import ReductionError
from spinmesh.inversion.result import Reconstruction
from spinmesh.mesh import Substrates, TetMesh
from spinmesh.shapes import TRIM, ShapeModel, profile, volume

# Numbers of `describe` with their units.
DESCRIPTION = {"volume": "um^3", "length": "um", "mean_radius": "um", "bend": "um"}
# One reconstruction in a thousand of a family member is doubted by chance.
IMPLAUSIBLE = 1e-3


def describe(mesh: TetMesh) -> dict[str, float]:
    """Volume, length, mean radius and bend (RMS deviation from straight) of an elongated cell.

    The keys are those of `DESCRIPTION`. The mean radius is that of the middle 80 % of the volume;
    either tenth at an end adds to the length what a cylinder of the outermost radius would.
    """
    along, whole = profile(mesh), volume(mesh)
    ends = TRIM * whole / (torch.pi * along.radius[[0, -1]].square())
    return {
        "volume": whole,
        "length": along.length + float(ends.sum()),
        "mean_radius": float(along.radius.mean()),
        "bend": along.bend,
    }


def posterior_shapes(reconstruction: Reconstruction, model: ShapeModel) -> Substrates:
    """The posterior's samples as shapes in the target's frame.

    Their parameters are the latents and the free quantities of the tissue (in units of Tissue).
    Raises ReductionError with fewer than two samples: spreads would mean nothing.
    """
    samples = reconstruction.posterior.samples
    if len(samples) < 2:
        raise ReductionError(
            f"posterior: {len(samples)} samples with a valid mesh. Ask for more (`samples`); if "
            "that does not help, the signal determines too little: measure more."
        )
    latents = tuple(f"latent_{i}" for i in range(samples.z.shape[1]))
    return Substrates(
        model.basis.template,
        samples.points(model).detach(),
        torch.cat([samples.z, samples.physics], 1),
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


@dataclass(frozen=True)
class Credibility:
    """What speaks for and against a reconstruction.

    `chi2` has about `degrees` = measurements - determined unknowns degrees of freedom, and
    `misfit_probability` is that of so large a chi2 from noise alone; `scatter_probability` that of
    so small a one. `distance` is |y|^2 of the latents whitened by the prior, and `family_distance`
    the largest one among the training shapes. The training latents are no Gaussian (a bead count
    is uniform), so that a chi-square law of |y|^2 would doubt one family member in twenty.
    `determined` of the `latent` directions are known better from the data than from the prior.
    """

    chi2: float
    degrees: int
    misfit_probability: float
    scatter_probability: float
    distance: float
    family_distance: float
    noise_free: bool
    determined: int
    latent: int

    @property
    def of_the_signal(self) -> bool:
        """Whether the shape explains the signal and is more than the prior's: worth its numbers."""
        return self.determined > 0 and self.misfit_probability >= IMPLAUSIBLE

    @property
    def warnings(self) -> tuple[str, ...]:
        """One sentence per doubt; empty if there is none."""
        doubts = []
        if self.determined == 0:
            doubts.append(
                f"the data determine none of the shape's {self.latent} directions: the shape and "
                "its numbers are those of the prior, whatever was measured. Measure at more or "
                "stronger b, or at a higher SNR."
            )
        if self.misfit_probability < IMPLAUSIBLE:
            doubts.append(
                f"the signal is not explained: chi2 {self.chi2:.4g} with {self.degrees} degrees of "
                f"freedom (chance {self.misfit_probability:.1g}). The mesh is not to be believed; "
                "check tissue, SNR, pose and the trained families."
            )
        if self.scatter_probability < IMPLAUSIBLE and not self.noise_free:
            doubts.append(
                f"less scatter than the stated noise: chi2 {self.chi2:.4g} with {self.degrees} "
                f"degrees of freedom (chance {self.scatter_probability:.1g}). Raise the SNR."
            )
        if self.distance > self.family_distance:
            doubts.append(
                f"the shape lies outside the trained family: squared distance {self.distance:.4g} "
                f"from its mean, {self.family_distance:.4g} for the farthest training shape. "
                "Train on wider ranges, or check tissue and pose."
            )
        return tuple(doubts)


def credibility(reconstruction: Reconstruction, model: ShapeModel) -> Credibility:
    """Judge a reconstruction by its residual and by its place among the training shapes."""
    fit = reconstruction.fit
    chi2 = float(fit.chi2.sum())
    determined = fit.determined + len(fit.free)
    if not torch.equal(reconstruction.rotation, torch.eye(3, dtype=torch.float64)):
        determined += 3
    degrees = max(len(fit.chi2) - determined, 1)
    here = reconstruction.posterior.latent.mean
    latents = torch.cat([here[None], model.latents[model.training]])
    distances = model.prior.whiten(latents).square().sum(1)
    return Credibility(
        chi2,
        degrees,
        float(chdtrc(degrees, chi2)),
        float(chdtr(degrees, chi2)),
        float(distances[0]),
        float(distances[1:].max()),
        reconstruction.target.sigma == 0,
        fit.determined,
        len(here),
    )
