"""Signals of whole bodies, as one or in pieces, and of substrate tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from spinmesh.bloch_torrey import (
    Periodic,
    Reduction,
    Signals,
    reduce_mesh,
    simulate_periodic,
    step_signal,
)
from spinmesh.bodies.pieces import Cut, Parts, cut_where_it_pays, joined_jobs, simulate_cut
from spinmesh.errors import ConfigError, ReductionError
from spinmesh.fem import check_tissue, function_space
from spinmesh.machine import device_named
from spinmesh.mesh import Substrates, TetMesh, check_quality, sizes
from spinmesh.progress import progress
from spinmesh.reduction import MOST_DENSE, ReducedModel, reduce_shapes
from spinmesh.sequence import Acquisition
from spinmesh.settings import Basis, Method
from spinmesh.tissue import Tissue

# Unweighted signal at the echo over that at the start: below this it is rounding.
FAINTEST = 1e-12
# Entries of one dense matrix of a batch, which holds about fifteen such: 8 GB of a GPU; on a CPU,
# where larger batches are no faster, 0.5 GB.
DENSE, DENSE_ON_CPU = 2**26, 2**22
# On a CPU sparse factors win from here on (docs/decisions/0006).
MOST_DENSE_ON_CPU = 400


def simulate(
    mesh: TetMesh,
    tissue: Tissue,
    acquisition: Acquisition,
    basis: Basis | None = None,
    device: str = "cpu",
    *,
    tolerance: float | None = None,
    method: str = "reduced",
) -> Signals:
    """Signals (um^3 times spin density) of one mesh filled with a tissue.

    `tolerance` replaces that of `basis`; `method` is that of `simulate_body`. The basis is built
    on the CPU (a sparse factorisation), the signals on `device`. Raises MeshError, ConfigError or
    ReductionError before any compute is spent on a bad input; a signal that is not finite is an
    error too.
    """
    device = device_named(device)
    if tolerance is not None:
        basis = (basis or Basis()).replace(tolerance=tolerance)
    return simulate_body(mesh, tissue, acquisition, basis, device, method).signals


@dataclass(frozen=True, eq=False)
class Simulation:
    """Signals of a body, and what tells how good they are."""

    signals: Signals
    words: str  # estimated and bounded errors, as fractions of the unweighted signal
    # Of the body, of its piece with the most water, or of a periodic cell: knows the mesh's error.
    reduction: Reduction | Periodic | None = None
    parts: Parts | None = None  # if it was cut
    compartments: Signals | None = None  # a row for each label of the mesh, if asked for


def simulate_body(
    mesh: TetMesh,
    tissue: Tissue,
    acquisition: Acquisition,
    basis: Basis | None = None,
    device: str = "cpu",
    method: str = "reduced",
    *,
    by_compartment: bool = False,
) -> Simulation:
    """As `simulate`, with what the errors are.

    `method` "stepping" takes the whole system through time, on the CPU: of `basis`, its tolerance
    is all that counts. With "reduced", a body much longer than what water covers within the echo is
    cut into pieces, if the basis is a Krylov one that grows to its tolerance: see
    docs/methods/pieces.md. Of a mesh with periods the signals are those of one cell of endless
    tissue (docs/methods/periodic.md). `by_compartment` adds the signal of the spins that are in
    each compartment at the echo; ConfigError of a mesh with periods, or by stepping.
    """
    basis = basis or Basis()
    if method not in get_args(Method):
        raise ConfigError(f"method: {method!r} is unknown. Give reduced or stepping.")
    periodic = _grows(basis) and mesh.periods is not None
    if by_compartment and (periodic or method == "stepping"):
        way = "method stepping" if method == "stepping" else "the periodic cell"
        raise ConfigError(
            f"{mesh.name}: {way} has the sum of the compartments only. Leave by_compartment away."
        )
    if method == "stepping":
        stepped = step_signal(mesh, tissue, acquisition, basis.tolerance)
        return Simulation(stepped.signals, f"at most {stepped.error:.1g} (time stepping)")
    if periodic:
        cell = simulate_periodic(mesh, tissue, acquisition, basis.tolerance)
        words = f"{cell.error:.1g} (basis of {cell.span.size} in a periodic cell)"
        return Simulation(
            sound([mesh.name], cell.signals, torch.tensor([[cell.spins]])), words, cell
        )
    cut = _cut(mesh, tissue, acquisition, basis)
    if cut is None:
        reduction = reduce_mesh(mesh, tissue, acquisition, basis)
        error = "unknown" if reduction.error is None else f"{reduction.error:.1g}"
        words = f"{error} (basis of {reduction.span.size})"
        signals, there = signals_of(reduction, acquisition, device), reduction.reduced.to(device)
        each = Signals.of_compartments(there, acquisition) if by_compartment else None
        return Simulation(signals, words, reduction, compartments=each)
    parts, judged = simulate_cut(cut, acquisition, basis, device)
    spins = cut.pieces[0].body.cells.mass.sum().reshape(1, 1)
    signals = sound([mesh.name], parts.signals, spins)
    each = parts.compartments if by_compartment else None
    return Simulation(signals, parts.words, judged, parts, each)


def _grows(basis: Basis) -> bool:
    return basis.kind == "krylov" and basis.adaptive


def _cut(mesh: TetMesh, tissue: Tissue, acquisition: Acquisition, basis: Basis) -> Cut | None:
    """Pieces, if these are better than the whole and such a basis can have them."""
    if not _grows(basis) or mesh.periods is not None:
        return None
    return cut_where_it_pays(mesh, tissue, acquisition, basis.tolerance)


def simulate_share(
    mesh: TetMesh,
    tissue: Tissue,
    acquisition: Acquisition,
    basis: Basis | None = None,
    device: str = "cpu",
    *,
    job: int,
    jobs: int,
) -> Signals:
    """What job number `job` of several does of `simulate`: a row for each of its pieces.

    `joined_shares` puts all rows together. A body that stays whole is left to the first job, and a
    job without pieces has a row of zeros.
    """
    device, basis = device_named(device), basis or Basis()
    cut = _cut(mesh, tissue, acquisition, basis)
    if job < (1 if cut is None else len(cut.pieces)):
        if cut is None:
            return simulate_body(mesh, tissue, acquisition, basis, device).signals
        rows = simulate_cut(cut, acquisition, basis, device, job=job, jobs=jobs)[0].rows
        assert rows is not None
        return rows
    nothing = torch.zeros(1, len(acquisition), dtype=torch.complex128)
    return Signals(acquisition, nothing, nothing.real)


def joined_shares(mesh: TetMesh, tissue: Tissue, rows: Signals) -> Signals:
    """Signals of a body from the rows of all jobs: bit for bit those of `simulate`."""
    volume = torch.from_numpy(sizes(mesh)[:, 0])
    spins = (tissue.density.detach() * volume).sum().reshape(1, 1)
    return sound([mesh.name], joined_jobs(rows), spins)


def signals_of(reduction: Reduction, acquisition: Acquisition, device: str = "cpu") -> Signals:
    """Signals of a mesh that is reduced already, computed on `device`.

    Raises ReductionError if one is not finite, or if relaxation and walls leave nothing to divide
    by: NaN never leaves.
    """
    return _simulated([reduction.span.mesh.name], reduction.reduced.to(device), acquisition)


def _simulated(names: list[str], reduced: ReducedModel, acquisition: Acquisition) -> Signals:
    """Signals of named shapes on the device of their operators; ReductionError as `signals_of`."""
    excited = reduced.initial.square().sum(-1).cpu().reshape(-1, 1)
    return sound(names, Signals.of(reduced, acquisition), excited)


def sound(names: list[str], signals: Signals, excited: Tensor) -> Signals:
    """The signals, if those of each name are finite and leave something to divide by."""
    remaining = signals.unweighted / excited
    for name, values, left in zip(names, signals.signal, remaining, strict=True):
        if not bool(torch.isfinite(torch.view_as_real(values)).all() & torch.isfinite(left).all()):
            raise ReductionError(
                f"{name}: the signal is not finite. Check the mesh's quality and the tissue."
            )
        if not bool((left > FAINTEST).all()):
            last = int(left.argmin())
            raise ReductionError(
                f"{name}: without gradient, T2 and walls leave {float(left[last]):.1g} of the "
                f"magnetisation at the echo of measurement {last}: an attenuation would be "
                "rounding. Raise t2_ms, lower the walls' permeability, or shorten the echo time."
            )
    return signals


def simulate_substrates(
    substrates: Substrates,
    tissue: Tissue,
    acquisition: Acquisition,
    basis: Basis | None = None,
    device: str = "cpu",
) -> Signals:
    """Signals of every substrate of a table, in its order.

    A Krylov basis of fixed size on a small template is a batch: assembled, reduced and simulated
    together on `device`. Otherwise each shape has its own sparse factorisation on the CPU, and the
    size that its tolerance asks for.
    """
    device = device_named(device)
    basis = basis or Basis()
    size = len(function_space(substrates.template))
    most = MOST_DENSE_ON_CPU if device == "cpu" else MOST_DENSE
    if basis.kind == "krylov" and not basis.adaptive and size <= most:
        most = max(1, (DENSE_ON_CPU if device == "cpu" else DENSE) // size**2)
        count = -(-len(substrates) // most)
        rows = [
            _simulate_batch(part, tissue, acquisition, basis, device)
            for part in progress(substrates.parts(most), "simulate batches", total=count)
        ]
    else:
        rows = [
            simulate(substrates.mesh(index), tissue, acquisition, basis, device)
            for index in progress(range(len(substrates)), "simulate")
        ]
    return Signals(
        acquisition,
        torch.cat([row.signal for row in rows]),
        torch.cat([row.unweighted for row in rows]),
    )


def _simulate_batch(
    substrates: Substrates, tissue: Tissue, acquisition: Acquisition, basis: Basis, device: str
) -> Signals:
    """All of them at once, after the checks that each mesh gets."""
    meshes, template = [substrates.mesh(i) for i in range(len(substrates))], substrates.template
    for mesh in meshes:
        check_quality(mesh)
    check_tissue(template, function_space(template), tissue)
    size = (basis.degree, basis.blocks or 0)
    points = torch.stack([mesh.points for mesh in meshes]).to(device)
    reduced = reduce_shapes(template, points, tissue, *size)
    return _simulated([mesh.name for mesh in meshes], reduced, acquisition)
