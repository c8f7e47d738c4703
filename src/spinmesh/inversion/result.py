"""The result of an inversion: a mesh, how well it explains the signal, and its uncertainty."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.inversion.target import Target
from spinmesh.mesh import TetMesh
from spinmesh.shapes import ShapeModel
from spinmesh.stored import quantity, store

# Columns of a history: chi2 with the final noise floor, -2 log prior, length of the step tried, the
# damping it was tried with, and whether it was taken.
HISTORY = ("start", "iteration", "chi2", "prior", "step", "damping", "accepted")
PHYSICS_UNITS = "um^2/ms (diffusivity), ms (t2), 1 (density), um/ms (permeability)"


@dataclass(frozen=True, eq=False)
class Gaussian:
    """A normal law of latents."""

    mean: Float[Tensor, " latent"]
    covariance: Float[Tensor, "latent latent"]


@dataclass(frozen=True, eq=False)
class Samples:
    """Draws from a posterior, of equal weight: latents z, poses, free quantities of the tissue.

    `diagnostics` says how much the Laplace approximation had to be corrected (empty if it was not).
    """

    z: Float[Tensor, "sample latent"]
    rotation: Float[Tensor, "sample 3 3"]
    physics: Float[Tensor, "sample quantity"] = quantity(PHYSICS_UNITS)
    quantities: tuple[str, ...] = ()
    diagnostics: Mapping[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.z)

    def points(self, model: ShapeModel) -> Float[Tensor, "sample point 3"]:
        """Node coordinates (um) of every sample's mesh, in the target's frame."""
        return torch.einsum("sab,spb->spa", self.rotation, model.decode(self.z))


@dataclass(frozen=True, eq=False)
class Posterior:
    """Laplace approximation at the best mode, the weights of all modes, and samples.

    `information` are the eigenvalues, descending, of J'J in noise units with respect to z: the data
    know more than the prior about the directions above 1.
    """

    latent: Gaussian
    information: Float[Tensor, " latent"]
    weights: Float[Tensor, " mode"]
    samples: Samples


@dataclass(frozen=True, eq=False)
class Fit:
    """How well the mesh explains the signal, and with how many numbers.

    `predicted` are its attenuations without noise, `chi2` squared residuals in noise units;
    `determined` counts the latent directions that the data know better than the prior; `free` are
    the free quantities of the tissue by label (units of Tissue).
    """

    predicted: Float[Tensor, " measurement"]
    chi2: Float[Tensor, " measurement"]
    determined: int
    free: Mapping[str, float] = field(default_factory=dict)

    @property
    def chi2_per_measurement(self) -> float:
        """1 where only noise is left."""
        return float(self.chi2.mean())


@store("spinmesh/reconstruction", version=5, stage="reconstruct")
@dataclass(frozen=True, eq=False)
class Reconstruction:
    """The shape that explains a target, up to translation and point reflection."""

    target: Target
    mesh: TetMesh
    rotation: Float[Tensor, "3 3"]
    fit: Fit
    posterior: Posterior
    spread: Float[Tensor, " point"] = quantity("um")  # RMS over the samples of each mesh point
    history: Float[Tensor, "iteration column"] = quantity()  # columns HISTORY
