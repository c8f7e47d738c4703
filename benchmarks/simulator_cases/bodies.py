"""Sphere and cylinder against their exact signals, everything from the mesh on included."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from simulator_cases.shapes import TISSUE
from simulator_cases.table import Row, Settings, cpu_seconds
from spinmesh.analytic import cylinder, sphere
from spinmesh.bloch_torrey import Basis
from spinmesh.bodies import simulate
from spinmesh.mesh import SweptDisk, TetMesh, ball, swept_disk
from spinmesh.sequence import Acquisition

FAST, FAST_ERROR = 1.0, 1e-4  # CPU s, and the error to stay below in that time
FINE_ERROR = 1e-5
# Run by us under Octave, one core (simulator.md section 5); cited here, not repeated.
SPINDOCTOR = Row(
    "bodies",
    "SpinDoctor (cited): sphere r 5, 10,872 nodes",
    1.4e-3,
    17.2,
    note="200 modes 16.9 s and 0.26 s per signal; simulator.md section 5",
)


def exact_bodies(settings: Settings) -> Iterator[Row]:
    """Exact sphere r 5 um and cylinder r 2 um, PGSE 10/40 ms, b to 8,000 s/mm^2."""
    b = torch.linspace(0.5, 8, 8).repeat(3).double()
    acquisition = Acquisition.pgse(b, torch.eye(3).double().repeat_interleave(8, 0), 10.0, 40.0)
    exact = sphere(acquisition, 5.0, 2.0)
    yield _row("sphere r 5", ball(5.0, 2), acquisition, exact)
    if not settings.quick:
        yield _row("sphere r 5", ball(5.0, 3), acquisition, exact, "fast")
        yield _row("sphere r 5", ball(5.0, 4), acquisition, exact, "fine")
    yield SPINDOCTOR
    across = acquisition.select(slice(0, 16))
    exact = cylinder(across, 2.0, 2.0, torch.tensor([0.0, 0, 1]).double())
    for rings, judged in ((2, "fast"), (4, "fine")):
        mesh = swept_disk(SweptDisk(rings=rings, layers=2, radius_um=2.0, length_um=4.0))
        yield _row("cylinder r 2 across", mesh, across, exact, judged)


def _row(
    name: str, mesh: TetMesh, acquisition: Acquisition, exact: torch.Tensor, judged: str = ""
) -> Row:
    # The basis has to err less than the mesh: its usual 1e-5 would be the limit of the fine ones.
    basis = Basis(tolerance=1e-6 if judged == "fine" else 1e-5)

    def run() -> torch.Tensor:
        return simulate(mesh, TISSUE, acquisition, basis).attenuation[0]

    error = float((run() - exact).abs().max())
    seconds = cpu_seconds(run)
    target, met = {
        "": ("", None),
        "fast": (
            f"error {FAST_ERROR:g} in {FAST:g} s",
            error <= FAST_ERROR and seconds <= FAST,
        ),
        "fine": (f"error {FINE_ERROR:g} reachable", error <= FINE_ERROR),
    }[judged]
    return Row("bodies", f"{name}, {len(mesh.points):,} nodes", error, seconds, target, met)
