"""Signals of whole meshes and of substrate tables."""

from __future__ import annotations

import torch

from spinmesh.bloch_torrey.basis import Basis, reduce_mesh
from spinmesh.bloch_torrey.signal import Signals, simulate, unweighted
from spinmesh.errors import ReductionError
from spinmesh.mesh import Substrates, TetMesh
from spinmesh.progress import progress
from spinmesh.sequence import Acquisition
from spinmesh.tissue import Tissue


def simulate_mesh(
    mesh: TetMesh,
    tissue: Tissue,
    acquisition: Acquisition,
    basis: Basis | None = None,
    device: str = "cpu",
) -> Signals:
    """Signals (um^3 times spin density) of one mesh filled with a tissue.

    The basis is built on the CPU (a sparse factorisation), the signals on `device`. Raises
    MeshError, ConfigError or ReductionError before any compute is spent on a bad input.
    """
    with torch.no_grad():
        reduced = reduce_mesh(mesh, tissue, acquisition, basis).reduced.to(device)
        signal = simulate(reduced, acquisition.to(device)).cpu()
        reference = unweighted(reduced, acquisition.to(device)).cpu()
    if not bool(torch.isfinite(torch.view_as_real(signal)).all()):
        raise ReductionError(
            f"{mesh.name}: the signal is not finite. Check the mesh's quality and the tissue."
        )
    return Signals(acquisition, signal[None], reference[None])


def simulate_substrates(
    substrates: Substrates,
    tissue: Tissue,
    acquisition: Acquisition,
    basis: Basis | None = None,
    device: str = "cpu",
) -> Signals:
    """Signals of every substrate of a table, in its order."""
    rows = [
        simulate_mesh(substrates.mesh(index), tissue, acquisition, basis, device)
        for index in progress(range(len(substrates)), "simulate")
    ]
    return Signals(
        acquisition,
        torch.cat([row.signal for row in rows]),
        torch.cat([row.unweighted for row in rows]),
    )


def interleave(shards: list[Signals]) -> Signals:
    """Undo `Substrates.shard`: shard i holds substrates i, i + n, i + 2n, ..."""
    count = sum(len(shard) for shard in shards)
    order = torch.cat([torch.arange(i, count, len(shards)) for i in range(len(shards))])
    inverse = torch.argsort(order)
    return Signals(
        shards[0].acquisition,
        torch.cat([shard.signal for shard in shards])[inverse],
        torch.cat([shard.unweighted for shard in shards])[inverse],
    )
