"""Packs: `python benchmarks/packs.py [STRANDS] [TOLERANCE]`, of 0 strands the estimates alone.

Random protocols are replayed for small bodies, and their estimated errors compared with the true
ones: pulses, oscillations, double pulses and free waveforms of 0.2 to 2.5 times the strength.

Strands of 1 mm on random smooth paths (own sampler: radii of 0.7 to 2.1 um, bends of 100 um and
more) are reduced for a protocol of 364 measurements and replayed; a quarter of one is judged by
a direct simulation. Targets stand beside the figures; all times are CPU seconds of this process,
and those of DiSCo's 12,196 strands are extrapolated.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import spinmesh

LENGTH, RADII, WATER = 1000.0, (0.7, 2.1), spinmesh.Tissue.uniform(0.6)
# Wavelengths (um) of the paths' bends, and their amplitudes as parts of them.
WAVES, AMPLITUDE = (200.0, 400.0, 800.0), 0.03
TARGETS = {"replay of a strand, CPU s": 0.3, "pack of a strand, MB": 2.0}
# dmipy-sim: stored walks of 12,196 strands, replayed for 364 measurements with an rms of 0.013.
DISCO, MINUTES, GIGABYTES = 12_196, 16.0, 42.0


def protocol() -> spinmesh.Acquisition:
    """Shells of 1, 1.925, 3.094 and 13.191 ms/um^2 in 90 directions, and four without gradient."""
    unit = np.random.default_rng(0).standard_normal((90, 3))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    b = np.repeat([1.0, 1.925, 3.094, 13.191], 90)
    directions = torch.from_numpy(np.vstack([unit[:4], np.tile(unit, (4, 1))]))
    return spinmesh.Acquisition.pgse([0.0] * 4 + b.tolist(), directions, 12.4, 35.8, TE=53.5)


def strand(number: int, length: float = LENGTH) -> spinmesh.TetMesh:
    """Cross-sections stay round and at right angles to the path."""
    rng = np.random.default_rng(number)
    radius = float(rng.uniform(*RADII))
    size = spinmesh.SweptDisk(
        rings=1, layers=round(length / (2 * radius)), radius_um=radius, length_um=length, order=2
    )
    mesh = spinmesh.swept_disk(size)
    x, y, z = mesh.points.numpy().T
    path, slope = np.stack([0 * z, 0 * z, z], 1), np.stack([0 * z, 0 * z, 1 + 0 * z], 1)
    for wave in WAVES:
        for axis in range(2):
            phase, k = rng.uniform(0, 2 * np.pi), 2 * np.pi / wave
            height = rng.uniform(0, AMPLITUDE) * wave
            path[:, axis] += height * np.sin(k * z + phase)
            slope[:, axis] += height * k * np.cos(k * z + phase)
    tangent = slope / np.linalg.norm(slope, axis=1, keepdims=True)
    across = np.array([1.0, 0, 0]) - tangent[:, :1] * tangent
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    points = path + x[:, None] * across + y[:, None] * np.cross(tangent, across)
    return mesh.with_points(torch.from_numpy(points), f"strand {number}")


def bodies() -> list[tuple[spinmesh.TetMesh, spinmesh.Tissue]]:
    """A bent axon, two exchanging cells, a ball."""
    size = {"rings": 2, "radius_um": 3.0, "length_um": 8.0}
    two = spinmesh.nested_cylinder(spinmesh.SweptDisk(layers=3, **size), 1)
    cells = {1: {"t2_ms": 30.0}, 2: {"diffusivity_um2_per_ms": 1.0, "t2_ms": 80.0, "density": 0.7}}
    membrane = [{"between": (1, 2), "permeability_um_per_ms": 0.05}]
    exchanging = spinmesh.Tissue.from_settings({"compartments": cells, "interfaces": membrane})
    water = spinmesh.Tissue.uniform(2.0)
    axon = spinmesh.swept_disk(spinmesh.SweptDisk(rings=2, layers=8, radius_um=2.0, length_um=16.0))
    return [(axon, water), (two, exchanging), (spinmesh.ball(5.0, 2), water)]


def random_protocol(rng: np.random.Generator, gradient: float, time: float) -> spinmesh.Acquisition:
    """Six directions of one sequence."""
    half = time / 2
    delta, ratio, count = half * rng.uniform(0.05, 1), rng.uniform(0.5, 1), int(rng.integers(1, 6))
    levels = rng.standard_normal((6, 3))
    levels -= levels.mean(0)
    levels /= np.linalg.norm(levels, axis=1).max()
    sequence = [
        spinmesh.PGSE(delta, rng.uniform(delta, time - delta)),
        spinmesh.CosineOGSE(half * ratio, half, count),
        spinmesh.FreeWaveform.of([time / 6] * 6, levels.tolist())[0],
        spinmesh.MultiplePGSE.double(time / 10, time / 4, time / 20, (1.0, 0.0, 0.0)),
    ][rng.integers(4)]
    unit = torch.nn.functional.normalize(torch.from_numpy(rng.standard_normal((6, 3))))
    return spinmesh.Acquisition((sequence,), torch.zeros(6).long(), gradient * unit)


def estimates() -> None:
    """How often, and by how much, an estimate is below the true error."""
    rng, below, count = np.random.default_rng(1), [], 0
    for (mesh, tissue), tolerance in itertools.product(bodies(), (1e-3, 1e-5)):
        design, basis = (
            spinmesh.strongest_protocol(100.0, 40.0),
            spinmesh.Basis(tolerance=tolerance),
        )
        pack = spinmesh.reduce(mesh, tissue, design, basis)
        for _ in range(12):
            factor, longer = rng.choice([0.2, 0.6, 1.0, 1.5, 2.5]), rng.choice([0.6, 1.0, 1.3])
            acquisition = random_protocol(rng, 100.0 * float(factor), 40.0 * float(longer))
            parts = spinmesh.replay(pack, acquisition, tolerance=1.0)
            exact = spinmesh.simulate(mesh, tissue, acquisition, tolerance=1e-7)
            error = (parts.signals.signal - exact.signal).abs() / exact.unweighted
            true, count = float(error.max()), count + 1
            if true > parts.basis_error:
                accepted = "accepted" if parts.basis_error <= tolerance else "refused"
                below.append(f"{parts.basis_error:.1e} for {true:.1e}, {accepted} at {tolerance:g}")
    print(f"{count} random protocols: {len(below)} estimates below the error: {'; '.join(below)}")


def main(count: int, tolerance: float) -> None:
    """Reduce, store, load and replay each strand."""
    acquisition, reduced, replayed, sizes = protocol(), [], [], []
    basis, short = spinmesh.Basis(tolerance=tolerance), strand(0, LENGTH / 4)
    parts = spinmesh.replay(spinmesh.reduce(short, WATER, acquisition, basis), acquisition)
    exact = spinmesh.simulate(short, WATER, acquisition, tolerance=tolerance / 30)
    error = (parts.signals.signal - exact.signal).abs() / exact.unweighted
    print(f"a strand of {LENGTH / 4:g} um: {parts.words}; true error {float(error.max()):.1e}")
    for number in range(count):
        mesh, start = strand(number), time.process_time()
        pack = spinmesh.reduce(mesh, WATER, acquisition, basis)
        reduced.append(time.process_time() - start)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pack.zarr"
            spinmesh.save(pack, path)
            sizes.append(sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) / 1e6)
            start = time.process_time()
            parts = spinmesh.replay(spinmesh.load(spinmesh.Pack, path), acquisition)
            replayed.append(time.process_time() - start)
        print(f"{mesh.name}: {len(mesh.points):,} nodes; {parts.words}; reduced in "
              f"{reduced[-1]:.1f}, replayed in {replayed[-1]:.2f} CPU s; {sizes[-1]:.2f} MB",
              flush=True)  # fmt: skip
    figures = [np.mean(replayed), np.mean(sizes)]
    for (what, target), figure in zip(TARGETS.items(), figures, strict=True):
        print(f"{what}: {figure:.2g} (target {target:g})")
    minutes, gigabytes = DISCO * figures[0] / 60, DISCO * figures[1] / 1e3
    print(f"{DISCO:,} strands, extrapolated from {count}: {minutes:.0f} CPU min and "
          f"{gigabytes:.0f} GB (dmipy-sim {MINUTES:g} min and {GIGABYTES:g} GB at 0.013), reduced "
          f"in {DISCO * np.mean(reduced) / 3600:.0f} CPU h")  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    words = [*sys.argv[1:], *("3", "1e-3")[len(sys.argv) - 1 :]]
    if int(words[0]) > 0:
        main(int(words[0]), float(words[1]))
    else:
        estimates()
