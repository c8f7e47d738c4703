"""The Bloch-Torrey signal."""

from spinmesh.bloch_torrey.basis import (
    USUAL_BLOCKS,
    Reduction,
    check_memory,
    reduce_from,
    reduce_mesh,
)
from spinmesh.bloch_torrey.definition import matrix_formalism, pgse_signal
from spinmesh.bloch_torrey.discretisation import check_resolution
from spinmesh.bloch_torrey.periodic import Periodic, signal_of_cell, simulate_periodic
from spinmesh.bloch_torrey.signal import (
    Signals,
    simulate_compartments,
    simulate_reduced,
    unweighted,
)
from spinmesh.bloch_torrey.time_stepping import Stepped, step_signal
from spinmesh.settings import Basis
