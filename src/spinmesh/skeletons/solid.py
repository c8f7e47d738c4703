"""Good tets of a union of round cones, with no surface mesh in between.

A background of tets is cut by the solid's surface; mmg3d evens the tets, surface included; corners
of the surface are put back onto it, and outwards by the gap that facets leave; mmg3d mends what is
inside.
"""

from __future__ import annotations

from collections.abc import Callable

import mmgpy
import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from spinmesh.meshing.tets import boundary, moved, pinches, positive, quality
from spinmesh.skeletons.background import CUT_SIZE, background
from spinmesh.skeletons.cones import RoundCones
from spinmesh.skeletons.cutting import cut

Tets = tuple[ndarray, ndarray]
# How far mmg's edges may grow from one to the next.
GRADATION = 1.6
# Tried in turn where mmg lets two sheets meet in a corner: of the distance that facets may keep,
# and of the smallest edge wanted, that mmg never goes below.
TRIES = ((1.0, 0.3), (0.5, 0.3))
# Where edges were halved to keep branches apart, mmg may give up with the larger one; the smaller
# makes more tets at creases (of one cell, 43 % more).
TRIES_APART = ((1.0, 0.3), (1.0, 0.05), (0.5, 0.05))
# Quality below which a corner's way to the surface must not bring a tet.
FLOOR = 0.12
# Tets below this quality have their corners moved, by ever less of the edges around them.
ENOUGH = 0.15
STEPS = np.geomspace(0.3, 0.02, 12)
PLACES = 64


def solid(
    cones: RoundCones,
    size: float,
    hausdorff: float,
    longest: float,
    say: Callable[[str], None],
    apart: bool = True,
) -> tuple[Float[ndarray, "point 3"], Int[ndarray, "tet 4"]]:
    """Points (um) and tets of the union of cones, which are short.

    Edges are `size` local radii, at most `longest` um; facets stay within `hausdorff` median radii.
    Branches that nearly touch are kept `apart`, or fused if mmg cannot make that good.
    """
    say("the background is bisected")
    points, tets, halved = background(cones, CUT_SIZE, longest, apart)
    say(f"{len(tets):,} tets are cut")
    points, tets = cut(cones, points, tets)
    say(f"mmg evens {len(tets):,} tets")
    rough = points, tets
    for closer, least in TRIES_APART if halved else TRIES:
        try:
            points, tets = _evened(cones, *rough, size, closer * hausdorff, longest, least)
        except RuntimeError:
            if not halved:
                raise
            continue
        if not len(pinches(tets)):
            break
    else:
        if halved:
            return solid(cones, size, hausdorff, longest, say, apart=False)
    points = _on_surface(cones, points, tets)
    say(f"mmg mends {len(tets):,} tets")
    mesh = mmgpy.MmgMesh3D(np.ascontiguousarray(points), np.ascontiguousarray(tets, np.int32))
    mesh.remesh(nosurf=1, optim=1, verbose=-1)
    points, tets = _of(mesh)
    return without_worst(cones, points, tets), tets


def without_worst(
    cones: RoundCones, points: Float[ndarray, "point 3"], tets: Int[ndarray, "tet 4"]
) -> Float[ndarray, "point 3"]:
    """Corners of bad tets at the best of random places near them, if the worst tet gains by it.

    Those of the boundary move along the surface. Where mmg's own moves end, this goes on.
    """
    random = np.random.default_rng(0)
    points, faces = points.copy(), boundary(tets)
    on_surface = np.zeros(len(points), dtype=bool)
    on_surface[faces] = True
    for step in STEPS:
        bad = tets[quality(points, tets) < ENOUGH]
        if not len(bad):
            break
        near = tets[np.isin(tets, bad).any(1)]
        for corner in np.unique(bad):
            star = near[(near == corner).any(1)]
            length = np.linalg.norm(points[star] - points[corner], axis=2).max()
            places = points[corner] + step * length * random.normal(size=(PLACES, 3))
            if on_surface[corner]:
                distance, _, cone = cones.distance(places, np.full(PLACES, length))
                places -= np.where(cone >= 0, distance, 0)[:, None] * cones.normals(places, cone)
            places = np.vstack([points[corner], places])
            around = np.where((star == corner)[..., None], places[:, None, None], points[star])
            shape = quality(around.reshape(-1, 3), np.arange(around.size // 3).reshape(-1, 4))
            points[corner] = places[shape.reshape(len(places), -1).min(1).argmax()]
    return points


def _of(mesh: mmgpy.MmgMesh3D) -> Tets:
    points = np.array(mesh.get_vertices(), dtype=np.float64)
    used, tets = np.unique(np.array(mesh.get_tetrahedra(), dtype=np.int64), return_inverse=True)
    return points[used], positive(points[used], tets.reshape(-1, 4))


def _evened(
    cones: RoundCones,
    points: ndarray,
    tets: ndarray,
    size: float,
    hausdorff: float,
    longest: float,
    least: float,
) -> Tets:
    """mmg3d with edges as long as the local radius asks; nothing is taken for a ridge."""
    band = np.full(len(points), cones.median_radius)
    wanted = np.minimum(size * cones.distance(points, band)[1], longest)
    mesh = mmgpy.MmgMesh3D(np.ascontiguousarray(points), np.ascontiguousarray(tets, np.int32))
    mesh["metric"] = wanted.reshape(-1, 1)
    mesh.remesh(
        hausd=hausdorff * cones.median_radius,
        hgrad=GRADATION,
        hmin=least * float(wanted.min()),
        hmax=longest,
        angle=0,
        verbose=-1,
    )
    return _of(mesh)


def _on_surface(cones: RoundCones, points: ndarray, tets: ndarray) -> ndarray:
    """Corners of the boundary on the surface, and out by the mean gap of the facets around them.

    The gap of a facet is the sum over its edges of (n_i - n_j).(x_i - x_j)/24, so that the volume
    is right to second order, locally. Steps that spoil a tet are halved, then left out.
    """
    faces = boundary(tets)
    corners = np.unique(faces)
    band = np.full(len(corners), cones.median_radius)
    distance, radius, cone = cones.distance(points[corners], band)
    normal, local, step = np.zeros_like(points), np.zeros(len(points)), np.zeros_like(points)
    normal[corners] = cones.normals(points[corners], cone)
    local[corners] = np.where(cone >= 0, radius, 0)
    step[corners] = np.where(cone >= 0, -distance, 0)[:, None] * normal[corners]
    out = _gaps(points + step, normal, faces, local)
    # Half the way to another branch at the most: out there that one may be nearer than its own.
    there = (points + step + out[:, None] * normal)[corners]
    out[corners] = np.minimum(out[corners], (out[corners] + cones.distance(there, band)[0]) / 2)
    step += out[:, None] * normal
    length, most = np.linalg.norm(step, axis=1), 0.3 * local
    step *= np.minimum(1, most / np.maximum(length, 1e-300))[:, None]
    return moved(points, step, tets, FLOOR)


def _gaps(points: ndarray, normal: ndarray, faces: ndarray, local: ndarray) -> ndarray:
    """Mean gap of the facets round each corner, weighted by area, at most 0.15 radii."""
    gap = np.zeros(len(faces))
    for i, j in ((0, 1), (1, 2), (2, 0)):
        turn = normal[faces[:, i]] - normal[faces[:, j]]
        gap += (turn * (points[faces[:, i]] - points[faces[:, j]])).sum(1) / 24
    a, b, c = np.moveaxis(points[faces], 1, 0)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    total = np.bincount(faces.ravel(), np.repeat(area * gap, 3), len(points))
    weight = np.bincount(faces.ravel(), np.repeat(area, 3), len(points))
    return np.clip(total / np.maximum(weight, 1e-300), -0.15 * local, 0.15 * local)


def grow(job: dict[str, ndarray], say: Callable[[str], None]) -> dict[str, ndarray]:
    """`solid` of arrays, for a process of its own."""
    cones = RoundCones(job["start"], job["end"], job["start_radius"], job["end_radius"])
    size, hausdorff, longest = (float(job[name]) for name in ("size", "hausdorff", "longest"))
    points, tets = solid(cones, size, hausdorff, longest, say)
    return {"points": points, "tets": tets}
