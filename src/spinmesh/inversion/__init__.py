"""From signal back to mesh: spectral shapes, a latent space, and Gauss-Newton in it."""

from spinmesh.inversion.credibility import Credibility, credibility
from spinmesh.inversion.description import (
    DESCRIPTION,
    describe,
    describe_posterior,
    point_spread,
    posterior_shapes,
)
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
from spinmesh.inversion.noise import add_rician, rician_mean, rician_std
from spinmesh.inversion.protocol import difference, refuse_other_protocol
from spinmesh.inversion.reconstruction import HISTORY, Posterior, Reconstruction
from spinmesh.inversion.shape_model import Gaussian, ShapeModel, ShapeModelSpec, train_shape_model
from spinmesh.inversion.spectral import SpectralBasis, spectral_basis
from spinmesh.inversion.target import Target, simulate_target
from spinmesh.inversion.voxels import (
    VOXEL_NUMBERS,
    Grid,
    ShapeMaps,
    VoxelTargets,
    gather_voxels,
    reconstruct_voxels,
)

__all__ = [
    "DESCRIPTION",
    "HISTORY",
    "VOXEL_NUMBERS",
    "Credibility",
    "Gaussian",
    "Grid",
    "Posterior",
    "Reconstruction",
    "ReconstructionSpec",
    "ShapeMaps",
    "ShapeModel",
    "ShapeModelSpec",
    "SpectralBasis",
    "Target",
    "VoxelTargets",
    "add_rician",
    "chamfer_distance",
    "compare_with_mean_shape",
    "credibility",
    "describe",
    "describe_posterior",
    "difference",
    "gather_voxels",
    "modified_chamfer_distance",
    "nearest_training_shapes",
    "point_spread",
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
    "train_shape_model",
]
