"""Latent spaces of shapes on one template, and how far two shapes are apart."""

from spinmesh.shapes.align import (
    Motion,
    aligned_chamfer_distance,
    chamfer_distance,
)
from spinmesh.shapes.basis import SpectralBasis, point_matrices, spectral_basis, volume
from spinmesh.shapes.measures import TRIM, Profile, errors_beside_mean_shape, profile, shape_errors
from spinmesh.shapes.models import PrincipalModel, ShapeModel
from spinmesh.shapes.training import train_shape_model
