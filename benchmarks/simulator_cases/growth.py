"""How CPU time grows with nodes, measurements and the size k of the basis."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from simulator_cases.large import PERMEABLE, nested, protocol
from simulator_cases.shapes import TISSUE, axon
from simulator_cases.table import Row, Settings, cpu_seconds
from spinmesh.bloch_torrey import Basis, simulate_reduced
from spinmesh.bodies import simulate
from spinmesh.fem import assemble
from spinmesh.reduction import Projection, ReducedModel, krylov_projection, shift_inverse
from spinmesh.report.style import picture

# Rings and layers of nested cylinders: 1e3 to 3e5 nodes.
MESHES = ((4, 16), (6, 23), (8, 46), (12, 64), (18, 97), (26, 141))
MEASUREMENTS = (30, 100, 300, 1000, 3000)
SIZES = (20, 40, 80, 120, 160)
USUAL_SIZE, USUAL_COUNT = 40, 300


@dataclasses.dataclass(frozen=True, eq=False)
class Series:
    """CPU seconds against one number, and the power of it that fits them best."""

    name: str
    x: np.ndarray
    cpu_s: np.ndarray

    @property
    def law(self) -> tuple[float, float]:
        """Exponent and factor of factor * x^exponent, by least squares in log-log."""
        exponent, logarithm = np.polyfit(np.log(self.x), np.log(self.cpu_s), 1)
        return float(exponent), float(np.exp(logarithm))


def growth(settings: Settings) -> Iterator[Row]:
    """Exponents of CPU time, by least squares in log-log."""
    found = []
    for series in (_with_nodes, _with_measurements, _with_size):
        own = series(settings)
        found.append(own)
        steps = ", ".join(f"{x:,}: {t:.3g} s" for x, t in zip(own.x, own.cpu_s, strict=True))
        yield Row("growth", f"time ~ ({own.name})^{own.law[0]:.2f}", note=steps)
    if settings.folder is not None:
        draw(found, settings.folder / "growth.png")


def _with_nodes(settings: Settings) -> Series:
    """Mesh to 30 signals on a fixed basis (k = 80: two compartments), permeable membrane."""
    acquisition, basis, nodes, seconds = protocol(30), Basis(degree=2, blocks=3), [], []
    for rings, layers in MESHES[: 3 if settings.quick else None]:
        mesh = nested(rings, layers)
        nodes.append(len(mesh.points))
        seconds.append(
            cpu_seconds(partial(simulate, mesh, PERMEABLE, acquisition, basis), repeats=2)
        )
    return Series("nodes", np.array(nodes), np.array(seconds))


def _with_measurements(settings: Settings) -> Series:
    reduced = _reduced(USUAL_SIZE)
    counts = MEASUREMENTS[: 3 if settings.quick else None]
    seconds = [cpu_seconds(partial(simulate_reduced, reduced, protocol(count))) for count in counts]
    return Series("measurements", np.array(counts), np.array(seconds))


def _with_size(settings: Settings) -> Series:
    acquisition = protocol(USUAL_COUNT // (10 if settings.quick else 1))
    seconds = [cpu_seconds(partial(simulate_reduced, _reduced(k), acquisition)) for k in SIZES]
    return Series("k", np.array(SIZES), np.array(seconds))


def _reduced(size: int) -> ReducedModel:
    """The first `size` functions of an orthonormal Krylov basis of a 20 um axon."""
    mesh = axon(20.0, 2, 10)
    empty = Projection.empty(mesh, assemble(mesh, TISSUE))
    whole = krylov_projection(empty, shift_inverse(empty.matrices, 0.1), 3, 8).reduced
    return ReducedModel(
        whole.laplacian[:size, :size], whole.moments[:, :size, :size], whole.mean[:, :size]
    )


def draw(found: list[Series], path: Path) -> None:
    """One panel per series: measured points and the fitted power."""
    with picture(path, 10.0, 3.4) as figure:
        for axes, series in zip(figure.subplots(1, len(found)), found, strict=True):
            exponent, factor = series.law
            axes.loglog(series.x, series.cpu_s, "o")
            axes.loglog(series.x, factor * series.x**exponent, "-", lw=1)
            axes.set(xlabel=series.name, title=f"({series.name})^{exponent:.2f}")
            axes.set(ylabel="CPU time (s)")
