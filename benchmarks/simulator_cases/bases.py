"""Krylov against Laplace: CPU time at equal error, interpolated between measured bases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from simulator_cases.shapes import TISSUE, axon, directions, largest_error
from simulator_cases.table import Row, Settings, cpu_seconds
from spinmesh.bloch_torrey import Basis, Signals
from spinmesh.bodies import simulate
from spinmesh.fem import assemble
from spinmesh.mesh import TetMesh
from spinmesh.sequence import Acquisition

TARGET = 8.0
ERRORS = (1e-4, 1e-5, 1e-6)
# The judge is the adaptive basis at this tolerance; a polynomial one of about 300 judges the judge.
REFERENCE, SECOND = Basis(tolerance=1e-7), Basis(degree=4, blocks=8)
ADAPTIVE = [Basis(tolerance=t) for t in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)]
FIXED = [Basis(degree=p, blocks=n) for p, n in ((2, 2), (2, 3), (3, 2), (3, 3))]
MODES = (10, 20, 40, 80, 120, 160, 250)


def krylov_against_laplace(settings: Settings) -> Iterator[Row]:
    """CPU time at equal error on beaded axons, PGSE 8/30 ms, b to 10,000 s/mm^2, 60 signals."""
    acquisition = Acquisition.pgse(torch.linspace(0, 10, 60).double(), directions(60), 8.0, 30.0)
    meshes = [axon(20.0, 2, 10)]
    if not settings.quick:
        # The second is about the mesh of simulator.md section 2 (8,845 nodes, 20 um).
        meshes += [axon(20.0, 3, 30), axon(100.0, 2, 40)]
    for mesh in meshes:
        yield from _one_mesh(mesh, acquisition, (10, 20, 40) if settings.quick else MODES)


def _one_mesh(mesh: TetMesh, acquisition: Acquisition, modes: Sequence[int]) -> Iterator[Row]:
    name = f"{mesh.name}, {len(mesh.points):,} nodes"
    reference = simulate(mesh, TISSUE, acquisition, REFERENCE)
    second = simulate(mesh, TISSUE, acquisition, SECOND)
    doubt = largest_error(second.signal[0], reference)
    common = cpu_seconds(lambda: assemble(mesh, TISSUE))
    note = f"assembly, common to both roads: {common:.3f} s"
    yield Row("bases", f"{name}: two references differ", doubt, note=note)
    roads: dict[str, list[tuple[float, float]]] = {}
    for road, bases in (
        ("adaptive krylov", ADAPTIVE),
        ("fixed krylov", FIXED),
        ("adaptive laplace", [Basis(kind="laplace", tolerance=t) for t in (1e-4, 1e-5)]),
        ("fixed laplace", [Basis(kind="laplace", modes=count) for count in modes]),
    ):
        roads[road] = []
        for basis in bases:
            error, seconds = _measured(mesh, acquisition, basis, reference)
            roads[road].append((error, seconds))
            yield Row("bases", f"{name}: {road} {_size(basis)}", error, seconds)
    for error in ERRORS:
        yield from _ratios(name, roads, error)


def _measured(
    mesh: TetMesh, acquisition: Acquisition, basis: Basis, reference: Signals
) -> tuple[float, float]:
    """True error and CPU seconds, assembly and signals included."""
    signal = simulate(mesh, TISSUE, acquisition, basis).signal[0]
    return largest_error(signal, reference), cpu_seconds(
        lambda: simulate(mesh, TISSUE, acquisition, basis)
    )


def _size(basis: Basis) -> str:
    if basis.adaptive:
        return f"tolerance {basis.tolerance:g}"
    if basis.kind == "laplace":
        return f"modes {basis.modes}"
    return f"degree {basis.degree}, blocks {basis.blocks}"


def _ratios(name: str, roads: dict[str, list[tuple[float, float]]], error: float) -> Iterator[Row]:
    """Three comparisons: as a user meets them, as an oracle would choose, and one against two."""
    krylov = roads["adaptive krylov"] + roads["fixed krylov"]
    for words, ours, theirs in (
        ("best krylov / best laplace", krylov, roads["fixed laplace"]),
        ("adaptive krylov / best laplace", roads["adaptive krylov"], roads["fixed laplace"]),
        ("both adaptive", roads["adaptive krylov"], roads["adaptive laplace"]),
    ):
        ratio = time_at(theirs, error) / time_at(ours, error)
        yield Row(
            "bases",
            f"{name}: {words}",
            error,
            target=f"{TARGET:g} x less CPU time",
            met=None if np.isnan(ratio) else bool(ratio >= TARGET),
            note="not reached" if np.isnan(ratio) else f"{ratio:.1f} x",
        )


def time_at(points: Sequence[tuple[float, float]], error: float) -> float:
    """CPU seconds at which (error, seconds) pairs meet an error, straight in log-log.

    Only pairs that no other beats in both count. The cheapest one stands for every error it is
    better than; an error that none reaches is NaN.
    """
    front: list[tuple[float, float]] = []
    for own, seconds in sorted(points, key=lambda pair: (pair[1], pair[0])):
        if not front or own < front[-1][0]:
            front.append((own, seconds))
    if front[-1][0] > error:
        return float("nan")
    errors, times = np.log(np.array(front)[::-1]).T
    return float(np.exp(np.interp(np.log(error), errors, times)))
