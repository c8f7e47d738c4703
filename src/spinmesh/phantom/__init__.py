"""Diffusion-weighted images of a field of substrates: bundles that cross, cells and free water."""

from spinmesh.phantom.field import Field, fibre_field, grid_affine
from spinmesh.phantom.series import Phantom, simulate_phantom
