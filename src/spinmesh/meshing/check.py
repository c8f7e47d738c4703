"""What `spinmesh mesh --check` says of a surface or of tetrahedra, and whether they can be used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from scipy.spatial import cKDTree
from skfem.quadrature import get_quadrature

from spinmesh.mesh import TetMesh, outer_faces, shape_functions
from spinmesh.mesh.curved import jacobian_coefficients
from spinmesh.mesh.tetmesh import ELEMENTS
from spinmesh.meshing.faults import faults_of
from spinmesh.meshing.files import unit_of
from spinmesh.meshing.mending import Fault
from spinmesh.meshing.surface import Surface, depths, parents
from spinmesh.meshing.tets import quality, volumes

# Parts that are listed one by one.
MOST_PARTS = 12
DIFFUSION = (2.0, 10.0)  # um^2/ms and ms, of the length that features are compared with
# Of the quadrature of a curved face's area, whose integrand is a root.
AREA_DEGREE = 8
# Steps in which a ball shrinks to the thickness; after some ten nothing moves.
SHRINKINGS = 20


@dataclass(frozen=True)
class Report:
    """Lines for a reader, and whether the shape can be used as it is."""

    lines: tuple[str, ...]
    usable: bool


def check_surface(surface: Surface, mended: Sequence[Fault] = ()) -> Report:
    """Parts, faults, volume, area, thickness and size of a surface; unusable if not closed."""
    faults, (thin, usual) = faults_of(surface), _quantiles(surface, (0.01, 0.5))
    edges = np.linalg.norm(surface.corners - np.roll(surface.corners, 1, 1), axis=2)
    volume, area, parent = surface.volumes, surface.areas, parents(surface)
    inner = volume[parent >= 0].sum()
    total = volume.sum() - inner
    words = "in 1 part" if len(volume) == 1 else f"in {len(volume)} parts"
    lines = [
        f"{len(surface.points):,} corners, {len(surface.triangles):,} triangles {words}",
        *_parts(volume, area, parent),
        f"volume {total:.6g} um^3, area {area.sum():.6g} um^2"
        + (f", surface to volume {area.sum() / total:.4g} /um" if total > 0 else "")
        + (" (nested once)" * bool(inner)),
        _box(surface.box),
        f"edges {edges.min():.3g} to {edges.max():.3g} um, median {np.median(edges):.3g}",
        f"smallest feature {thin:.3g} um thick (1 % of the area is thinner), median {usual:.3g}; "
        + _diffusion(),
        *(f"mended: {str(fault).removesuffix(', mended')}" for fault in mended),
        *(f"FAULT: {fault}" for fault in faults),
    ]
    return Report(tuple(lines), not faults)


def _parts(volume: ndarray, area: ndarray, parent: ndarray) -> list[str]:
    if len(volume) == 1:
        return []
    lines = [
        f"  part {part + 1}: volume {volume[part]:.6g} um^3, area {area[part]:.6g} um^2"
        + (f", in part {parent[part] + 1}" if parent[part] >= 0 else "")
        for part in range(min(len(volume), MOST_PARTS))
    ]
    if len(volume) > MOST_PARTS:
        deep = int((depths(parent) > 0).sum())
        lines.append(f"  and {len(volume) - MOST_PARTS} more; {deep} in all lie in others")
    return lines


def check_tets(mesh: TetMesh) -> Report:
    """Compartments, volume, area, shape of elements and size; unusable if a tet is flat or turned.

    Shapes of curved tets are those of their corners.
    """
    points, tets = mesh.points.numpy(), mesh.tets.numpy()
    label, shape = mesh.compartment.numpy(), quality(points, tets[:, :4])
    straight = mesh.order == 1
    volume = volumes(points, tets) if straight else jacobian_coefficients(points, tets).mean(1) / 6
    outer = outer_faces(tets)[0]
    area = _area(points, outer)
    lines = [f"{len(points):,} points, {len(tets):,} tets, order {mesh.order}"]
    for each in mesh.labels:
        inside = label == each
        lines.append(
            f"  compartment {each}: volume {volume[inside].sum():.6g} um^3, area "
            f"{_area(points, outer_faces(tets[inside])[0]):.6g} um^2, {inside.sum():,} tets"
        )
    lines += [
        f"volume {volume.sum():.6g} um^3, outer area {area:.6g} um^2, surface to volume "
        f"{area / volume.sum():.4g} /um",
        _box(np.stack([points.min(0), points.max(0)])),
        f"quality {shape.min():.3g} (worst) to {shape.max():.3g}, median {np.median(shape):.3g}; "
        f"{(shape < 0.1).sum():,} tets below 0.1; {_diffusion()}",
    ]
    wrong = np.flatnonzero(shape < 1e-6)
    if len(wrong):
        x, y, z = points[tets[wrong[0]]].mean(0).tolist()
        lines.append(f"FAULT: {Fault('flat or turned tets', len(wrong), (x, y, z))}")
    return Report(tuple(lines), not len(wrong))


def _quantiles(surface: Surface, fractions: tuple[float, ...]) -> ndarray:
    """Thicknesses below which these fractions of the area lie: slivers of no area do not count."""
    thickness = thickness_of(surface)
    order = np.argsort(thickness)
    sizes = np.repeat(np.linalg.norm(surface.area_vectors, axis=1), 3)
    area = np.cumsum(np.bincount(surface.triangles.ravel(), sizes, len(thickness))[order])
    return thickness[order][np.searchsorted(area, np.array(fractions) * area[-1])]


def _area(points: ndarray, faces: ndarray) -> float:
    nodes = faces.shape[1]
    places, weight = get_quadrature(ELEMENTS[nodes], AREA_DEGREE)
    slopes = shape_functions(torch.from_numpy(places.T.copy()), nodes)[1].numpy()
    first, second = np.moveaxis(np.einsum("fna,snb->bfsa", points[faces], slopes), 0, 0)
    return float((np.linalg.norm(np.cross(first, second), axis=2) @ weight).sum())


def _box(box: ndarray) -> str:
    low, high = ("(" + ", ".join(f"{x:.5g}" for x in corner) + ")" for corner in box)
    length = float(np.ptp(box, axis=0).max())
    return f"box {low} to {high}, {length:.4g} long: the unit may be {unit_of(length)}"


def _diffusion() -> str:
    diffusivity, time = DIFFUSION
    length = np.sqrt(2 * diffusivity * time)
    return f"water goes {length:.2g} um in {time:g} ms at {diffusivity:g} um^2/ms"


def thickness_of(surface: Surface) -> Float[ndarray, " point"]:
    """Diameter (um) of the largest ball inside that touches each corner.

    The ball shrinks until no other corner is within it (Ma, Bae & Choi 2012).
    """
    normal = np.zeros_like(surface.points)
    np.add.at(normal, surface.triangles.ravel(), np.repeat(surface.area_vectors, 3, 0))
    length = np.linalg.norm(normal, axis=1)
    moving = np.flatnonzero(length > 0)
    inward = np.zeros_like(normal)
    inward[moving] = -normal[moving] / length[moving, None]
    points, tree = surface.points, cKDTree(surface.points)
    radius = np.full(len(points), surface.length)
    for _ in range(SHRINKINGS):
        nearest = tree.query(points[moving] + radius[moving, None] * inward[moving])[1]
        apart = points[nearest] - points[moving]
        depth = np.einsum("ij,ij->i", apart, inward[moving])
        touching = np.full(len(moving), np.inf)
        ahead = depth > 1e-9 * surface.length
        touching[ahead] = (apart[ahead] ** 2).sum(1) / (2 * depth[ahead])
        smaller = touching < radius[moving] * (1 - 1e-6)
        radius[moving[smaller]] = touching[smaller]
        moving = moving[smaller]
        if not len(moving):
            break
    return 2 * radius
