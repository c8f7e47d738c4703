"""From signal back to mesh: spectral shapes, a latent space, and Gauss-Newton in it."""

from spinmesh.inversion.ablations import ablate
from spinmesh.inversion.alignment import nearest_poses
from spinmesh.inversion.baselines import descend, train_signal_network
from spinmesh.inversion.estimates import (
    Estimates,
    Score,
    joined_scores,
    score,
    summarise_scores,
)
from spinmesh.inversion.experiment import Arm, Bench, estimate, simulate_held_out
from spinmesh.inversion.gauss_newton import (
    ReconstructionSpec,
    nearest_training_shapes,
    reconstruct,
)
from spinmesh.inversion.metrics import (
    aligned_chamfer_distance,
    chamfer_distance,
    compare_with_mean_shape,
    modified_chamfer_distance,
    profile,
    shape_errors,
)
from spinmesh.inversion.noise import add_rician, rician_mean, rician_std
from spinmesh.inversion.reconstruction import HISTORY, Posterior, Reconstruction
from spinmesh.inversion.shape_model import Gaussian, ShapeModel, ShapeModelSpec, train_shape_model
from spinmesh.inversion.spectral import SpectralBasis, spectral_basis
from spinmesh.inversion.target import Target, simulate_target

__all__ = [
    "HISTORY",
    "Arm",
    "Bench",
    "Estimates",
    "Gaussian",
    "Posterior",
    "Reconstruction",
    "ReconstructionSpec",
    "Score",
    "ShapeModel",
    "ShapeModelSpec",
    "SpectralBasis",
    "Target",
    "ablate",
    "add_rician",
    "aligned_chamfer_distance",
    "chamfer_distance",
    "compare_with_mean_shape",
    "descend",
    "estimate",
    "joined_scores",
    "modified_chamfer_distance",
    "nearest_poses",
    "nearest_training_shapes",
    "profile",
    "reconstruct",
    "rician_mean",
    "rician_std",
    "score",
    "shape_errors",
    "simulate_held_out",
    "simulate_target",
    "spectral_basis",
    "summarise_scores",
    "train_shape_model",
    "train_signal_network",
]
