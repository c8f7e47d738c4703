"""The Bloch-Torrey signal."""

from spinmesh.bloch_torrey.signal import Signals, simulate, simulate_compartments, unweighted

__all__ = ["Signals", "simulate", "simulate_compartments", "unweighted"]
