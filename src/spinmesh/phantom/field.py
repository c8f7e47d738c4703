"""What each voxel holds: volume fractions of bundles, cells and water, and fibre directions."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy.spatial import cKDTree
from torch import Tensor

from spinmesh.errors import ConfigError

# Points in which a curve is followed: 1/400 of its length is far below a sub-voxel.
CURVE_POINTS = 401

Point = tuple[float, float, float]


@dataclass(frozen=True)
class FieldSpec:
    """Where things are, in world axes (mm): x to the right, y to the front, z up (RAS).

    `bundles` are the control points of Bezier curves with a tube of `bundle_radius` around each.
    The rest of an ellipsoid of semi-axes `extent` is cells, but for a ball of free water. Each
    voxel is sampled on `samples`^3 points.
    """

    bundles: tuple[tuple[Point, ...], ...]
    bundle_radius: float = 5.0
    extent: Point = (22.0, 22.0, 6.0)
    water_centre: Point = (12.0, 12.0, 0.0)
    water_radius: float = 4.0
    samples: int = 4

    def __post_init__(self) -> None:
        if not self.bundles or any(len(curve) < 2 for curve in self.bundles):
            raise ConfigError("phantom: give at least one bundle of at least two points (mm).")
        if not (min(self.bundle_radius, *self.extent) > 0 <= self.water_radius):
            raise ConfigError(
                f"phantom: bundle_radius {self.bundle_radius}, extent {self.extent} and "
                f"water_radius {self.water_radius} mm must be positive (the water's may be 0)."
            )
        if self.samples < 1:
            raise ConfigError(f"phantom: samples is {self.samples}; give at least 1.")


@dataclass(frozen=True, eq=False)
class Field:
    """Volume fractions of `materials` per voxel (sum: 1 inside, less at the edge, 0 in air).

    The first materials are the bundles; `direction` holds their unit vectors in world axes, zero
    where a bundle has no part of the voxel. `affine` takes voxel indices to mm.
    """

    fractions: Float[Tensor, "x y z material"]
    direction: Float[Tensor, "x y z bundle 3"]
    affine: Float[Tensor, "4 4"]
    materials: tuple[str, ...]

    def __post_init__(self) -> None:
        total = self.fractions.sum(-1)
        if self.fractions.min() < 0 or total.max() > 1 + 1e-9:
            raise ConfigError(
                f"field: volume fractions add up to {float(total.max()):g}; at most 1."
            )
        if self.fractions.shape[-1] != len(self.materials):
            raise ConfigError(
                f"field: {self.fractions.shape[-1]} fractions for materials {self.materials}."
            )
        if not abs(float(torch.linalg.det(self.affine[:3, :3]))) > 0:
            raise ConfigError(f"field: affine {self.affine.tolist()} cannot be inverted.")


def grid_affine(
    shape: tuple[int, int, int], voxel: Point, orientation: str = "RAS"
) -> Float[Tensor, "4 4"]:
    """Affine (mm) of a grid centred on the origin; each axis points as its letter says (RAS, LAS).

    ConfigError unless the letters are L or R, A or P, S or I in this order.
    """
    known = ("RL", "AP", "SI")
    if len(orientation) != 3 or any(
        word not in pair for word, pair in zip(orientation, known, strict=True)
    ):
        raise ConfigError(
            f"phantom: orientation {orientation!r}; give RAS, LAS or another of those."
        )
    sign = [1.0 if word == pair[0] else -1.0 for word, pair in zip(orientation, known, strict=True)]
    affine = torch.eye(4, dtype=torch.float64)
    affine[:3, :3] = torch.diag(torch.tensor(sign) * torch.tensor(voxel, dtype=torch.float64))
    middle = (torch.tensor(shape, dtype=torch.float64) - 1) / 2
    affine[:3, 3] = -affine[:3, :3] @ middle
    return affine


def fibre_field(
    spec: FieldSpec, shape: tuple[int, int, int], affine: Float[Tensor, "4 4"]
) -> Field:
    """Fractions and directions of every voxel by sampling it; where bundles overlap they share.

    A bundle's direction is the mean of its curve's tangents over the samples it holds.
    """
    count = len(spec.bundles)
    part = np.zeros((*shape, count + 2))
    direction = np.zeros((*shape, count, 3))
    matrix = affine.numpy()
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    curves = [_Curve(points) for points in spec.bundles]
    steps = (np.arange(spec.samples) + 0.5) / spec.samples - 0.5
    for step in product(steps, repeat=3):
        place = (index + np.array(step)) @ matrix[:3, :3].T + matrix[:3, 3]
        tissue = ((place / np.array(spec.extent)) ** 2).sum(-1) <= 1
        near = [curve.nearest(place) for curve in curves]
        held = np.stack([(far <= spec.bundle_radius) & tissue for far, _ in near], -1)
        share = held / np.maximum(held.sum(-1, keepdims=True), 1)
        wet = _in_ball(place, spec) & tissue & ~held.any(-1)
        part[..., :count] += share
        part[..., count] += tissue & ~held.any(-1) & ~wet
        part[..., count + 1] += wet
        direction += held[..., None] * np.stack([tangent for _, tangent in near], -2)
    length = np.linalg.norm(direction, axis=-1, keepdims=True)
    direction = np.divide(direction, length, out=np.zeros_like(direction), where=length > 0)
    names = tuple(f"bundle {number + 1}" for number in range(count))
    return Field(
        torch.from_numpy(part / spec.samples**3),
        torch.from_numpy(direction),
        affine,
        (*names, "cells", "water"),
    )


def _in_ball(place: ndarray, spec: FieldSpec) -> Bool[ndarray, "x y z"]:
    return np.asarray(((place - np.array(spec.water_centre)) ** 2).sum(-1) <= spec.water_radius**2)


class _Curve:
    """A Bezier curve (de Casteljau), as points and unit tangents."""

    def __init__(self, control: tuple[Point, ...]) -> None:
        t = np.linspace(0, 1, CURVE_POINTS)[:, None]
        level = [np.broadcast_to(np.array(point), (CURVE_POINTS, 3)) for point in control]
        while len(level) > 1:
            slope = level[1] - level[0]
            level = [(1 - t) * a + t * b for a, b in pairwise(level)]
        self.tangent = slope / np.linalg.norm(slope, axis=1, keepdims=True)
        self.tree = cKDTree(level[0])

    def nearest(self, place: Float[ndarray, "x y z 3"]) -> tuple[ndarray, ndarray]:
        """Distance (mm) to the curve and its tangent there."""
        far, which = self.tree.query(place)
        return far, self.tangent[which]
