"""Bodies of any size: `python benchmarks/any_size.py tubes | dense | cell | million | NEURON.ply`.

Tubes of 0.1 to 3 mm tell how the cost of pieces grows with length; dense bodies what time stepping
takes; a periodic cell of permeable axons, of 100,000 or a million nodes, what endless tissue takes.
A neuron's surface is filled, simulated for the demonstration's protocol, and judged by time
stepping of the whole at six measurements. Targets stand beside the figures; all times are CPU
seconds of this process, and wall seconds where it says so.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from simulator_cases.large import PERMEABLE, nested
from simulator_cases.large import protocol as dense_protocol
from simulator_cases.shapes import directions

import spinmesh
from spinmesh.bloch_torrey import step_signal
from spinmesh.bodies import Simulation, simulate_body
from spinmesh.inputs.building import pack

WATER = spinmesh.Tissue.uniform(2.0)
LENGTHS = (100.0, 300.0, 1000.0, 3000.0)
TARGET_EXPONENT, TARGET_CPU_S = 1.1, {1e-4: 60.0, 1e-5: 180.0}


def protocol() -> spinmesh.Acquisition:
    """That of the demonstration: 194 measurements up to 17.8 ms/um^2."""
    folder = Path(__file__).parents[1] / "config" / "demo"
    files = {
        key: str(folder / f"tian2022.{end}") for key, end in (("bvals", "bval"), ("bvecs", "bvec"))
    }
    return spinmesh.read_acquisition(**files, delta_ms=8.0, Delta_ms=str(folder / "tian2022.Delta"))


def judged(
    mesh: spinmesh.TetMesh,
    acquisition: spinmesh.Acquisition,
    tolerance: float,
    tissue: spinmesh.Tissue = WATER,
) -> Simulation:
    """Simulated as a user would; its time and errors are printed."""
    start = time.process_time()
    result = simulate_body(mesh, tissue, acquisition, spinmesh.Basis(tolerance=tolerance))
    seconds = time.process_time() - start
    print(
        f"  {len(acquisition)} measurements at {tolerance:g}: {result.words}; {seconds:.1f} CPU s"
    )
    return result


def tubes() -> None:
    """Straight axons of 1 um radius with elements of 2 um along."""
    acquisition, seconds = protocol(), []
    for length in LENGTHS:
        size = spinmesh.SweptDisk(
            rings=1, layers=round(length / 2), radius_um=1.0, length_um=length, order=1
        )
        print(f"tube of {length:g} um")
        start = time.process_time()
        judged(spinmesh.swept_disk(size), acquisition, 1e-4)
        seconds.append(time.process_time() - start)
    exponent = np.polyfit(np.log(LENGTHS[1:]), np.log(seconds[1:]), 1)[0]
    print(f"time grows as length^{exponent:.2f} from 0.3 mm (target {TARGET_EXPONENT})")


def neuron(path: Path) -> None:
    """A filled surface, with time stepping of the whole as the judge."""
    from spinmesh.meshing.files import read_surface
    from spinmesh.meshing.fill import fill

    mesh = fill(read_surface(path)[0]).mesh
    print(f"{path.name}: {len(mesh.points):,} nodes")
    directions = np.tile(np.eye(3), (2, 1))
    few = spinmesh.Acquisition.pgse(
        np.repeat([4.25, 17.8], 3).tolist(), torch.from_numpy(directions), 8.0, 49.0
    )
    start = time.process_time()
    exact = step_signal(mesh, WATER, few, 1e-7).signals.attenuation
    print(f"  time stepping of 6 measurements: {time.process_time() - start:.1f} CPU s")
    for tolerance in (1e-3, 1e-4, 1e-5):
        error = (judged(mesh, few, tolerance).signals.attenuation - exact).abs().max()
        print(f"    true error {float(error):.1e} (target {tolerance:g})")
    for tolerance, seconds in TARGET_CPU_S.items():
        judged(mesh, protocol(), tolerance)
        print(f"    (target {seconds:g} CPU s)")


def dense() -> None:
    """A permeable cylinder in another, six measurements to 1e-6 by time stepping."""
    for rings, layers in ((8, 46), (12, 64), (18, 97)):
        mesh, start = nested(rings, layers), time.process_time()
        error = step_signal(mesh, PERMEABLE, dense_protocol(6), 1e-6).error
        seconds = time.process_time() - start
        print(f"{len(mesh.points):,} nodes stepped: bound {error:.1g}; {seconds:.1f} CPU s")


def cell(bundle: spinmesh.PackedBundle) -> None:
    """Permeable axons and the water between them: 270 measurements, b to 3 ms/um^2, to 1e-3."""
    mesh = pack(bundle).mesh
    tissue = spinmesh.Tissue.uniform(2.0, labels=mesh.labels)
    tissue = replace(tissue, permeability={(1, 2): 0.02})
    Delta = torch.tensor([20.0, 40.0, 60.0]).double()[torch.arange(270) % 3]
    b = torch.linspace(0.1, 3, 270).double()
    acquisition = spinmesh.Acquisition.pgse(b, directions(270), 10.0, Delta)
    print(f"cell of {bundle.axons} axons, {len(mesh.points):,} nodes, {len(mesh.tets):,} tets")
    start = time.time()
    judged(mesh, acquisition, 1e-3, tissue)
    print(f"    {time.time() - start:.0f} s of wall time (target of a million: 600)")


if __name__ == "__main__":
    torch.set_num_threads(1)
    cells = {
        "cell": spinmesh.PackedBundle(axons=100, size_um=0.6, layers=5),
        "million": spinmesh.PackedBundle(axons=427),
    }
    for word in sys.argv[1:] or ["tubes"]:
        if word in cells:
            cell(cells[word])
        elif word in ("tubes", "dense"):
            {"tubes": tubes, "dense": dense}[word]()
        else:
            neuron(Path(word))
