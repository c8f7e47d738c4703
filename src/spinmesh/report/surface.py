"""From tetrahedra to what the eye sees: their outer faces, turned towards the viewer and shaded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb

from spinmesh.mesh import TetMesh, outer_faces, shape_functions

# Pieces along each edge of a curved face; fewer would show as corners.
PIECES = 4
# Angle (rad) from which the viewer looks down on an upright shape.
ELEVATION = 0.3
# Mesh edges are drawn this much (um) in front of the faces they bound.
LIFT = 0.1


@dataclass(frozen=True, eq=False)
class Surface:
    """Triangles and mesh edges in view coordinates: x right, y up, z towards the viewer (um)."""

    triangles: Float[np.ndarray, "face 3 3"]
    colour: Float[np.ndarray, "face 3"]
    edges: Float[np.ndarray, "edge 2 3"]

    @property
    def low(self) -> np.ndarray:
        """Lowest corner of the bounding box."""
        return np.asarray(self.triangles.min((0, 1)))

    @property
    def high(self) -> np.ndarray:
        """Highest corner of the bounding box."""
        return np.asarray(self.triangles.max((0, 1)))

    def placed(self, x: float, y: float, scale: float = 1.0) -> Surface:
        """The same surface, scaled, with the lower left of its bounding box at (x, y)."""
        shift = np.array([x, y, 0]) - scale * np.array([self.low[0], self.low[1], 0])
        return Surface(scale * self.triangles + shift, self.colour, scale * self.edges + shift)


def view(mesh: TetMesh, side: bool = False) -> Float[np.ndarray, "3 3"]:
    """Rotation to view coordinates: z of the mesh up, its widest spread across z to the right.

    `side` looks along that spread instead.
    """
    flat = mesh.points[:, :2].detach().numpy()
    _, axes = np.linalg.eigh(np.cov((flat - flat.mean(0)).T))
    right = np.array([*axes[:, 0 if side else 1], 0.0])
    right *= np.sign(right[np.abs(right).argmax()])
    away = np.cross(np.array([0.0, 0, 1]), right)
    up = np.array([0, 0, np.cos(ELEVATION)]) + np.sin(ELEVATION) * away
    return np.stack([right, up, np.cross(right, up)])


def surface(
    mesh: TetMesh,
    rotation: Float[np.ndarray, "3 3"],
    colours: list[str],
    keep: np.ndarray | None = None,
) -> Surface:
    """What shows of the tets `keep` (all if None), coloured by compartment."""
    shown = np.arange(len(mesh.tets)) if keep is None else np.flatnonzero(keep)
    faces, tet = outer_faces(mesh.tets.numpy()[shown])
    owner = np.searchsorted(mesh.labels, mesh.compartment.numpy()[shown][tet])
    nodes = mesh.points.detach().numpy()[faces] @ rotation.T
    pieces = 1 if mesh.order == 1 else PIECES
    weights, small, rim = _lattice(pieces, faces.shape[1])
    if np.linalg.det(rotation) < 0:
        small = small[:, ::-1]  # a mirror image turns its faces inside out
    fine = np.einsum("ln,fnd->fld", weights, nodes)
    rim_ends = fine[:, rim].reshape(-1, 2, 3) + np.array([0, 0, LIFT])
    palette = np.array([to_rgb(c) for c in colours])
    colour = palette[owner % len(palette)].repeat(len(small), 0)
    return Surface(fine[:, small].reshape(-1, 3, 3), colour, rim_ends)


def _lattice(pieces: int, nodes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shape functions on a barycentric lattice of a face, its small triangles, and its rim."""
    index = [(i, j) for i in range(pieces + 1) for j in range(pieces + 1 - i)]
    number = {ij: k for k, ij in enumerate(index)}
    weights = shape_functions(torch.tensor(index, dtype=torch.float64) / pieces, nodes)[0].numpy()
    small = []
    for i, j in index:
        if i + j < pieces:
            small.append([number[i, j], number[i + 1, j], number[i, j + 1]])
        if i + j < pieces - 1:
            small.append([number[i + 1, j], number[i + 1, j + 1], number[i, j + 1]])
    steps = range(pieces)
    rim = [[number[i, 0], number[i + 1, 0]] for i in steps]
    rim += [[number[0, i], number[0, i + 1]] for i in steps]
    rim += [[number[i, pieces - i], number[i + 1, pieces - i - 1]] for i in steps]
    return weights, np.array(small), np.array(rim)


def shaded(triangles: Float[np.ndarray, "face 3 3"], colour: np.ndarray) -> np.ndarray:
    """Colours under a light over the viewer's left shoulder (Lambert, with a soft highlight)."""
    normal = _normals(triangles)
    light = np.array([-0.45, 0.5, 0.74])
    diffuse = np.clip(normal @ light, 0, 1)
    # The direction half way between light and viewer makes the highlight (Blinn 1977).
    half = light + np.array([0, 0, 1.0])
    highlight = np.clip(normal @ (half / np.linalg.norm(half)), 0, 1) ** 30
    return np.clip(colour * (0.38 + 0.68 * diffuse)[:, None] + 0.22 * highlight[:, None], 0, 1)


def _normals(triangles: np.ndarray) -> np.ndarray:
    normal = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    return np.asarray(normal / np.linalg.norm(normal, axis=1, keepdims=True))


def silhouette(surface: Surface) -> Float[np.ndarray, "edge 2 2"]:
    """Where faces towards the viewer meet faces away from it: the outline of the shape."""
    # Corners shared by triangles differ by rounding only.
    corners = surface.triangles.reshape(-1, 3).round(6)
    _, first, number = np.unique(corners, axis=0, return_index=True, return_inverse=True)
    triangles = number.reshape(-1, 3)
    pairs = np.sort(np.concatenate([triangles[:, [i, (i + 1) % 3]] for i in range(3)]), axis=1)
    front = np.tile(_normals(surface.triangles)[:, 2] > 0, 3)
    edges, inverse, count = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    seen = np.bincount(inverse.reshape(-1), front)
    return corners[first][edges[(seen > 0) & (seen < count)]][:, :, :2]


def paint(axes: Axes, surface: Surface, alpha: float = 1.0, edges: bool = True) -> None:
    """Draw with matplotlib alone: what looks at the viewer, far things first."""
    front = _normals(surface.triangles)[:, 2] > 0
    triangles = surface.triangles[front]
    fill = shaded(triangles, surface.colour[front])
    depth = triangles[:, :, 2].mean(1)
    if edges:
        # An edge is a triangle of no area, so that one sorted list holds both.
        rim = surface.edges[:, [0, 1, 1]]
        triangles = np.concatenate([triangles, rim])
        fill = np.concatenate([fill, np.full((len(rim), 3), 0.25)])
        depth = np.concatenate([depth, rim[:, :, 2].mean(1)])
    order = depth.argsort()
    width = np.where(order < front.sum(), 0.3, 0.35)
    axes.add_collection(
        PolyCollection(
            triangles[order][:, :, :2],
            facecolors=fill[order],
            edgecolors=fill[order],
            linewidths=width,
            alpha=alpha,
        )
    )
