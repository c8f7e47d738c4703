"""Whether a reconstruction may be believed: does it explain the signal, and is it of the family?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.special import chdtr, chdtrc

from spinmesh.inversion.reconstruction import Reconstruction
from spinmesh.inversion.shape_model import ShapeModel

# One reconstruction in a thousand of a family member is doubted by chance.
IMPLAUSIBLE = 1e-3


@dataclass(frozen=True)
class Credibility:
    """What speaks for and against a reconstruction.

    `chi2` has about `degrees` = measurements - determined unknowns degrees of freedom, and
    `misfit_probability` is that of so large a chi2 from noise alone; `scatter_probability` that of
    so small a one. `distance` is |y|^2 of the latents whitened by the prior, and `family_distance`
    the largest one among the training shapes. The training latents are no Gaussian (a bead count
    is uniform), so that a chi-square law of |y|^2 would doubt one family member in twenty.
    """

    chi2: float
    degrees: int
    misfit_probability: float
    scatter_probability: float
    distance: float
    family_distance: float
    noise_free: bool

    @property
    def warnings(self) -> tuple[str, ...]:
        """One sentence per doubt; empty if there is none."""
        found = []
        if self.misfit_probability < IMPLAUSIBLE:
            found.append(
                f"the signal is not explained: chi2 {self.chi2:.4g} with {self.degrees} degrees of "
                f"freedom (chance {self.misfit_probability:.1g}). The mesh is not to be believed; "
                "check tissue, SNR, pose and the trained families."
            )
        if self.scatter_probability < IMPLAUSIBLE and not self.noise_free:
            found.append(
                f"less scatter than the stated noise: chi2 {self.chi2:.4g} with {self.degrees} "
                f"degrees of freedom (chance {self.scatter_probability:.1g}). Raise the SNR."
            )
        if self.distance > self.family_distance:
            found.append(
                f"the shape lies outside the trained family: squared distance {self.distance:.4g} "
                f"from its mean, {self.family_distance:.4g} for the farthest training shape. "
                "Train on wider ranges, or check tissue and pose."
            )
        return tuple(found)


def credibility(reconstruction: Reconstruction, model: ShapeModel) -> Credibility:
    """Judge a reconstruction by its residual and by its place among the training shapes."""
    chi2 = float(reconstruction.chi2.sum())
    determined = int((reconstruction.data_determined > 1).sum())
    determined += len(reconstruction.posterior.samples.quantities)
    if not torch.equal(reconstruction.rotation, torch.eye(3, dtype=torch.float64)):
        determined += 3
    degrees = max(len(reconstruction.chi2) - determined, 1)
    prior = model.prior
    whitening = torch.linalg.cholesky(prior.covariance)
    latents = torch.cat([reconstruction.latent[None], model.latents[model.training]])
    y = torch.linalg.solve_triangular(whitening, (latents - prior.mean).T, upper=False)
    distances = y.square().sum(0)
    return Credibility(
        chi2,
        degrees,
        float(chdtrc(degrees, chi2)),
        float(chdtr(degrees, chi2)),
        float(distances[0]),
        float(distances[1:].max()),
        reconstruction.target.sigma == 0,
    )
