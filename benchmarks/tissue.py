"""From a surface to a table of signals, timed: `python benchmarks/tissue.py FOLDER`.

A beaded tube of 4,000 triangles goes through `spinmesh mesh` and `spinmesh simulate` as a user's
would; its signals are compared with those of the smooth tube, on a curved template of our own.
Then the time of many template substrates and of a large bundle. One line for each step, with the
target beside it; files are left in the folder.
"""

from __future__ import annotations

import csv
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
import trimesh

import spinmesh
from spinmesh.mesh import TetMesh, outer_faces

SHAPE = {"radius": 1.0, "bead_amplitude": 0.3, "bead_count": 4.0}
BIN = Path(sys.executable).parent
TARGETS = {"seconds": 10.0, "error": 1e-4, "substrates": 120.0, "bundle": 180.0}
RANGES = {"bend": (0.0, 0.3), "bead_amplitude": (0.0, 0.3), "fan_angle": (0.0, 1.0)}
BUNDLE = "{axons: 100, size_um: 0.4, layers: 12, bead_amplitude: 0.02, dispersion_deg: 5}"


def tube(rings: int, layers: int, order: int) -> TetMesh:
    """The tube on a template: its corners, and at order 2 its mid-edge nodes, on the smooth one."""
    size = spinmesh.SweptDisk(
        rings=rings, layers=layers, radius_um=1.0, length_um=16.0, order=order
    )
    return spinmesh.single_substrate(spinmesh.swept_disk(size), SHAPE).mesh(0)


def write_inputs(folder: Path) -> None:
    """tube.ply, and an acquisition of 24 directions at each of three b-values."""
    mesh = tube(3, 108, 1)
    faces, _ = outer_faces(mesh.tets.numpy())
    trimesh.Trimesh(mesh.points.numpy(), faces, process=True).export(folder / "tube.ply")
    generator = np.random.default_rng(1)
    directions = generator.normal(size=(73, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    directions[0] = 0
    np.savetxt(folder / "a.bvec", directions.T)
    np.savetxt(folder / "a.bval", np.r_[0, np.repeat([1000, 3000, 6000], 24)][None], fmt="%d")


def run(folder: Path, *words: str) -> tuple[float, float]:
    """Seconds, and CPU seconds, of a command of spinmesh in a folder."""
    start, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([BIN / "spinmesh", *words], cwd=folder, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    return time.perf_counter() - start, cpu


def many(folder: Path) -> dict[str, tuple[float, float | None]]:
    """Ten thousand template substrates in this process, and a bundle of a hundred axons."""
    start, families = time.process_time(), dict.fromkeys(["bend_twist", "beading", "fanning"], 3334)
    template = spinmesh.swept_disk(spinmesh.SweptDisk())
    table = spinmesh.sample_substrates(template, families, RANGES, {"train": 1.0}, 0)
    substrates = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    (folder / "bundle.yaml").write_text(BUNDLE)
    _, bundle = run(folder, "mesh", "bundle.yaml", "--out", "bundle.zarr", "--force")
    points = len(spinmesh.load(TetMesh, folder / "bundle.zarr").points)
    return {
        f"{len(table):,} template substrates, CPU s": (substrates, TARGETS["substrates"]),
        "peak memory of these, GiB": (peak, None),
        f"bundle of 100 axons, {points:,} nodes, CPU s": (bundle, TARGETS["bundle"]),
    }


def main() -> None:
    """Both commands, and the error of their signals; then `many`."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    write_inputs(folder)
    files = ["--bvals", "a.bval", "--bvecs", "a.bvec", "--delta", "10", "--Delta", "40"]
    meshing = run(folder, "mesh", "tube.ply", "--out", "tube.zarr", "--curved", "--force")
    signals = run(folder, "simulate", "tube.zarr", *files, "--out", "tube.csv", "--force")
    with (folder / "tube.csv").open() as table:
        attenuation = [float(row["attenuation"]) for row in csv.DictReader(table)]
    acquisition = spinmesh.read_acquisition(
        bvals=str(folder / "a.bval"), bvecs=str(folder / "a.bvec"), delta_ms=10.0, Delta_ms=40.0
    )
    smooth = spinmesh.simulate(
        tube(3, 48, 2), spinmesh.Tissue.uniform(2.0), acquisition, tolerance=1e-6
    ).attenuation[0]
    error = float((torch.tensor(attenuation) - smooth).abs().max())
    tets = len(spinmesh.load(spinmesh.TetMesh, folder / "tube.zarr").tets)
    rows = {
        "tube.ply to tube.zarr, s": (meshing[0], None),
        "tube.ply to tube.zarr, CPU s": (meshing[1], None),
        "tube.zarr to tube.csv, s": (signals[0], None),
        "tube.zarr to tube.csv, CPU s": (signals[1], None),
        "together, CPU s": (meshing[1] + signals[1], TARGETS["seconds"]),
        f"error of S0 ({tets:,} tets)": (error, TARGETS["error"]),
        **many(folder),
    }
    for name, (value, target) in rows.items():
        print(f"{name}: {value:.3g}" + (f" (target {target:g})" if target else ""), flush=True)


if __name__ == "__main__":
    main()
