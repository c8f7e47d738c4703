"""Signals of whole bodies: as one reduced model, or in pieces with a bound of the cuts' error."""

from spinmesh.bodies.cutting import Body, Piece, piece_around
from spinmesh.bodies.heat import spins_from_cut
from spinmesh.bodies.packs import Pack, reduce, reduce_substrates, strongest_protocol
from spinmesh.bodies.pieces import (
    Cut,
    Parts,
    bound_of_cut,
    cut_body,
    cut_where_it_pays,
    reach,
    reduce_piece,
    signal_of_pieces,
    simulate_cut,
)
from spinmesh.bodies.replay import replay
from spinmesh.bodies.substrates import (
    MOST_DENSE_ON_CPU,
    Simulation,
    joined_shares,
    signals_of,
    simulate,
    simulate_body,
    simulate_share,
    simulate_substrates,
)
