"""The process that runs the meshing programs: `python -m spinmesh.meshing.worker FOLDER`.

It reads `input.npz`, calls the function that `job` names ("module:function") with its arrays, and
leaves `output.npz`, or else `error`. A
program that crashes, hangs or fills the memory ends this process and not the user's. It imports
no torch, so that it starts at once.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from spinmesh.meshing.tets import boundary, positive, quality, refilled, smoothed, volumes

Arrays = dict[str, ndarray]
# How fast netgen's elements may grow away from the surface: 0.4 of the local size per element.
GRADING = 0.4
# Below this, mmg is asked again, unless so large a part of the tets is worse: then it is the
# surface's own long triangles that leave no room, and new corners help as little as they cost much
# (a neuron of 33,000 tets: worst 1e-4 before, 5e-4 and 57,000 tets after, in 48 s).
WORST, BY_SURFACE = 0.1, 0.02
# Of the shortest edge at a corner, that it is shifted by while a surface is filled.
SHIFT = 1e-2
# A part that netgen leaves empty is more of the volume than this.
FULL = 1e-9
# Rounds of fTetWild: after ten the quality is often above WORST, and more of them only where tets
# are few, for where triangles cross each other everywhere each round has more tets than the last.
ROUNDS, MANY = (10, 20), 40_000
# Multiples of the distance that membranes may move by beside walls, tried in turn.
LOOSER = (1.0, 0.5, 2.0)


def seal(job: Arrays, say: Callable[[str], None]) -> Arrays:
    """Fill closed surfaces with tets whose faces are the surfaces' own triangles.

    `inner` and `outer` are the domains on the sides of each triangle, 0 for none. netgen fills,
    mmg mends flat tets inside. Where corners lie on circles but for rounding, as on a tube in rings
    of a file in single precision, netgen falls back to its advancing front, ten times slower and
    with four times the tets: corners are shifted at random first and put back at the end, unless
    that leaves a bad tet.
    """
    worst, best = -1.0, Arrays()
    for shift in (SHIFT, 0.0):
        try:
            shape = _filled(job, shift, say)
        except RuntimeError:
            if not (shift or best):
                raise
            continue
        shapes = _shapes(shape, job)
        if shapes.min() > worst or not best:
            worst, best = shapes.min(), shape
        if _good_enough(shapes):
            break
    return best


def _good_enough(shapes: ndarray) -> bool:
    few_bad = shapes.min() < WORST and (shapes < WORST).mean() <= BY_SURFACE
    return bool(shapes.min() > 0 and not few_bad)


def _shapes(shape: Arrays, job: Arrays) -> ndarray:
    """Quality of the tets; -1 alone where they leave a part of the space empty."""
    corners = job["points"] - job["points"].mean(0)
    a, b, c = np.moveaxis(corners[job["triangles"]], 1, 0)
    sides = (job["inner"] > 0).astype(int) - (job["outer"] > 0)
    space = (sides * np.einsum("ij,ij->i", a, np.cross(b, c))).sum() / 6
    points, tets = shape["points"], shape["tets"]
    full = abs(volumes(points, tets).sum() / space - 1) < FULL
    return quality(points, tets) if full else np.full(1, -1.0)


def _filled(job: Arrays, shift: float, say: Callable[[str], None]) -> Arrays:
    """Points, tets and domains, with corners shifted by this part of their shortest edge."""
    import netgen.meshing as netgen

    points, triangles = job["points"], job["triangles"]
    shifted = _shifted(points, triangles, shift)
    mesh = netgen.Mesh(dim=3)
    mesh.AddPoints(shifted)
    sides = np.stack([job["inner"], job["outer"]], 1)
    for number, (inner, outer) in enumerate(np.unique(sides, axis=0)):
        face = mesh.Add(
            netgen.FaceDescriptor(
                surfnr=number + 1, domin=int(inner), domout=int(outer), bc=number + 1
            )
        )
        these = triangles[(sides == (inner, outer)).all(1)]
        mesh.AddElements(
            dim=2, index=face, data=np.ascontiguousarray(these, dtype=np.int32), base=0
        )
    say("netgen fills")
    mesh.GenerateVolumeMesh(
        netgen.MeshingParameters(maxh=float(job["size"]), grading=GRADING, optsteps3d=2)
    )
    if not mesh.ne:
        raise RuntimeError("netgen could not fill it")
    elements = mesh.Elements3D().NumPy()
    tets = elements["nodes"][:, :4].astype(np.int64) - 1
    filled = np.array(mesh.Coordinates()), positive(np.array(mesh.Coordinates()), tets)
    say("mmg mends")
    shape = _mended(*filled, elements["index"].astype(np.int64))
    return _with_surface(shape, points, shifted, triangles)


def _shifted(points: ndarray, triangles: ndarray, shift: float) -> ndarray:
    """Corners moved at random by up to a part of the shortest edge at each."""
    edges = np.linalg.norm(points[triangles] - points[np.roll(triangles, 1, 1)], axis=2)
    shortest = np.full(len(points), np.ptp(points, axis=0).max())
    np.minimum.at(shortest, triangles, edges.min(1)[:, None])
    way = np.random.default_rng(0).uniform(-shift, shift, points.shape)
    return np.asarray(points + shortest[:, None] * way)


def trim(job: Arrays, say: Callable[[str], None]) -> Arrays:
    """Even tets of several domains beside walls that cut them, by mmg3d, then mend those inside.

    Of `triangles`, all of membranes and walls, those that are `fixed` stay; others stay within
    `hausdorff` of where they were, or a multiple of it where that leaves better tets. `size` is the
    edge wanted at each point, um.
    """
    worst, best = -1.0, Arrays()
    for looser in LOOSER:
        say(f"mmg evens {len(job['tets']):,} tets")
        shape = _trimmed(job, looser * float(job["hausdorff"]))
        least = quality(shape["points"], shape["tets"]).min()
        if least > worst or not best:
            worst, best = least, shape
        if worst >= WORST:
            break
    return best


def _trimmed(job: Arrays, hausdorff: float) -> Arrays:
    import mmgpy

    mesh = mmgpy.MmgMesh3D()
    points, tets, triangles = job["points"], job["tets"], job["triangles"]
    mesh.set_mesh_size(vertices=len(points), tetrahedra=len(tets), triangles=len(triangles))
    mesh.set_vertices(np.ascontiguousarray(points))
    mesh.set_tetrahedra(np.ascontiguousarray(tets, np.int32), job["domain"].astype(np.int64))
    mesh.set_triangles(np.ascontiguousarray(triangles, np.int32), job["kind"].astype(np.int64))
    mesh.set_required_triangles(np.flatnonzero(job["fixed"]).astype(np.int32))
    mesh["metric"] = job["size"].reshape(-1, 1)
    mesh.remesh(hausd=hausdorff, verbose=-1)
    cells, references = mesh.get_tetrahedra_with_refs()
    points, tets = np.array(mesh.get_vertices(), dtype=np.float64), np.array(cells, dtype=np.int64)
    return _mended(points, positive(points, tets), np.array(references, dtype=np.int64))


def _mended(points: ndarray, tets: ndarray, domain: ndarray) -> Arrays:
    """mmg's optimisation of what lies inside; with new corners only where none left a bad tet.

    Of all steps, none included, that with the best worst tet.
    """
    import mmgpy

    best = {"points": points, "tets": tets, "domain": domain}
    worst = quality(points, tets).min()
    for noinsert in (1, 0, 0):
        mesh = mmgpy.MmgMesh3D(np.ascontiguousarray(points), np.ascontiguousarray(tets, np.int32))
        mesh.set_tetrahedra(np.ascontiguousarray(tets, np.int32), domain.astype(np.int64))
        mesh.remesh(nosurf=1, optim=1, noinsert=noinsert, verbose=-1)
        points = np.array(mesh.get_vertices(), dtype=np.float64)
        cells, references = mesh.get_tetrahedra_with_refs()
        tets, domain = np.array(cells, dtype=np.int64), np.array(references, dtype=np.int64)
        shape = quality(points, tets)
        if shape.min() > worst:
            worst, best = shape.min(), {"points": points, "tets": tets, "domain": domain}
        if shape.min() >= WORST or (shape < WORST).mean() > BY_SURFACE:
            break
    return best


def _with_surface(mesh: Arrays, points: ndarray, shifted: ndarray, triangles: ndarray) -> Arrays:
    """The surface's corners as they were given; mmg scales coordinates and rounds them."""
    from scipy.spatial import cKDTree

    corners = np.unique(triangles)
    distance, nearest = cKDTree(mesh["points"]).query(shifted[corners])
    if distance.max() > 1e-9 * np.ptp(shifted[corners], axis=0).max():
        raise RuntimeError("mmg moved the surface")
    mesh["points"][nearest] = points[corners]
    return mesh


def wild(job: Arrays, say: Callable[[str], None]) -> Arrays:
    """Fill what is left of broken surfaces by fTetWild, which moves them by up to `epsilon`.

    Its whole box is returned; which tets lie inside, the winding number tells.
    """
    import pytetwild

    say("fTetWild fills")
    for rounds in ROUNDS:
        points, tets = pytetwild.tetrahedralize(
            np.ascontiguousarray(job["points"]),
            np.ascontiguousarray(job["triangles"], dtype=np.int32),
            edge_length_abs=float(job["size"]),
            epsilon=float(job["epsilon"]),
            num_opt_iter=rounds,
            disable_filtering=True,
            num_threads=1,
        )
        tets = positive(points, np.asarray(tets, dtype=np.int64))
        if quality(points, tets).min() >= WORST or len(tets) > MANY:
            break
    return {"points": np.asarray(points, dtype=np.float64), "tets": tets}


def even(job: Arrays, say: Callable[[str], None]) -> Arrays:
    """Even triangles of about `size` within `hausdorff` of a surface, by mmgs.

    With `moved` corners move and none is added, so that triangles stay as many, and ridges stay;
    else triangles are made anew and ridges are smoothed.
    """
    import mmgpy

    say("mmgs evens")
    points, triangles = job["points"], job["triangles"]
    options: dict[str, Any] = {"noinsert": 1} if job["moved"] else {"angle": 0}
    options |= {"hsiz": float(job["size"]), "hausd": float(job["hausdorff"])}
    for _ in range(2 if job["moved"] else 1):
        mesh = mmgpy.MmgMeshS(
            np.ascontiguousarray(points), np.ascontiguousarray(triangles, np.int32)
        )
        mesh.remesh(verbose=-1, **options)
        points = np.array(mesh.get_vertices(), dtype=np.float64)
        triangles = np.array(mesh.get_triangles(), dtype=np.int64)
    return {"points": points, "triangles": triangles}


def smooth(job: Arrays, say: Callable[[str], None]) -> Arrays:
    """Even tets of each label by mmg3d, whose interfaces stay within `hausdorff`.

    `volume` is what each label has to have. `ridges`, if not 0, keeps edges of more than 45
    degrees, as those of a box.
    """
    import mmgpy

    say(f"mmg evens {len(job['tets']):,} tets")
    points, tets = job["points"], np.ascontiguousarray(job["tets"], np.int32)
    mesh = mmgpy.MmgMesh3D(np.ascontiguousarray(points), tets)
    mesh.set_tetrahedra(tets, job["label"].astype(np.int64))
    ridges: dict[str, Any] = {} if job["ridges"] else {"angle": 0}
    size = float(job["size"])
    mesh.remesh(hsiz=size, hausd=float(job["hausdorff"]), verbose=-1, **ridges)
    cells, references = mesh.get_tetrahedra_with_refs()
    points, tets = np.array(mesh.get_vertices(), dtype=np.float64), np.array(cells, dtype=np.int64)
    label = np.array(references, dtype=np.int64)
    fixed = np.zeros(len(points), dtype=bool)
    if job["ridges"]:
        fixed[boundary(tets)] = True
    else:
        # The voxels' own tets left no room for all of it.
        points = smoothed(points, tets, label, fixed, WORST)
    points = refilled(points, tets, label, job["volume"], fixed, WORST)
    say("mmg mends")
    return _mended(points, tets, label)


def main(folder: Path) -> None:
    """Do the job of a folder."""
    with np.load(folder / "input.npz") as stored:
        job = dict(stored)
    limit = int(job.pop("memory"))
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    def say(phase: str) -> None:
        (folder / "phase").write_text(phase)

    try:
        module, function = str(job.pop("job")).split(":")
        result = getattr(import_module(module), function)(job, say)
    except MemoryError:
        (folder / "error").write_text("not enough memory")
        raise SystemExit(1) from None
    # What a mesher can raise cannot be listed; the parent makes one message of it.
    except Exception as error:
        (folder / "error").write_text(f"{type(error).__name__}: {error}")
        raise SystemExit(1) from None
    np.savez(folder / "output.npz", **result)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
