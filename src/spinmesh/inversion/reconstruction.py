"""The result of an inversion: a mesh, its uncertainty and its score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.inversion.shape_model import Gaussian, ShapeModel
from spinmesh.inversion.target import Target
from spinmesh.mesh import TetMesh

# Columns of a history: chi2 with the final noise floor, |y|^2 of the whitened unknowns, length of
# the step tried, the damping it was tried with, and whether it was taken.
HISTORY = ("start", "iteration", "chi2", "prior", "step", "damping", "accepted")


@dataclass(frozen=True, eq=False)
class Samples:
    """Draws from a posterior, of equal weight.

    `physics` are the free quantities in units of Tissue, named in `quantities`; `diagnostics` says
    how much the Laplace approximation had to be corrected (empty if it was not).
    """

    latent: Float[Tensor, "sample latent"]
    rotation: Float[Tensor, "sample 3 3"]
    physics: Float[Tensor, "sample quantity"]
    quantities: tuple[str, ...] = ()
    diagnostics: Mapping[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.latent)

    def points(self, model: ShapeModel) -> Float[Tensor, "sample point 3"]:
        """Node coordinates (um) of every sample's mesh, in the target's frame."""
        return torch.einsum("sab,spb->spa", self.rotation, model.decode(self.latent))


@dataclass(frozen=True, eq=False)
class Posterior:
    """Laplace approximation at the best mode, the weights of all modes, and samples.

    `information` are the eigenvalues, descending, of J'J in noise units with respect to z in units
    of the prior: the data know more than the prior about the directions above 1.
    """

    latent: Gaussian
    information: Float[Tensor, " latent"]
    weights: Float[Tensor, " mode"]
    samples: Samples

    @property
    def determined(self) -> float:
        """Effective number of determined directions: sum of i/(1 + i) over the information."""
        return float((self.information / (1 + self.information)).sum())


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """The shape that explains a target, up to translation and point reflection."""

    target: Target
    mesh: TetMesh
    rotation: Float[Tensor, "3 3"]
    predicted: Float[Tensor, " measurement"]  # noise-free attenuation of `mesh`
    posterior: Posterior
    spread: Float[Tensor, " point"]  # um, RMS over the posterior's samples of each point of `mesh`
    history: Float[Tensor, "iteration column"]  # columns HISTORY
    chi2: Float[Tensor, " measurement"]  # squared residual in noise units
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def latent(self) -> Float[Tensor, " latent"]:
        """The latent numbers of the shape."""
        return self.posterior.latent.mean

    @property
    def latent_covariance(self) -> Float[Tensor, "latent latent"]:
        """Laplace covariance of the latent numbers (all other unknowns marginalised)."""
        return self.posterior.latent.covariance

    @property
    def data_determined(self) -> Float[Tensor, " latent"]:
        """Eigenvalues of J'J in noise and prior units, descending."""
        return self.posterior.information
