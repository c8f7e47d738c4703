"""Latent spaces of shapes on one template, and how far two shapes are apart."""

from spinmesh.shapes.align import (
    Motion,
    aligned_chamfer_distance,
    chamfer_distance,
    motion_onto,
)
from spinmesh.shapes.basis import SpectralBasis, point_matrices, spectral_basis, volume
from spinmesh.shapes.measures import TRIM, Profile, errors_beside_mean_shape, profile, shape_errors
from spinmesh.shapes.models import Components, PrincipalModel, ShapeModel, VariationalModel
from spinmesh.shapes.training import train_shape_model

__all__ = [
    "TRIM",
    "Components",
    "Motion",
    "PrincipalModel",
    "Profile",
    "ShapeModel",
    "SpectralBasis",
    "VariationalModel",
    "aligned_chamfer_distance",
    "chamfer_distance",
    "errors_beside_mean_shape",
    "motion_onto",
    "point_matrices",
    "profile",
    "shape_errors",
    "spectral_basis",
    "train_shape_model",
    "volume",
]
