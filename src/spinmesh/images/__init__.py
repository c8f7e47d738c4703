"""Images of cut substrates, images drawn from a score model, and statistics of both."""

from spinmesh.images.packing import pack_cross_sections
from spinmesh.images.posterior import Draws, draw_posterior, known_protocol, relative_to_zero
from spinmesh.images.synthesis import Synthesis, compare, draw_and_compare, radial_spectrum
