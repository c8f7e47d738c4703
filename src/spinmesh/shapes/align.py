"""One cloud of points laid on another: Kabsch's motion, and iterated closest points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.linalg import orthogonal_procrustes
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

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


def laid_on(
    moving: Float[ndarray, "point 3"],
    fixed: Float[ndarray, "other 3"],
    starts: Sequence[Motion],
    apart: Callable[[Motion], float],
    normals: Float[ndarray, "other 3"] | None = None,
) -> Motion:
    """The motion or reflection with the least distance `apart` that is found.

    Iterated closest points (Besl & McKay 1992), SHORT iterations from every start and LONG ones
    from the BEST of them. With `normals` of a surface that `fixed` are samples of, steps go point
    to plane (Chen & Medioni 1992), so that samples may slide on it.
    """
    pair = _Pair(moving, fixed, cKDTree(moving), cKDTree(fixed), normals)
    short = sorted((pair.descend(start, SHORT, apart) for start in starts), key=_first)
    return min((pair.descend(m, LONG, apart) for _, m in short[:BEST]), key=_first)[1]


def _first(pair: tuple[float, Motion]) -> float:
    return pair[0]


def usual_starts(
    moving: Float[ndarray, "point 3"], fixed: Float[ndarray, "other 3"]
) -> list[Motion]:
    """As the clouds lie, reflected, as points correspond (if they do), and axes on axes.

    Principal axes lie either way, the shorter two exchanged as well.
    """
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


@dataclass(frozen=True, eq=False)
class _Pair:
    moving: ndarray
    fixed: ndarray
    moving_tree: cKDTree
    fixed_tree: cKDTree
    normals: ndarray | None

    def descend(
        self, motion: Motion, most: int, apart: Callable[[Motion], float]
    ) -> tuple[float, Motion]:
        """The least distance met in at most so many steps, and the motion there."""
        least, best, rise = apart(motion), motion, 0
        for _ in range(most):
            motion = self.step(motion).after(motion)
            distance = apart(motion)
            if distance < (1 - STALLED) * least:
                rise = 0
            else:
                rise += 1
            if distance < least:
                least, best = distance, motion
            if rise == PATIENCE:
                break
        return least, best

    def step(self, motion: Motion) -> Motion:
        """The motion that brings neighbours together."""
        points = motion(self.moving)
        nearest = self.fixed_tree.query(points)[1]
        if self.normals is not None:
            return _slide(points, points - self.fixed[nearest], self.normals[nearest])
        other = self.moving_tree.query(motion.back(self.fixed))[1]
        ours = np.concatenate([points, points[other]])
        return motion_onto(ours, np.concatenate([self.fixed[nearest], self.fixed]))


def _slide(points: ndarray, apart: ndarray, normals: ndarray) -> Motion:
    """The small motion that takes the points nearest to the planes, linearised."""
    centre = points.mean(0)
    design = np.concatenate([np.cross(points - centre, normals), normals], 1)
    # Directions in which a round tube slides on itself are left alone.
    step = np.linalg.lstsq(design, -(apart * normals).sum(1), rcond=1e-3)[0]
    turn = Rotation.from_rotvec(step[:3]).as_matrix()
    return Motion(turn, step[3:] + centre - turn @ centre)
