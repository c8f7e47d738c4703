"""Closed surfaces whose volumes and areas are known."""

import numpy as np
import trimesh
from numpy import ndarray

from spinmesh.meshing.mending import mended
from spinmesh.meshing.surface import Surface


def ball(
    radius: float, centre: tuple[float, ...] = (0, 0, 0), steps: int = 2
) -> tuple[ndarray, ndarray]:
    """Corners and triangles of a refined icosahedron."""
    body = trimesh.creation.icosphere(subdivisions=steps, radius=radius)
    return np.array(body.vertices) + centre, np.array(body.faces)


def octahedron(radius: float) -> tuple[ndarray, ndarray]:
    """Of volume 4/3 r^3 and area 4 sqrt(3) r^2."""
    points = radius * np.concatenate([np.eye(3), -np.eye(3)])
    octants = [(i, j, k) for i in (0, 3) for j in (1, 4) for k in (2, 5)]
    return points, np.array([c if sum(c) % 2 else (c[0], c[2], c[1]) for c in octants])


def surface(points: ndarray, triangles: ndarray, name: str = "body") -> Surface:
    """The surface alone, without what was mended."""
    return mended(points, triangles, name)[0]
