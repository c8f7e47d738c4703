"""The Bloch-Torrey signal."""

from spinmesh.bloch_torrey.signal import Signals, simulate, simulate_compartments, unweighted
from spinmesh.bloch_torrey.substrates import (
    Basis,
    interleave,
    simulate_mesh,
    simulate_substrates,
)

__all__ = [
    "Basis",
    "Signals",
    "interleave",
    "simulate",
    "simulate_compartments",
    "simulate_mesh",
    "simulate_substrates",
    "unweighted",
]
