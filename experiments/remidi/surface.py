"""The distance of two surfaces, wherever they lie and wherever a mesh puts its vertices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from torch import Tensor

from spinmesh.fem import function_space
from spinmesh.mesh import TetMesh, shape_functions
from spinmesh.shapes.align import Clouds, Motion, laid_on

# A face's samples: the centres of SUBDIVISION^2 triangles of equal reference area.
SUBDIVISION = 4
# Samples, drawn by area, that stand for a surface when it is laid onto the other one.
DRAWN = 800
# A neighbour further off along the surface than this many sample spacings is no foot point.
REACH = 3.0


@dataclass(frozen=True, eq=False)
class _Surface:
    """Points on a mesh's outer wall with unit normals and area weights that add up to one."""

    points: Float[ndarray, "sample 3"]
    normals: Float[ndarray, "sample 3"]
    weights: Float[ndarray, " sample"]
    spacing: float  # um

    @classmethod
    def of(cls, mesh: TetMesh) -> _Surface:
        """Curved faces included."""
        space = function_space(mesh)
        faces = mesh.points[space.dof_point[space.wall_dofs]]
        value, slope = shape_functions(_reference_points(SUBDIVISION), faces.shape[1])
        points = torch.einsum("fna,sn->fsa", faces, value).reshape(-1, 3)
        tangent = torch.einsum("fna,snb->fsab", faces, slope)
        normal = torch.linalg.cross(tangent[..., 0], tangent[..., 1], dim=-1).reshape(-1, 3)
        area = normal.norm(dim=-1)
        weight = area / area.sum()
        # The reference triangle's area is 1/2.
        spacing = (float(area.sum()) / (2 * SUBDIVISION**2) / len(points)) ** 0.5
        normal = normal / area[:, None]
        return cls(points.numpy(), normal.numpy(), weight.numpy(), spacing)

    @cached_property
    def tree(self) -> cKDTree:
        """Of the points."""
        return cKDTree(self.points)

    def drawn(self, seed: int) -> Float[ndarray, "drawn 3"]:
        """Samples as likely as their area."""
        index = np.random.default_rng(seed).choice(len(self.points), DRAWN, p=self.weights)
        return self.points[index]

    def distance(self, points: Float[ndarray, "point 3"]) -> float:
        """Mean distance of points from the surface: along its normals where they are near."""
        distance, nearest = self.tree.query(points)
        apart = points - self.points[nearest]
        along = np.abs((apart * self.normals[nearest]).sum(1))
        sideways = np.sqrt(np.maximum(distance**2 - along**2, 0))
        return float(np.where(sideways < REACH * self.spacing, along, distance).mean())


def surface_distance(a: TetMesh, b: TetMesh) -> float:
    """Mean distance of either surface's points from the other surface (um), averaged.

    Least over translations, rotations and reflections as far as they are found. Unlike the Chamfer
    distance of vertices it does not see vertices slide along a surface, and no signal does.
    """
    moving, fixed = _Surface.of(a), _Surface.of(b)
    ours, theirs = moving.drawn(0), fixed.drawn(1)

    def apart(motion: Motion) -> float:
        return (fixed.distance(motion(ours)) + moving.distance(motion.back(theirs))) / 2

    def slide(motion: Motion) -> Motion:
        """A step point to plane (Chen & Medioni 1992), so that samples may slide."""
        points = motion(ours)
        nearest = fixed.tree.query(points)[1]
        normals = fixed.normals[nearest]
        return _slide(points, points - fixed.points[nearest], normals).after(motion)

    return apart(laid_on(Clouds.of(a, b).starts(), slide, apart))


def _slide(points: ndarray, apart: ndarray, normals: ndarray) -> Motion:
    """The small motion that takes the points nearest to the planes, linearised."""
    centre = points.mean(0)
    design = np.concatenate([np.cross(points - centre, normals), normals], 1)
    # Directions in which a round tube slides on itself are left alone.
    step = np.linalg.lstsq(design, -(apart * normals).sum(1), rcond=1e-3)[0]
    turn = Rotation.from_rotvec(step[:3]).as_matrix()
    return Motion(turn, step[3:] + centre - turn @ centre)


def _reference_points(n: int) -> Float[Tensor, "part 2"]:
    """Centres of the n^2 equal parts of the unit triangle."""
    upward = [(i + 1 / 3, j + 1 / 3) for i in range(n) for j in range(n - i)]
    downward = [(i + 2 / 3, j + 2 / 3) for i in range(n - 1) for j in range(n - 1 - i)]
    return torch.tensor(upward + downward, dtype=torch.float64) / n
