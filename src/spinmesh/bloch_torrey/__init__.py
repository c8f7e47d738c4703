"""The Bloch-Torrey signal."""

from spinmesh.bloch_torrey.basis import USUAL_BLOCKS, Reduction, reduce_mesh
from spinmesh.bloch_torrey.definition import matrix_formalism, pgse_signal
from spinmesh.bloch_torrey.signal import (
    Signals,
    simulate_compartments,
    simulate_reduced,
    unweighted,
)
from spinmesh.bloch_torrey.substrates import (
    MOST_DENSE_ON_CPU,
    device_named,
    signals_of,
    simulate,
    simulate_substrates,
)
from spinmesh.bloch_torrey.time_stepping import step_signal
from spinmesh.settings import Basis

__all__ = [
    "MOST_DENSE_ON_CPU",
    "USUAL_BLOCKS",
    "Basis",
    "Reduction",
    "Signals",
    "device_named",
    "matrix_formalism",
    "pgse_signal",
    "reduce_mesh",
    "signals_of",
    "simulate",
    "simulate_compartments",
    "simulate_reduced",
    "simulate_substrates",
    "step_signal",
    "unweighted",
]
