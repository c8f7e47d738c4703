"""From signal back to mesh: spectral shapes, a latent space, and Gauss-Newton in it."""

from spinmesh.inversion.calibration import Calibration, calibrate
from spinmesh.inversion.gauss_newton import ReconstructionSpec
from spinmesh.inversion.metrics import (
    chamfer_distance,
    compare_with_mean_shape,
    modified_chamfer_distance,
    profile,
    shape_errors,
)
from spinmesh.inversion.noise import MagnitudeNoise, add_rician, rician_mean, rician_std
from spinmesh.inversion.reconstruction import HISTORY, Posterior, Reconstruction, Samples
from spinmesh.inversion.search import reconstruct
from spinmesh.inversion.shape_model import Gaussian, ShapeModel, ShapeModelSpec, train_shape_model
from spinmesh.inversion.spectral import SpectralBasis, spectral_basis
from spinmesh.inversion.starts import nearest_training_shapes
from spinmesh.inversion.target import Target, simulate_target
from spinmesh.inversion.unknowns import Free

__all__ = [
    "HISTORY",
    "Calibration",
    "Free",
    "Gaussian",
    "MagnitudeNoise",
    "Posterior",
    "Reconstruction",
    "ReconstructionSpec",
    "Samples",
    "ShapeModel",
    "ShapeModelSpec",
    "SpectralBasis",
    "Target",
    "add_rician",
    "calibrate",
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
