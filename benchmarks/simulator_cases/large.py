"""A mesh of 100,000 nodes with a permeable membrane, in a process of its own for its memory."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from simulator_cases.shapes import directions
from simulator_cases.table import Row, Settings
from spinmesh.bodies import simulate
from spinmesh.mesh import SweptDisk, TetMesh, nested_cylinder
from spinmesh.sequence import Acquisition
from spinmesh.tissue import Tissue

TARGET_SECONDS, TARGET_GIGABYTES = 60.0, 6.0
PERMEABLE = Tissue(
    (1, 2),
    2.0 * torch.eye(3).double().repeat(2, 1, 1),
    torch.full((2,), torch.inf).double(),
    torch.ones(2).double(),
    {(1, 2): 0.1},
)


def nested(rings: int, layers: int) -> TetMesh:
    """A cylinder r 3.3 um in one of r 5 um, straight tets of about equal edges."""
    return nested_cylinder(
        SweptDisk(
            rings=rings, layers=layers, radius_um=5.0, length_um=5.0 * layers / rings, order=1
        ),
        2 * rings // 3,
    )


def protocol(count: int) -> Acquisition:
    """`count` gradients, b to 8 ms/um^2, at three timings."""
    Delta = torch.tensor([20.0, 40.0, 60.0]).double()[torch.arange(count) % 3]
    b = torch.linspace(0.5, 8, count).double()
    return Acquisition.pgse(b, directions(count), 10.0, Delta)


def large_mesh(settings: Settings) -> Iterator[Row]:
    """100,000 nodes, two permeable compartments, 270 signals to 1e-5."""
    rings, layers = (6, 30) if settings.quick else (18, 97)
    # A spawned process starts with this module alone: its peak is that of the work.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        nodes, seconds, peak = pool.submit(_in_own_process, rings, layers).result()
    what = f"{nodes:,} nodes, 2 compartments, 270 signals"
    met = (seconds <= TARGET_SECONDS, peak <= TARGET_GIGABYTES)
    fast, small = (None, None) if settings.quick else met
    yield Row("large", what, None, seconds, f"{TARGET_SECONDS:g} s", fast)
    yield Row(
        "large", f"{what}: memory", None, None, f"{TARGET_GIGABYTES:g} GB", small, f"{peak:.1f} GB"
    )


def _in_own_process(rings: int, layers: int) -> tuple[int, float, float]:
    """Nodes, CPU seconds and peak memory (GB, imports included)."""
    torch.set_num_threads(1)
    mesh, acquisition = nested(rings, layers), protocol(270)
    start = time.process_time()
    simulate(mesh, PERMEABLE, acquisition)
    return len(mesh.points), time.process_time() - start, _peak_memory()


def _peak_memory() -> float:
    """High-water mark of this process (GB).

    From /proc, since `ru_maxrss` of a process counts what its parent held before the exec.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024 / 1e9
    raise SystemExit("peak memory: /proc/self/status has no VmHWM. Run this case on Linux.")
