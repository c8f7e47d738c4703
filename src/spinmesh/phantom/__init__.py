"""Diffusion-weighted images of known tissue: bundles that cross, cells, water; slices of axons."""

from spinmesh.phantom.field import Field, fibre_field, grid_affine
from spinmesh.phantom.known import known_phantom
from spinmesh.phantom.series import Phantom, simulate_phantom
