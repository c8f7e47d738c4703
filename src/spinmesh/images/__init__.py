"""Images of cut substrates, and images drawn from a score model for a measured signal."""

from spinmesh.images.packing import pack_cross_sections
from spinmesh.images.posterior import Draws, draw_posterior, known_protocol

__all__ = [
    "Draws",
    "draw_posterior",
    "known_protocol",
    "pack_cross_sections",
]
