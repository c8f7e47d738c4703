"""From signal back to mesh: spectral shapes, a latent space, and Gauss-Newton in it."""

from spinmesh.inversion.gauss_newton import (
    ReconstructionSpec,
    nearest_training_shapes,
    reconstruct,
)
from spinmesh.inversion.metrics import (
    chamfer_distance,
    compare_with_mean_shape,
    modified_chamfer_distance,
    profile,
    shape_errors,
)
from spinmesh.inversion.reconstruction import HISTORY, Posterior, Reconstruction
from spinmesh.inversion.shape_model import Gaussian, ShapeModel, ShapeModelSpec, train_shape_model
from spinmesh.inversion.spectral import SpectralBasis, spectral_basis
from spinmesh.inversion.target import Target, simulate_target
from spinmesh.noise import add_rician, rician_mean, rician_std

__all__ = [
    "HISTORY",
    "Gaussian",
    "Posterior",
    "Reconstruction",
    "ReconstructionSpec",
    "ShapeModel",
    "ShapeModelSpec",
    "SpectralBasis",
    "Target",
    "add_rician",
    "chamfer_distance",
    "compare_with_mean_shape",
    "modified_chamfer_distance",
    "nearest_training_shapes",
    "profile",
    "reconstruct",
    "rician_mean",
    "rician_std",
    "shape_errors",
    "simulate_target",
    "spectral_basis",
    "train_shape_model",
]
