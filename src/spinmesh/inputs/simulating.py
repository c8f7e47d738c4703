"""Signals of a run's inputs, from one job or from several that share the pieces of a long body."""

from __future__ import annotations

from collections.abc import Sequence

from spinmesh.bloch_torrey import Signals
from spinmesh.bodies import joined_shares, simulate
from spinmesh.io import load_shards
from spinmesh.mesh import TetMesh
from spinmesh.sequence import Acquisition
from spinmesh.settings import Simulate
from spinmesh.tissue import Tissue


def simulate_input(
    mesh: TetMesh,
    tissue: Tissue,
    acquisition: Acquisition,
    settings: Simulate,
    shares: Sequence[str] = (),
) -> Signals:
    """Signals (um^3 times spin density), put together from the stores of jobs if there are any."""
    if shares:
        return joined_shares(mesh, tissue, load_shards(Signals, shares, "substrate"))
    return simulate(mesh, tissue, acquisition, settings.basis, settings.device)
