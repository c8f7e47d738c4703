"""Many shapes of one template under the published protocol: signals per second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch

from simulator_cases.shapes import TISSUE, published_acquisition
from simulator_cases.table import Row, Settings
from spinmesh.bloch_torrey import Basis
from spinmesh.bodies import simulate, simulate_substrates
from spinmesh.mesh import Substrates, SweptDisk, sample_substrates, swept_disk

TARGET = 1e6  # signals per second on a GPU
ON_GPU, ON_CPU, QUICK = 1000, 8, 2
BASIS = Basis(degree=2, blocks=3)


def many_shapes(settings: Settings) -> Iterator[Row]:
    """Shapes of a 494-vertex template, 1,890 signals each; a million a second on a GPU."""
    gpu = settings.device != "cpu"
    count = QUICK if settings.quick else ON_GPU if gpu else ON_CPU
    shapes, acquisition = bent_axons(count), published_acquisition()
    judge = simulate(shapes.mesh(0), TISSUE, acquisition, Basis(tolerance=1e-6))
    first = simulate_substrates(shapes.take([0]), TISSUE, acquisition, BASIS, settings.device)
    error = float(((first.signal - judge.signal).abs() / judge.unweighted).max())
    seconds = _seconds(
        lambda: simulate_substrates(shapes, TISSUE, acquisition, BASIS, settings.device), gpu
    )
    rate = count * len(acquisition) / seconds
    card = torch.cuda.get_device_name() if gpu else "no GPU here"
    yield Row(
        "batch",
        f"{count:,} shapes of {len(shapes.template.points)} vertices, {len(acquisition):,} signals",
        error,
        None if gpu else seconds,
        f"{TARGET:g} signals/s on a GPU",
        rate >= TARGET if gpu else None,
        f"{rate:,.0f} signals/s ({card})",
    )


def bent_axons(count: int) -> Substrates:
    """Bent, beaded and fanned axons on a template of 494 vertices, from seed 0."""
    template = swept_disk(SweptDisk(rings=2, layers=25, radius_um=1.5, length_um=12.0, order=1))
    ranges = {"bend": (0.0, 0.2), "bead_amplitude": (0.0, 0.25), "bead_count": (1.0, 3.0)}
    split = {"train": 1.0, "val": 0.0, "test": 0.0}
    return sample_substrates(template, {"combined": count}, ranges, split, 0)


def _seconds(work: Callable[[], object], gpu: bool) -> float:
    """CPU seconds, or elapsed ones where a GPU does the work."""
    clock = time.perf_counter if gpu else time.process_time
    start = clock()
    work()
    if gpu:
        torch.cuda.synchronize()
    return clock() - start
