"""Straight axons in their plane: packings, the exact signals of all their water, their images."""

from spinmesh.bundles.axons import find_axons, image_statistics, resimulate
from spinmesh.bundles.images import ImageSet, Protocol
from spinmesh.bundles.signal import assemble_plane, plane_attenuation
from spinmesh.bundles.simulation import simulate_bundles
