"""From signal back to mesh: spectral shapes, a latent space, and Gauss-Newton in it."""

from spinmesh.inversion.judgement import (
    DESCRIPTION,
    Credibility,
    credibility,
    describe,
    describe_posterior,
    posterior_shapes,
)
from spinmesh.inversion.metrics import (
    aligned_chamfer_distance,
    chamfer_distance,
    compare_with_mean_shape,
    modified_chamfer_distance,
    profile,
    shape_errors,
)
from spinmesh.inversion.poses import nearest_poses
from spinmesh.inversion.result import HISTORY, Fit, Posterior, Reconstruction, Samples
from spinmesh.inversion.search import reconstruct
from spinmesh.inversion.shape_model import Gaussian, ShapeModel, ShapeModelSpec, train_shape_model
from spinmesh.inversion.spectral import SpectralBasis, spectral_basis
from spinmesh.inversion.starts import nearest_training_shapes
from spinmesh.inversion.surface import surface_distance
from spinmesh.inversion.target import Target, refuse_other_protocol, simulate_target
from spinmesh.inversion.voxels import (
    VOXEL_NUMBERS,
    Grid,
    ShapeMaps,
    VoxelTargets,
    reconstruct_voxels,
)
from spinmesh.noise import MagnitudeNoise, add_rician, rician_mean, rician_std

__all__ = [
    "DESCRIPTION",
    "HISTORY",
    "VOXEL_NUMBERS",
    "Credibility",
    "Fit",
    "Gaussian",
    "Grid",
    "MagnitudeNoise",
    "Posterior",
    "Reconstruction",
    "Samples",
    "ShapeMaps",
    "ShapeModel",
    "ShapeModelSpec",
    "SpectralBasis",
    "Target",
    "VoxelTargets",
    "add_rician",
    "aligned_chamfer_distance",
    "chamfer_distance",
    "compare_with_mean_shape",
    "credibility",
    "describe",
    "describe_posterior",
    "modified_chamfer_distance",
    "nearest_poses",
    "nearest_training_shapes",
    "posterior_shapes",
    "profile",
    "reconstruct",
    "reconstruct_voxels",
    "refuse_other_protocol",
    "rician_mean",
    "rician_std",
    "shape_errors",
    "simulate_target",
    "spectral_basis",
    "surface_distance",
    "train_shape_model",
]
