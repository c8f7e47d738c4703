"""Mutated inputs for every reader: a result or a SpinmeshError, in time and memory, without NaN.

`make fuzz` runs 2,000 of each in a box of time and writes docs/results/inputs_fuzz.md;
`test_fuzz.py` runs a few. Each reader has a small valid file, of which bytes, lines, words and
numbers are changed, moved, repeated or removed by hypothesis.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import meshio
import nibabel as nib
import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from spinmesh.bloch_torrey import Signals
from spinmesh.errors import SpinmeshError
from spinmesh.io import load, save
from spinmesh.io.acquisitions import read_acquisition
from spinmesh.io.meshes import read_mesh
from spinmesh.io.targets import read_target
from spinmesh.learning import Checkpoint
from spinmesh.mesh import ball
from spinmesh.sequence import Acquisition
from spinmesh.settings import load_config, load_tissue

SLOWEST = 5.0  # s
MOST_MEMORY = 1e9  # bytes more than before
WORDS = (
    *(b"nan", b"-nan", b"inf", b"1e999", b"-1", b"0", b"1e-300", b"99999999999999999999", b"1e9"),
    *(
        b"",
        b" ",
        b"\n",
        b",",
        b"\t",
        b"#",
        b"\0",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\xb2",
        b"$",
        b"*a",
    ),
)


@dataclass(frozen=True)
class Reader:
    """A valid file of some kind, and what reads a file in its place."""

    name: str
    content: bytes
    read: Callable[[Path], Any]
    file: str


def mutated(content: bytes) -> st.SearchStrategy[bytes]:
    """A few changes, each at a random place."""
    place = st.integers(0, max(1, len(content)))
    change = st.tuples(
        st.sampled_from(("cut", "drop", "repeat", "flip", "word", "number", "line")),
        place,
        place,
        st.sampled_from(WORDS),
        st.integers(0, 255),
    )
    return st.lists(change, min_size=1, max_size=4).map(lambda changes: _changed(content, changes))


def _changed(data: bytes, changes: list[tuple[str, int, int, bytes, int]]) -> bytes:
    for kind, first, second, word, byte in changes:
        start, end = sorted((first % (len(data) + 1), second % (len(data) + 1)))
        near = min(end, start + byte)
        if kind == "cut":
            data = data[:end]
        elif kind == "drop":
            data = data[:start] + data[near:]
        elif kind == "repeat":
            data = data[:near] + data[start:near] + data[near:]
        elif kind == "flip" and start < len(data):
            data = data[:start] + bytes([data[start] ^ (byte or 1)]) + data[start + 1 :]
        elif kind in ("word", "number"):
            words = data.split(b" ")
            words[start % len(words)] = word if kind == "word" else str(second - first).encode()
            data = b" ".join(words)
        elif kind == "line":
            lines = data.split(b"\n")
            lines.insert(second % (len(lines) + 1), lines.pop(start % len(lines)))
            data = b"\n".join(lines)
    return data


def _pgse() -> Acquisition:
    return Acquisition.pgse([0.0, 0.0, 1.0, 2.0], [[0.0, 0.0, 1.0]] * 4, 10.0, 30.0)


def _fsl(folder: Path, **files: Path) -> Acquisition:
    own = {key: str(files.get(key, folder / key)) for key in ("bvals", "bvecs")}
    return read_acquisition(**own, delta_ms=10.0, Delta_ms=30.0)


def readers(folder: Path) -> Iterator[Reader]:
    """Every reader with a file of its kind."""
    b, v = b"0 5 1000 2000\n", b"0 0 0 0.6\n0 0 0 0\n0 1 1 0.8\n"
    (folder / "bvals").write_bytes(b)
    (folder / "bvecs").write_bytes(v)
    yield Reader("FSL bvals", b, lambda p: _fsl(folder, bvals=p), "f.bval")
    yield Reader("FSL bvecs", v, lambda p: _fsl(folder, bvecs=p), "f.bvec")
    scheme = b"VERSION: STEJSKALTANNER\n0 0 0 0 0 0 0.06\n0 0 1 0.08 0.04 0.01 0.06\n"
    yield Reader("Camino scheme", scheme, lambda p: read_acquisition(scheme=str(p)), "f.scheme")
    wave = b"VERSION: GRADIENT_WAVEFORM\n4 0.005 0 0 0.04 0 0 0 0 0 0 0 0 -0.04\n"
    yield Reader("Camino waveform", wave, lambda p: read_acquisition(scheme=str(p)), "g.scheme")
    table = (
        b"measurement,duration_ms,gx_mT_per_m,gy_mT_per_m,gz_mT_per_m\n0,10,0,0,40\n0,10,0,0,-40\n"
    )
    yield Reader("csv waveforms", table, lambda p: read_acquisition(scheme=str(p)), "w.csv")
    mrtrix = b"0 0 0 0\n0 0 1 1000\n0.6 0 0.8 2000\n"
    times = {"delta_ms": 10.0, "Delta_ms": 30.0}
    yield Reader("MRtrix table", mrtrix, lambda p: read_acquisition(scheme=str(p), **times), "g.b")
    sidecar = b'{"SmallDelta": 0.01, "LargeDelta": 0.03, "EchoTime": 0.08, "Other": ["a", 1]}'
    own = {key: str(folder / key) for key in ("bvals", "bvecs")}
    yield Reader("sidecar", sidecar, lambda p: read_acquisition(**own, sidecar=str(p)), "s.json")
    signal = (
        b"b_s_per_mm2,signal,gx,gy,gz\n0,200,0,0,0\n0,201,0,0,0\n1000,100,0,0,1\n2000,50,0,0,1\n"
    )
    yield Reader("signal csv", signal, lambda p: read_target(_pgse(), 30.0, csv=p), "s.csv")
    series = np.random.default_rng(0).uniform(50, 200, (2, 2, 2, 4)).astype(np.float32)
    for suffix in ("nii", "nii.gz"):
        path = folder / f"dwi.{suffix}"
        nib.Nifti1Image(series, np.eye(4)).to_filename(path)
        yield Reader(
            f"NIfTI .{suffix}",
            path.read_bytes(),
            lambda p: read_target(_pgse(), 30.0, nifti=p, voxel=(1, 0, 1)),
            f"f.{suffix}",
        )
    yield from _meshes(folder)
    yield Reader(
        "tissue yaml", b"compartments: {1: {t2_ms: 80.0}}\nwalls: []\n", load_tissue, "t.yaml"
    )
    config = (
        b"run: x\nseed: 1\nacquisition: {bvals: bvals, bvecs: bvecs, delta_ms: 8, Delta_ms: 19}\n"
    )
    yield Reader("config yaml", config, lambda p: load_config(p, folder), "c.yaml")
    yield from _stores(folder)


def _meshes(folder: Path) -> Iterator[Reader]:
    mesh = ball(5.0, 0, order=1)
    forms = (
        ("vtu", {}),
        ("vtu", {"binary": False}),
        ("msh", {"file_format": "gmsh", "binary": False}),
    )
    forms += (
        ("msh", {"file_format": "gmsh22", "binary": True}),
        ("mesh", {}),
        ("vtk", {}),
        ("inp", {}),
    )
    for suffix, how in forms:
        path = folder / f"m.{suffix}"
        labels = np.ones(len(mesh.tets), dtype=int)
        name = {"msh": "gmsh:physical", "mesh": "medit:ref"}.get(suffix, "compartment")
        data = {name: [labels]} | ({"gmsh:geometrical": [labels]} if suffix == "msh" else {})
        meshio.Mesh(
            mesh.points.numpy(),
            [("tetra", mesh.tets.numpy())],
            cell_data=data if suffix != "inp" else {},
        ).write(path, **how)
        kind = " binary" if how.get("binary", suffix == "vtu") and suffix in ("vtu", "msh") else ""
        yield Reader(f"mesh .{suffix}{kind}", path.read_bytes(), read_mesh, f"f.{suffix}")


def _stores(folder: Path) -> Iterator[Reader]:
    ones = torch.ones((1, 4), dtype=torch.float64)
    save(Signals(_pgse(), ones.to(torch.complex128), ones), folder / "s.zarr")

    def stored(path: Path) -> Signals:
        (folder / "s.zarr/zarr.json").write_bytes(path.read_bytes())
        return load(Signals, folder / "s.zarr")

    yield Reader("store", (folder / "s.zarr/zarr.json").read_bytes(), stored, "zarr.json")
    checkpoint = Checkpoint(folder / "c.pt", "owner")
    checkpoint.write({"weights": torch.arange(8.0), "step": 3})
    content = (folder / "c.pt").read_bytes()
    yield Reader("checkpoint", content, lambda p: Checkpoint(p, "owner").read(), "f.pt")


def has_nan(value: Any) -> bool:
    """Whether a result holds NaN where numbers are promised."""
    if isinstance(value, Acquisition):
        return bool(value.gradient.isnan().any() | value.b_value.isnan().any())
    attenuation = getattr(value, "attenuation", None)
    points = getattr(value, "points", None)
    return any(t is not None and bool(torch.isnan(t).any()) for t in (attenuation, points))


def fuzz(reader: Reader, folder: Path, count: int, seconds: float) -> dict[str, Any]:
    """How many inputs were read, refused, or went wrong; failures name their reason."""
    path, outcome, reasons = folder / reader.file, Counter[str](), Counter[str]()
    start, slowest = time.monotonic(), 0.0

    @seed(13)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(mutated(reader.content))
    def attempt(data: bytes) -> None:
        nonlocal slowest
        if time.monotonic() - start > seconds:
            return
        path.write_bytes(data)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.monotonic()
        try:
            outcome["NaN" if has_nan(reader.read(path)) else "read"] += 1
        except SpinmeshError:
            outcome["refused"] += 1
        except Exception as error:
            outcome["failed"] += 1
            reasons[f"{type(error).__name__}: {str(error)[:80]}"] += 1
        took = time.monotonic() - began
        slowest = max(slowest, took)
        outcome["slow"] += took > SLOWEST
        grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        outcome["large"] += grown > MOST_MEMORY

    attempt()
    keys = ("read", "refused", "failed", "NaN", "slow", "large")
    return {key: outcome[key] for key in keys} | {"slowest": slowest, "reasons": dict(reasons)}


def main(out: str, count: int = 2000, seconds: float = 60.0) -> None:
    """The table of docs/results."""
    import warnings

    warnings.simplefilter("ignore")
    lines = ["| reader | inputs | read | refused | failed | NaN | > 5 s | > 1 GB | slowest (s) |"]
    lines.append("| --- | " + " | ".join(["---:"] * 8) + " |")
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        for reader in readers(Path(name)):
            row = fuzz(reader, Path(name), count, seconds)
            numbers = [row[key] for key in ("read", "refused", "failed", "NaN", "slow", "large")]
            cells = [reader.name, sum(numbers[:4]), *numbers, f"{row['slowest']:.2f}"]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
            print(lines[-1], row["reasons"] or "", flush=True)
            bad += sum(numbers[2:])
    head = Path(out).read_text().split("| reader |")[0] if Path(out).exists() else ""
    Path(out).write_text(head + "\n".join(lines) + "\n")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main(sys.argv[1], *(float(x) if "." in x else int(x) for x in sys.argv[2:]))
