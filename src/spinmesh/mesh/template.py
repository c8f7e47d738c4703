"""The swept disk: a cylinder of concentric rings, swept in layers, cut into tetrahedra."""

from __future__ import annotations

import numpy as np
import torch

from spinmesh.mesh.faces import turned_positive
from spinmesh.mesh.tetmesh import TET_EDGES, TetMesh
from spinmesh.settings import SweptDisk


def swept_disk(size: SweptDisk) -> TetMesh:
    """The template cylinder, axis z from 0 to its length, one compartment labelled 1."""
    disk, triangles = _disk(size.rings)
    heights = np.linspace(0, 1, size.layers + 1)
    points = np.concatenate(
        [np.column_stack([disk, np.full(len(disk), height)]) for height in heights]
    )
    tets = turned_positive(points, prisms_to_tets(triangles, len(disk), size.layers))
    if size.order == 2:
        points, tets = with_mid_edge_nodes(points, tets)
        points = _onto_rings(points, tets)
    scale = np.array([size.radius_um, size.radius_um, size.length_um])
    return TetMesh(
        torch.from_numpy(points * scale),
        torch.from_numpy(tets),
        torch.ones(len(tets), dtype=torch.int64),
        name=f"swept disk {size.rings}x{size.layers}",
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
