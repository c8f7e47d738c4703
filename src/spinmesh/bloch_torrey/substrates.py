"""Signals of whole meshes and of substrate tables."""

from __future__ import annotations

import torch

from spinmesh.bloch_torrey.basis import Basis, Reduction, reduce_mesh
from spinmesh.bloch_torrey.signal import Signals, simulate, unweighted
from spinmesh.errors import ConfigError, ReductionError
from spinmesh.mesh import Substrates, TetMesh
from spinmesh.progress import progress
from spinmesh.sequence import Acquisition
from spinmesh.tissue import Tissue

# Unweighted signal at the echo over that at the start: below this it is rounding.
FAINTEST = 1e-12


def check_device(device: str) -> None:
    """ConfigError unless torch can compute there."""
    if device.split(":")[0] not in ("cpu", "cuda"):
        raise ConfigError(f"device: {device!r} is unknown. Give cpu or cuda.")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device: {device} is asked for, but torch sees no GPU. Give cpu.")


def simulate_mesh(
    mesh: TetMesh,
    tissue: Tissue,
    acquisition: Acquisition,
    basis: Basis | None = None,
    device: str = "cpu",
) -> Signals:
    """Signals (um^3 times spin density) of one mesh filled with a tissue.

    The basis is built on the CPU (a sparse factorisation), the signals on `device`. Raises
    MeshError, ConfigError or ReductionError before any compute is spent on a bad input; a signal
    that is not finite is an error too.
    """
    check_device(device)
    return signals_of(reduce_mesh(mesh, tissue, acquisition, basis), acquisition, device)


def signals_of(reduction: Reduction, acquisition: Acquisition, device: str = "cpu") -> Signals:
    """Signals of a mesh that is reduced already, computed on `device`.

    Raises ReductionError if one is not finite, or if relaxation and walls leave nothing to divide
    by: NaN never leaves.
    """
    with torch.no_grad():
        reduced = reduction.reduced.to(device)
        signal = simulate(reduced, acquisition.to(device)).cpu()
        reference = unweighted(reduced, acquisition.to(device)).cpu()
    name = reduction.span.mesh.name
    if not bool(torch.isfinite(torch.view_as_real(signal)).all() & torch.isfinite(reference).all()):
        raise ReductionError(
            f"{name}: the signal is not finite. Check the mesh's quality and the tissue."
        )
    excited = float(reduction.reduced.initial @ reduction.reduced.initial)
    if not bool((reference > FAINTEST * excited).all()):
        last = int(reference.argmin())
        raise ReductionError(
            f"{name}: without gradient, T2 and walls leave {float(reference[last]) / excited:.1g} "
            f"of the magnetisation at the echo of measurement {last}: an attenuation would be "
            "rounding. Raise t2_ms, lower the walls' permeability, or shorten the echo time."
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
