"""One cloud of points laid on another (Kabsch, iterated closest points), and how far apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.linalg import orthogonal_procrustes
from scipy.spatial import cKDTree
from torch import Tensor

from spinmesh.mesh import TetMesh

# Iterations from every start, and from the best of them, as many.
SHORT, LONG, BEST = 8, 60, 3
# Steps in a row that gain less than this part of the distance before the end.
STALLED, PATIENCE = 1e-4, 3


@dataclass(frozen=True, eq=False)
class Motion:
    """x -> turn x + shift (um); `turn` is orthogonal, reflections among them."""

    turn: Float[ndarray, "3 3"]
    shift: Float[ndarray, " 3"]

    def __call__(self, points: Float[ndarray, "point 3"]) -> Float[ndarray, "point 3"]:
        """The points moved."""
        return points @ self.turn.T + self.shift

    def back(self, points: Float[ndarray, "point 3"]) -> Float[ndarray, "point 3"]:
        """The points before the motion."""
        return (points - self.shift) @ self.turn

    def after(self, first: Motion) -> Motion:
        """`first`, then this one."""
        return Motion(self.turn @ first.turn, self.turn @ first.shift + self.shift)


def motion_onto(moving: Float[ndarray, "point 3"], fixed: Float[ndarray, "point 3"]) -> Motion:
    """The motion that brings corresponding points nearest, least squares (Kabsch 1976)."""
    centre, goal = moving.mean(0), fixed.mean(0)
    turn = orthogonal_procrustes(moving - centre, fixed - goal)[0].T
    return Motion(turn, goal - turn @ centre)


@dataclass(frozen=True, eq=False)
class Clouds:
    """Two clouds of points (um), of which the first is moved."""

    moving: Float[ndarray, "n 3"]
    fixed: Float[ndarray, "m 3"]

    @classmethod
    def of(cls, moving: TetMesh, fixed: TetMesh) -> Clouds:
        """The vertices of two meshes."""
        return cls(*(mesh.points[mesh.vertices].numpy() for mesh in (moving, fixed)))

    @cached_property
    def trees(self) -> tuple[cKDTree, cKDTree]:
        """For nearest neighbours in either cloud."""
        return cKDTree(self.moving), cKDTree(self.fixed)

    def chamfer(self, motion: Motion) -> float:
        """Chamfer distance after the motion (um)."""
        there = self.trees[1].query(motion(self.moving))[0]
        back = self.trees[0].query(motion.back(self.fixed))[0]
        return float(there.mean() + back.mean()) / 2

    def nearer(self, motion: Motion) -> Motion:
        """The motion that brings the neighbours after `motion` together (Besl & McKay 1992)."""
        points = motion(self.moving)
        nearest = self.trees[1].query(points)[1]
        back = self.trees[0].query(motion.back(self.fixed))[1]
        moved = np.concatenate([points, points[back]])
        goal = np.concatenate([self.fixed[nearest], self.fixed])
        return motion_onto(moved, goal).after(motion)

    def starts(self) -> list[Motion]:
        """As the clouds lie, reflected, as points correspond (if they do), and axes on axes.

        Principal axes lie either way, the shorter two exchanged as well.
        """
        moving, fixed = self.moving, self.fixed
        middle, goal = ((x.max(0) + x.min(0)) / 2 for x in (moving, fixed))
        starts = [Motion(np.eye(3), goal - middle), Motion(-np.eye(3), goal + middle)]
        if len(moving) == len(fixed):
            starts.append(motion_onto(moving, fixed))
        axes = [np.linalg.svd(np.cov(x.T))[0] for x in (moving, fixed)]
        for order in ([0, 1, 2], [0, 2, 1]):
            for signs in product((1.0, -1.0), repeat=3):
                turn = axes[1] @ np.diag(signs) @ axes[0][:, order].T
                starts.append(Motion(turn, fixed.mean(0) - turn @ moving.mean(0)))
        return starts


def laid_on(
    starts: Iterable[Motion],
    step: Callable[[Motion], Motion],
    apart: Callable[[Motion], float],
) -> Motion:
    """The motion with the least distance `apart` met by SHORT steps, LONG ones from the BEST."""

    def descend(motion: Motion, most: int) -> tuple[float, Motion]:
        least, best, stalled = apart(motion), motion, 0
        for _ in range(most):
            motion = step(motion)
            distance = apart(motion)
            stalled = 0 if distance < (1 - STALLED) * least else stalled + 1
            if distance < least:
                least, best = distance, motion
            if stalled == PATIENCE:
                break
        return least, best

    def distance(end: tuple[float, Motion]) -> float:
        return end[0]

    short = sorted((descend(start, SHORT) for start in starts), key=distance)
    return min((descend(motion, LONG) for _, motion in short[:BEST]), key=distance)[1]


def chamfer_distance(a: Float[Tensor, "n 3"], b: Float[Tensor, "m 3"]) -> float:
    """Mean of the two mean nearest-neighbour distances (um), 1/(2n) sum + 1/(2m) sum."""
    return Clouds(a.numpy(), b.numpy()).chamfer(Motion(np.eye(3), np.zeros(3)))


def aligned_chamfer_distance(a: TetMesh, b: TetMesh, starts: Iterable[Motion] = ()) -> float:
    """Chamfer distance of vertices (um), least over rotations, reflections and translations.

    As far as they are found, from `starts` and the usual ones. Meshes of different resolution stay
    about half an edge apart, so compare deformations of one template.
    """
    clouds = Clouds.of(a, b)
    motion = laid_on([*starts, *clouds.starts()], clouds.nearer, clouds.chamfer)
    return clouds.chamfer(motion)
