"""The swept disk: a cylinder of concentric rings, swept in layers, cut into tetrahedra."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from spinmesh.errors import MeshError
from spinmesh.mesh.tetmesh import TET_EDGES, TetMesh


@dataclass(frozen=True)
class SweptDisk:
    """Resolution and size of a template: `rings` of 6, 12, 18... sectors, `layers` along z.

    Order 2 gives curved 10-node tets whose mid-edge nodes lie on the rings' circles. Lengths in um.
    """

    rings: int
    layers: int
    radius: float
    length: float
    order: int = 2

    def __post_init__(self) -> None:
        if self.rings < 1 or self.layers < 1 or self.order not in (1, 2):
            raise MeshError(
                f"template: rings {self.rings}, layers {self.layers}, order {self.order}. "
                "Give at least one ring and one layer, and order 1 or 2."
            )
        if not (self.radius > 0 and self.length > 0):
            raise MeshError(
                f"template: radius {self.radius} and length {self.length} um must be > 0."
            )


def swept_disk(spec: SweptDisk) -> TetMesh:
    """The template cylinder, axis z from 0 to `length`, one compartment labelled 1."""
    disk, triangles = _disk(spec.rings)
    heights = np.linspace(0, 1, spec.layers + 1)
    points = np.concatenate(
        [np.column_stack([disk, np.full(len(disk), height)]) for height in heights]
    )
    tets = turned_positive(points, prisms_to_tets(triangles, len(disk), spec.layers))
    if spec.order == 2:
        points, tets = with_mid_edge_nodes(points, tets)
        points = _onto_rings(points, tets)
    scale = np.array([spec.radius, spec.radius, spec.length])
    return TetMesh(
        torch.from_numpy(points * scale),
        torch.from_numpy(tets),
        torch.ones(len(tets), dtype=torch.int64),
        name=f"swept disk {spec.rings}x{spec.layers}",
    )


def _disk(rings: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit disk: ring i carries 6i points; neighbours are joined by angle."""
    points, triangles = [np.zeros((1, 2))], []
    start = [0]
    for ring in range(1, rings + 1):
        angle = 2 * np.pi * np.arange(6 * ring) / (6 * ring)
        start.append(sum(len(p) for p in points))
        points.append(ring / rings * np.column_stack([np.cos(angle), np.sin(angle)]))
    for ring in range(1, rings + 1):
        inner, outer = max(6 * (ring - 1), 1), 6 * ring
        for sector in range(6):
            for j in range(ring):
                a = start[ring] + (sector * ring + j) % outer
                b = start[ring] + (sector * ring + j + 1) % outer
                c = start[ring - 1] + (sector * (ring - 1) + j) % inner
                triangles.append((a, b, c))
                if j < ring - 1:
                    d = start[ring - 1] + (sector * (ring - 1) + j + 1) % inner
                    triangles.append((c, b, d))
    return np.concatenate(points), np.array(triangles)


def prisms_to_tets(triangles: np.ndarray, stride: int, layers: int) -> np.ndarray:
    """Three tets per prism; the diagonals follow the vertex numbers, so neighbours agree."""
    a, b, c = np.sort(triangles, axis=1).T
    A, B, C = a + stride, b + stride, c + stride
    prism = np.concatenate([np.column_stack(t) for t in ((a, b, c, C), (a, b, B, C), (a, A, B, C))])
    return np.concatenate([prism + layer * stride for layer in range(layers)])


def turned_positive(points: np.ndarray, tets: np.ndarray) -> np.ndarray:
    """The same tets with two corners swapped where the volume is negative."""
    edge = points[tets[:, 1:]] - points[tets[:, :1]]
    negative = np.linalg.det(edge) < 0
    return np.where(negative[:, None], tets[:, [0, 2, 1, 3]], tets)


def with_mid_edge_nodes(points: np.ndarray, tets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """10-node tets with each extra node in the middle of its straight edge."""
    edges = np.sort(tets[:, np.array(TET_EDGES)], axis=-1)
    unique, inverse = np.unique(edges.reshape(-1, 2), axis=0, return_inverse=True)
    numbers = len(points) + inverse.reshape(len(tets), 6)
    return np.concatenate([points, points[unique].mean(1)]), np.concatenate([tets, numbers], axis=1)


def _onto_rings(points: np.ndarray, tets: np.ndarray) -> np.ndarray:
    """Move the middle of each edge that stays on one ring onto that ring's circle."""
    start, end = np.array(TET_EDGES).T
    radius = np.linalg.norm(points[:, :2], axis=1)
    ends = np.stack([radius[tets[:, start]], radius[tets[:, end]]])
    on_ring = np.isclose(ends[0], ends[1], rtol=1e-9) & (ends[0] > 0)
    target = radius.copy()
    target[tets[:, 4:][on_ring]] = ends[0][on_ring]
    stretch = np.divide(target, radius, where=radius > 0, out=np.ones_like(radius))
    return points * np.column_stack([stretch, stretch, np.ones_like(stretch)])
