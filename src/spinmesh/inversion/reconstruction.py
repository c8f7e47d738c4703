"""The result of an inversion: a mesh, its uncertainty and its score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from spinmesh.inversion.shape_model import Gaussian
from spinmesh.inversion.target import Target
from spinmesh.mesh import TetMesh

# Columns of a history: chi2 with the final noise floor, |y|^2 of the whitened latents, length of
# the step tried, the damping it was tried with, and whether it was taken.
HISTORY = ("start", "iteration", "chi2", "prior", "step", "damping", "accepted")


@dataclass(frozen=True, eq=False)
class Posterior:
    """Laplace approximation at the optimum.

    `information` are the eigenvalues, descending, of J'J in noise units with respect to z in units
    of the prior: the data know more than the prior about the directions above 1.
    """

    latent: Gaussian
    information: Float[Tensor, " latent"]


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """The shape that explains a target, up to translation and point reflection."""

    target: Target
    mesh: TetMesh
    rotation: Float[Tensor, "3 3"]
    predicted: Float[Tensor, " measurement"]  # noise-free attenuation of `mesh`
    posterior: Posterior
    history: Float[Tensor, "iteration column"]  # columns HISTORY
    chi2: Float[Tensor, " measurement"]  # squared residual in noise units
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def latent(self) -> Float[Tensor, " latent"]:
        """The latent numbers of the shape."""
        return self.posterior.latent.mean

    @property
    def latent_covariance(self) -> Float[Tensor, "latent latent"]:
        """Laplace covariance of the latent numbers (and of the pose, marginalised, if unknown)."""
        return self.posterior.latent.covariance

    @property
    def data_determined(self) -> Float[Tensor, " latent"]:
        """Eigenvalues of J'J in noise and prior units, descending."""
        return self.posterior.information
