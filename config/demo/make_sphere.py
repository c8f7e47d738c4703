"""Write sphere.vtu: a sphere of radius 5 um in 10-node tets, as a stand-in for a user's mesh.

Run `python config/demo/make_sphere.py`. Vertices come from a refined octahedron; surface vertices
and the mid-edge nodes between them lie on the sphere, so the curved volume is right to 0.1 %.
"""

from pathlib import Path

import meshio
import numpy as np
from skfem import MeshTet

RADIUS_UM = 5.0
REFINEMENTS = 2
# VTK's order of the mid-edge nodes of a quadratic tet.
EDGES = np.array([(0, 1), (1, 2), (0, 2), (0, 3), (1, 3), (2, 3)])


def curved_ball() -> tuple[np.ndarray, np.ndarray]:
    """Points (point, 3) in um and tets (tet, 10)."""
    ball = MeshTet.init_ball(REFINEMENTS)
    points, tets = ball.p.T * RADIUS_UM, ball.t.T.astype(np.int64)
    volume = np.linalg.det(points[tets[:, 1:]] - points[tets[:, :1]])
    tets = np.where(volume[:, None] < 0, tets[:, [0, 2, 1, 3]], tets)
    edges, inverse = np.unique(
        np.sort(tets[:, EDGES], axis=-1).reshape(-1, 2), axis=0, return_inverse=True
    )
    middle = points[edges].mean(1)
    on_surface = _is_surface_edge(ball, edges)
    middle[on_surface] *= RADIUS_UM / np.linalg.norm(middle[on_surface], axis=1, keepdims=True)
    numbers = len(points) + inverse.reshape(len(tets), 6)
    return np.concatenate([points, middle]), np.concatenate([tets, numbers], axis=1)


def _is_surface_edge(ball: MeshTet, edges: np.ndarray) -> np.ndarray:
    """Whether an edge lies in a boundary face; two surface nodes may also share an inner one."""
    faces = np.sort(ball.facets[:, ball.boundary_facets()].T, axis=1)
    known = {(face[i], face[j]) for face in faces.tolist() for i, j in ((0, 1), (1, 2), (0, 2))}
    return np.array([tuple(edge) in known for edge in edges.tolist()])


if __name__ == "__main__":
    points, tets = curved_ball()
    mesh = meshio.Mesh(
        points,
        [("tetra10", tets)],
        cell_data={"compartment": [np.ones(len(tets), dtype=np.int32)]},
    )
    target = Path(__file__).with_name("sphere.vtu")
    mesh.write(target, compression="zlib", binary=True)
    print(f"{target}: {len(points)} points, {len(tets)} tets, {target.stat().st_size // 1024} KiB")
