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
        torch.cat([samples.z, samples.physics], 1),
        (*latents, *samples.quantities),
        ("posterior",) * len(samples),
        ("sample",) * len(samples),
        given=samples.points(model).detach(),
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

    `chi2` has about `degrees` = measurements - determined unknowns degrees of freedom. `distance`
    is |z|^2, and `family_distance` the largest one among the training shapes: these are no Gaussian
    (a bead count is uniform), so that a chi-square law of |z|^2 would doubt one family member in
    twenty. `determined` of the `latent` directions are known better from the data than from the
    prior.
    """

    chi2: float
    degrees: int
    distance: float
    family_distance: float
    noise_free: bool
    determined: int
    latent: int

    @property
    def misfit_probability(self) -> float:
        """Of so large a chi2 from noise alone."""
        return float(chdtrc(self.degrees, self.chi2))

    @property
    def scatter_probability(self) -> float:
        """Of so small a chi2 from noise alone."""
        return float(chdtr(self.degrees, self.chi2))

    @property
    def of_the_signal(self) -> bool:
        """Whether the shape explains the signal and is more than the prior's: worth its numbers."""
        return self.determined > 0 and self.misfit_probability >= IMPLAUSIBLE

    @property
    def warnings(self) -> tuple[str, ...]:
        """One sentence per doubt; empty if there is none."""
        misfit, scatter = self.misfit_probability, self.scatter_probability
        scattered = scatter < IMPLAUSIBLE and not self.noise_free
        chi2 = f"chi2 {self.chi2:.4g} with {self.degrees} degrees of freedom (chance"
        doubts = (
            (
                self.determined == 0,
                f"the data determine none of the shape's {self.latent} directions: the shape and "
                "its numbers are those of the prior, whatever was measured. Measure at more or "
                "stronger b, or at a higher SNR.",
            ),
            (
                misfit < IMPLAUSIBLE,
                f"the signal is not explained: {chi2} {misfit:.1g}). The mesh is not to be "
                "believed; check tissue, SNR, pose and the trained families.",
            ),
            (
                scattered,
                f"less scatter than the stated noise: {chi2} {scatter:.1g}). Raise the SNR.",
            ),
            (
                self.distance > self.family_distance,
                f"the shape lies outside the trained family: squared distance {self.distance:.4g} "
                f"from its mean, {self.family_distance:.4g} for the farthest training shape. "
                "Train on wider ranges, or check tissue and pose.",
            ),
        )
        return tuple(doubt for holds, doubt in doubts if holds)


def credibility(reconstruction: Reconstruction, model: ShapeModel) -> Credibility:
    """Judge a reconstruction by its residual and by its place among the training shapes."""
    fit, latent = reconstruction.fit, reconstruction.posterior.latent.mean
    determined = fit.determined + len(fit.free)
    if not torch.equal(reconstruction.rotation, torch.eye(3, dtype=torch.float64)):
        determined += 3
    return Credibility(
        float(fit.chi2.sum()),
        max(len(fit.chi2) - determined, 1),
        float(latent.square().sum()),
        float(model.latents[model.training].square().sum(1).max()),
        reconstruction.target.sigma == 0,
        fit.determined,
        len(latent),
    )
