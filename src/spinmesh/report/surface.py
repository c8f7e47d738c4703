"""From tetrahedra to what the eye sees: their outer faces, turned towards the viewer and shaded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.tri import Triangulation, UniformTriRefiner

from spinmesh.mesh import TetMesh, outer_faces, shape_functions

# Times each edge of a curved face is halved; fewer would show as corners.
HALVINGS = 2
# Angle (rad) from which the viewer looks down on an upright shape.
ELEVATION = 0.3
# Mesh edges are drawn this much (um) in front of the faces they bound.
LIFT = 0.1


@dataclass(frozen=True, eq=False)
class Surface:
    """Triangles and mesh edges (um); to be drawn, with x right, y up, z towards the viewer."""

    triangles: Float[np.ndarray, "face 3 3"]
    colour: Float[np.ndarray, "face 3"]
    edges: Float[np.ndarray, "edge 2 3"]

    @property
    def box(self) -> Float[np.ndarray, "2 3"]:
        """Lowest and highest corner of the bounding box."""
        return np.stack([self.triangles.min((0, 1)), self.triangles.max((0, 1))])

    def moved(self, shift: Float[np.ndarray, " 3"]) -> Surface:
        """The same surface elsewhere."""
        return Surface(self.triangles + shift, self.colour, self.edges + shift)

    def turned(self, rotation: Float[np.ndarray, "3 3"]) -> Surface:
        """The same surface, turned about the origin."""
        return Surface(self.triangles @ rotation.T, self.colour, self.edges @ rotation.T)


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
) -> Surface:
    """The outer faces, coloured by compartment."""
    faces, tet = outer_faces(mesh.tets.numpy())
    compartment = np.searchsorted(mesh.labels, mesh.compartment.numpy()[tet])
    nodes = mesh.points.detach().numpy()[faces] @ rotation.T
    pieces = UniformTriRefiner(Triangulation([0.0, 1, 0], [0.0, 0, 1])).refine_triangulation(
        subdiv=0 if mesh.order == 1 else HALVINGS
    )
    places = torch.from_numpy(np.column_stack([pieces.x, pieces.y]))
    fine = np.einsum("ln,fnd->fld", shape_functions(places, faces.shape[1])[0].numpy(), nodes)
    small, (piece, side) = pieces.triangles, np.nonzero(pieces.neighbors < 0)
    rim = np.stack([small[piece, side], small[piece, (side + 1) % 3]], 1)
    if np.linalg.det(rotation) < 0:
        small = small[:, ::-1]  # a mirror image turns its faces inside out
    palette = np.array([to_rgb(c) for c in colours])
    colour = palette[compartment % len(palette)].repeat(len(small), 0)
    return Surface(fine[:, small].reshape(-1, 3, 3), colour, fine[:, rim].reshape(-1, 2, 3))


def _shaded(normal: Float[np.ndarray, "face 3"], colour: np.ndarray) -> np.ndarray:
    """Colours under a light over the viewer's left shoulder (Lambert, with a soft highlight)."""
    light = np.array([-0.45, 0.5, 0.74])
    diffuse = np.clip(normal @ light, 0, 1)
    # The direction half way between light and viewer makes the highlight (Blinn 1977).
    half = light + np.array([0, 0, 1.0])
    highlight = np.clip(normal @ (half / np.linalg.norm(half)), 0, 1) ** 30
    return np.clip(colour * (0.45 + 0.7 * diffuse)[:, None] + 0.22 * highlight[:, None], 0, 1)


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
    fronts = np.bincount(inverse.reshape(-1), front)
    return corners[first][edges[(fronts > 0) & (fronts < count)]][:, :, :2]


def paint(axes: Axes, surface: Surface) -> None:
    """Draw what looks at the viewer, far things first."""
    normal = _normals(surface.triangles)
    front = normal[:, 2] > 0
    fill = _shaded(normal[front], surface.colour[front])
    # An edge is a triangle of no area, so that one sorted list holds both.
    rim = surface.edges[:, [0, 1, 1]]
    shapes = np.concatenate([surface.triangles[front], rim])
    depth = shapes[:, :, 2].mean(1) + LIFT * (np.arange(len(shapes)) >= front.sum())
    fill = np.concatenate([fill, np.full((len(rim), 3), 0.25)])
    order = depth.argsort()
    axes.add_collection(
        PolyCollection(
            shapes[order][:, :, :2], facecolors=fill[order], edgecolors=fill[order], linewidths=0.3
        )
    )
    axes.set_aspect("equal")
