"""Straight axons in their plane: packings, the exact signals of all their water, their images."""

from spinmesh.bundles.axons import Axons, find_axons, image_statistics, resimulate
from spinmesh.bundles.fem import PlaneMatrices, assemble_plane
from spinmesh.bundles.images import ImageSet, ImageSpec
from spinmesh.bundles.mesh import PeriodicPlane, mesh_plane
from spinmesh.bundles.packing import Disks, gamma_radii, pack_disks
from spinmesh.bundles.protocol import Protocol
from spinmesh.bundles.signal import plane_attenuation
from spinmesh.bundles.simulation import (
    BundleSpec,
    bundle_acquisition,
    joined_images,
    simulate_bundles,
)

__all__ = [
    "Axons",
    "BundleSpec",
    "Disks",
    "ImageSet",
    "ImageSpec",
    "PeriodicPlane",
    "PlaneMatrices",
    "Protocol",
    "assemble_plane",
    "bundle_acquisition",
    "find_axons",
    "gamma_radii",
    "image_statistics",
    "joined_images",
    "mesh_plane",
    "pack_disks",
    "plane_attenuation",
    "resimulate",
    "simulate_bundles",
]
