"""Cells of NeuronSet from .swc to signals, against what SpinDoctor published of them.

`python benchmarks/neuronset.py FOLDER...`: folders with .swc files, of which any has NeuronSet's
tables `morpho_measure_*.csv` and `dir_ave_sig_*.csv` (github.com/SpinDoctorMRI/NeuronSet; GPL-3,
not ours to ship). One line for each cell, targets in the heading. The union of the cones is
manifold3d's, of balls with 16 and 32 sides, whose volumes and areas are continued to infinitely
many; with 32 alone a pyramidal cell has 0.8 % too little.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path

import manifold3d
import numpy as np
import torch
from numpy import ndarray

import spinmesh
from spinmesh.errors import ReductionError
from spinmesh.mesh import outer_faces
from spinmesh.meshing.tets import quality, volumes
from spinmesh.skeletons.cones import RoundCones
from spinmesh.skeletons.files import read_skeletons

# Diffusivity, pulses and amplitudes of Experimental_setting.txt.
DIFFUSIVITY = 3.0
DELTA, DELTAS = 8.0, (19.0, 49.0)
AMPLITUDES = np.r_[31:179:33j, 188.25:290:12j]
DIRECTIONS = 40
# Larger meshes than this many points are not simulated yet.
MOST_POINTS = 100_000
SIDES, BLOCK = (16, 32), 100
TARGETS = (
    "targets: quality >= 0.1, 1 part, Euler 2, volume and area within 2 % of the union and 10 % "
    "of the list, signals within 0.01 (glia 0.02), 90 CPU s for 1,000 nodes, 600 for 10,000"
)
HEADING = (
    *("cell", "nodes", "points", "tets", "quality", "parts, Euler", "volume: union, list"),
    *("area: union, list", "signal error", "CPU s", "GB"),
)


def main() -> None:
    """The table, a line at a time."""
    folders = [Path(word) for word in sys.argv[1:]]
    print(TARGETS)
    print("| " + " | ".join(HEADING) + " |\n|" + " --- |" * len(HEADING), flush=True)
    cells = [path for folder in folders for path in folder.glob("*.swc")]
    for path in sorted(cells, key=lambda file: file.stat().st_size):
        print("| " + " | ".join(row(path, folders)) + " |", flush=True)


def row(path: Path, folders: list[Path]) -> list[str]:
    """What is to be said of a cell."""
    name = path.name.split(".")[0]
    (cones,) = (skeleton.cones for skeleton in read_skeletons(path))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "cell.zarr"
        said, seconds, gigabytes = meshed(path, out)
        if not out.exists():
            return [name, f"{len(cones.start):,}", said, f"{seconds:.0f}", f"{gigabytes:.1f}"]
        mesh = spinmesh.load(spinmesh.TetMesh, out)
    points, tets = mesh.points.numpy(), mesh.tets.numpy()
    faces = outer_faces(tets)[0]
    listed = listing(folders, "morpho_measure", name)
    volume, area = volumes(points, tets).sum(), area_of(points[faces])
    rough, fine = (union_of(cones, sides) for sides in SIDES)
    unions = [(each.volume(), each.surface_area()) for each in (rough, fine)]
    union = [last + (last - first) / 3 for first, last in zip(*unions, strict=True)]
    return [
        *(name, f"{len(cones.start):,}", f"{len(points):,}", f"{len(tets):,}"),
        f"{quality(points, tets).min():.3f}",
        f"{parts(said)}, {euler(faces)} (union {2 - 2 * fine.genus()})",
        compared(volume, union[0], float(listed["neuron_volume"]) if listed else None),
        compared(area, union[1], float(listed["neuron_area"]) if listed else None),
        signal_error(mesh, listing(folders, "dir_ave_sig", name)),
        *(f"{seconds:.0f}", f"{gigabytes:.1f}"),
    ]


def meshed(path: Path, out: Path) -> tuple[str, float, float]:
    """What `spinmesh mesh` says, its CPU seconds and the largest memory of its processes, GB."""
    command = [str(Path(sys.executable).parent / "spinmesh"), "mesh", str(path), "--out", str(out)]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        _, _, usage = os.wait4(process.pid, 0)
        log.seek(0)
        words = log.read()
    print(words, file=sys.stderr)
    return words, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6


def parts(said: str) -> str:
    """The parts that the notes speak of, 1 if they do not."""
    notes = [line for line in said.splitlines() if "parts apart" in line]
    return notes[0].split(" in ")[-1].split()[0] if notes else "1"


def euler(faces: ndarray) -> int:
    """Corners - edges + triangles: 2 for a body without handles."""
    edges = np.sort(np.stack([faces, np.roll(faces, -1, 1)], 2).reshape(-1, 2), 1)
    return len(np.unique(faces)) - len(np.unique(edges, axis=0)) + len(faces)


def area_of(corners: ndarray) -> float:
    """Of triangles, um^2."""
    a, b, c = np.moveaxis(corners, 1, 0)
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def union_of(cones: RoundCones, sides: int) -> manifold3d.Manifold:
    """The union of the hulls of two balls each, a hundred cones at a time."""
    turn = 2 * np.pi / sides
    wider = np.sqrt(turn / np.sin(turn))

    def ball(centre: ndarray, radius: float) -> manifold3d.Manifold:
        return manifold3d.Manifold.sphere(float(radius * wider), sides).translate(centre.tolist())

    def joined(bodies: list[manifold3d.Manifold]) -> list[manifold3d.Manifold]:
        blocks = [bodies[start : start + BLOCK] for start in range(0, len(bodies), BLOCK)]
        add = manifold3d.OpType.Add
        return [manifold3d.Manifold.batch_boolean(block, add) for block in blocks]

    ends = (cones.start, cones.end, cones.start_radius, cones.end_radius)
    pairs = zip(*ends, strict=True)
    hulls = (manifold3d.Manifold.batch_hull([ball(a, ra), ball(b, rb)]) for a, b, ra, rb in pairs)
    bodies = [
        each for block in iter(lambda: list(islice(hulls, BLOCK)), []) for each in joined(block)
    ]
    while len(bodies) > 1:
        bodies = joined(bodies)
    return bodies[0]


def compared(value: float, union: float, listed: float | None) -> str:
    """A value with its differences from the union's and the list's."""
    against = "not listed" if not listed else f"{value / listed - 1:+.1%}"
    return f"{value:,.1f}: {value / union - 1:+.1%}, {against}"


def listing(folders: list[Path], kind: str, name: str) -> dict[str, str] | None:
    """The row of a cell in the tables of one kind."""
    for table in (file for folder in folders for file in folder.glob(f"{kind}_*.csv")):
        with table.open() as lines:
            for line in csv.DictReader(lines):
                if line["neuron_name"] == name:
                    return line
    return None


def signal_error(mesh: spinmesh.TetMesh, listed: dict[str, str] | None) -> str:
    """Largest difference of direction-averaged signals, over both sequences."""
    if listed is None:
        return "not listed"
    if len(mesh.points) > MOST_POINTS:
        return f"too large for the simulator ({MOST_POINTS:,} points)"
    worst = 0.0
    for number, Delta in enumerate(DELTAS, 1):
        published = [float(listed[f"{number}_{k}"]) for k in range(1, len(AMPLITUDES) + 1)]
        try:
            worst = max(worst, float(np.abs(averages(mesh, Delta) - published).max()))
        except ReductionError as error:
            return f"not simulated: {str(error).split(';')[0]}"
    return f"{worst:.4f}"


def averages(mesh: spinmesh.TetMesh, Delta: float) -> ndarray:
    """Direction-averaged signal at each amplitude, over directions spread on half a sphere."""
    number = np.arange(DIRECTIONS)
    height, turn = (number + 0.5) / DIRECTIONS, number * np.pi * (3 - np.sqrt(5))
    flat = np.sqrt(1 - height**2)
    directions = np.stack([flat * np.cos(turn), flat * np.sin(turn), height], 1)
    amplitudes = np.repeat(np.r_[0, AMPLITUDES], DIRECTIONS)
    acquisition = spinmesh.Acquisition.from_gradient(
        amplitudes, np.tile(directions, (len(AMPLITUDES) + 1, 1)), DELTA, Delta
    )
    signals = spinmesh.simulate(mesh, spinmesh.Tissue.uniform(DIFFUSIVITY), acquisition)
    return np.asarray(signals.attenuation[0].reshape(-1, DIRECTIONS).mean(1)[1:])


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
