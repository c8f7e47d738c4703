"""Diffusion-weighted images of a field of substrates: bundles that cross, cells and free water."""

from spinmesh.phantom.field import Field, FieldSpec, fibre_field, grid_affine
from spinmesh.phantom.series import Filling, Material, Phantom, simulate_phantom, turned_to

__all__ = [
    "Field",
    "FieldSpec",
    "Filling",
    "Material",
    "Phantom",
    "fibre_field",
    "grid_affine",
    "simulate_phantom",
    "turned_to",
]
