"""Many shapes of one template under the published protocol: signals per second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from simulator_cases.shapes import TISSUE, published_acquisition, shaped
from simulator_cases.table import Row, Settings
from spinmesh.bloch_torrey import Basis, simulate_mesh
from spinmesh.mesh import SweptDisk, TetMesh, swept_disk
from spinmesh.sequence import Acquisition

TARGET = 1e6  # signals per second on a GPU
ON_GPU, ON_CPU, QUICK = 1000, 8, 2
BASIS = Basis(degree=2, blocks=3)


def many_shapes(settings: Settings) -> Iterator[Row]:
    """Shapes of a 494-vertex template, 1,890 signals each; a million a second on a GPU."""
    gpu = settings.device != "cpu"
    count = QUICK if settings.quick else ON_GPU if gpu else ON_CPU
    meshes, acquisition = _shapes(count), published_acquisition()
    judge = simulate_mesh(meshes[0], TISSUE, acquisition, Basis(tolerance=1e-6))
    first = signals_of_shapes(meshes[:1], acquisition, settings.device)[0]
    error = float(((first - judge.signal[0]).abs() / judge.unweighted[0]).max())
    seconds = _seconds(lambda: signals_of_shapes(meshes, acquisition, settings.device), gpu)
    rate = count * len(acquisition) / seconds
    card = torch.cuda.get_device_name() if gpu else "no GPU here"
    yield Row(
        "batch",
        f"{count:,} shapes, {len(meshes[0].points)} vertices, {len(acquisition):,} signals each",
        error,
        None if gpu else seconds,
        f"{TARGET:g} signals/s on a GPU",
        rate >= TARGET if gpu else None,
        f"{rate:,.0f} signals/s ({card})",
    )


def _shapes(count: int) -> list[TetMesh]:
    """Bent, beaded axons with random amplitudes, from seed 0."""
    template = swept_disk(SweptDisk(2, 25, 1.5, 12.0, order=1))
    draws = torch.rand(count, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return [
        shaped(template, f"shape {i}", bend=0.2 * bend, bead_amplitude=0.25 * bead, bead_count=2.0)
        for i, (bend, bead) in enumerate(draws.tolist())
    ]


def signals_of_shapes(meshes: Sequence[TetMesh], acquisition: Acquisition, device: str) -> Tensor:
    """Complex signals (shape, measurement), one shape after the other."""
    return torch.cat(
        [simulate_mesh(mesh, TISSUE, acquisition, BASIS, device).signal for mesh in meshes]
    )


def _seconds(work: Callable[[], object], gpu: bool) -> float:
    """CPU seconds, or elapsed ones where a GPU does the work."""
    clock = time.perf_counter if gpu else time.process_time
    start = clock()
    work()
    if gpu:
        torch.cuda.synchronize()
    return clock() - start
