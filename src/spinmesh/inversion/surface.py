"""Distance between two surfaces, whatever points their meshes put on them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from spinmesh.fem import face_shapes, function_space
from spinmesh.mesh import TetMesh

# A face's samples: the centres of SUBDIVISION^2 triangles of equal reference area.
SUBDIVISION = 4
# Samples, drawn by area, that stand for a surface when it is laid onto the other one.
DRAWN = 800
# Iterations from every start, and from the best one.
SHORT, LONG = 8, 30
# A neighbour further off along the surface than this many sample spacings is no foot point.
REACH = 3.0


@dataclass(frozen=True, eq=False)
class Surface:
    """Points on a mesh's outer wall with unit normals and area weights that add up to one."""

    points: np.ndarray
    normals: np.ndarray
    weights: np.ndarray
    spacing: float  # um

    @classmethod
    def of(cls, mesh: TetMesh) -> Surface:
        """Centred; curved faces included."""
        space = function_space(mesh)
        faces = mesh.points[space.dof_point[space.wall_dofs]]
        value, slope = face_shapes(_reference_points(SUBDIVISION), faces.shape[1])
        points = torch.einsum("fna,sn->fsa", faces, value).reshape(-1, 3)
        tangent = torch.einsum("fna,snb->fsab", faces, slope)
        normal = torch.linalg.cross(tangent[..., 0], tangent[..., 1], dim=-1).reshape(-1, 3)
        area = normal.norm(dim=-1)
        weight = area / area.sum()
        centre = weight @ points
        # The reference triangle's area is 1/2.
        spacing = (float(area.sum()) / (2 * SUBDIVISION**2) / len(points)) ** 0.5
        normal = normal / area[:, None]
        return cls((points - centre).numpy(), normal.numpy(), weight.numpy(), spacing)

    @property
    def axes(self) -> np.ndarray:
        """Principal axes, columns, longest first."""
        axes: np.ndarray = np.linalg.svd((self.weights[:, None] * self.points).T @ self.points)[0]
        return axes

    def drawn(self, seed: int) -> np.ndarray:
        """Indices of samples, as likely as their area."""
        return np.random.default_rng(seed).choice(len(self.points), DRAWN, p=self.weights)


def _reference_points(n: int) -> torch.Tensor:
    """Centres of the n^2 equal parts of the unit triangle."""
    upward = [(i + 1 / 3, j + 1 / 3) for i in range(n) for j in range(n - i)]
    downward = [(i + 2 / 3, j + 2 / 3) for i in range(n - 1) for j in range(n - 1 - i)]
    return torch.tensor(upward + downward, dtype=torch.float64) / n


def surface_distance(a: TetMesh, b: TetMesh) -> float:
    """Mean distance of either surface's points from the other surface (um), averaged.

    Least over translations, rotations and reflections as far as they are found: iterated closest
    points, point to plane (Chen & Medioni 1992), from all ways to lay principal axes on principal
    axes. Unlike the Chamfer distance of vertices it does not see vertices slide along a surface,
    which no signal sees either.
    """
    moving, fixed = Surface.of(a), Surface.of(b)
    tree = cKDTree(fixed.points)
    index = moving.drawn(0)
    found = []
    for signs in product((1.0, -1.0), repeat=3):
        for order in ([0, 1, 2], [0, 2, 1]):
            turn = fixed.axes @ np.diag(signs) @ moving.axes[:, order].T
            found.append(_laid_on(moving, fixed, tree, index, (turn, np.zeros(3)), SHORT))
    turn, shift = min(found, key=lambda pose: _mean(moving, fixed, tree, index, pose))
    turn, shift = _laid_on(moving, fixed, tree, index, (turn, shift), LONG)
    laid = Surface(
        moving.points @ turn.T + shift, moving.normals @ turn.T, moving.weights, moving.spacing
    )
    there = _feet(laid.points[index], fixed, tree)[0].mean()
    back = _feet(fixed.points[fixed.drawn(1)], laid, cKDTree(laid.points))[0].mean()
    return float(there + back) / 2


Pose = tuple[np.ndarray, np.ndarray]


def _feet(points: np.ndarray, surface: Surface, tree: cKDTree) -> tuple[np.ndarray, np.ndarray]:
    """Distances from a surface, and the nearest samples: along their normals if they are near."""
    distance, nearest = tree.query(points)
    apart = points - surface.points[nearest]
    along = np.abs((apart * surface.normals[nearest]).sum(1))
    sideways = np.sqrt(np.maximum(distance**2 - along**2, 0))
    return np.where(sideways < REACH * surface.spacing, along, distance), nearest


def _mean(moving: Surface, fixed: Surface, tree: cKDTree, index: np.ndarray, pose: Pose) -> float:
    return float(_feet(moving.points[index] @ pose[0].T + pose[1], fixed, tree)[0].mean())


def _laid_on(
    moving: Surface, fixed: Surface, tree: cKDTree, index: np.ndarray, pose: Pose, most: int
) -> Pose:
    """Turn and shift after some iterations; each solves the linearised rigid motion."""
    turn, shift = pose
    for _ in range(most):
        points = moving.points[index] @ turn.T + shift
        nearest = _feet(points, fixed, tree)[1]
        normal = fixed.normals[nearest]
        residual = ((points - fixed.points[nearest]) * normal).sum(1)
        design = np.concatenate([np.cross(points, normal), normal], 1)
        # Directions in which a round tube slides on itself are left alone.
        step = np.linalg.lstsq(design, -residual, rcond=1e-3)[0]
        small = Rotation.from_rotvec(step[:3]).as_matrix()
        turn, shift = small @ turn, small @ shift + step[3:]
        if np.linalg.norm(step) < 1e-6:
            break
    return turn, shift
