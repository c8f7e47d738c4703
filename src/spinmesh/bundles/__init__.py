"""Straight axons in their plane: packings, the exact signals of all their water, their images."""

from spinmesh.bundles.axons import find_axons, image_statistics, resimulate
from spinmesh.bundles.images import ImageSet, Protocol
from spinmesh.bundles.mesh import PeriodicPlane, mesh_plane
from spinmesh.bundles.packing import STATISTICS, Disks, gamma_radii, pack_disks
from spinmesh.bundles.signal import assemble_plane, plane_attenuation
from spinmesh.bundles.simulation import simulate_bundles

__all__ = [
    "STATISTICS",
    "Disks",
    "ImageSet",
    "PeriodicPlane",
    "Protocol",
    "assemble_plane",
    "find_axons",
    "gamma_radii",
    "image_statistics",
    "mesh_plane",
    "pack_disks",
    "plane_attenuation",
    "resimulate",
    "simulate_bundles",
]
