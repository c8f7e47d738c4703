"""What each voxel holds: volume fractions of bundles, cells and water, and fibre directions."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from scipy.interpolate import BPoly
from scipy.spatial import cKDTree
from torch import Tensor

from spinmesh.errors import ConfigError
from spinmesh.settings.phantom import FibreField
from spinmesh.stored import quantity

# Points in which a curve is followed: 1/400 of its length is far below a sub-voxel.
CURVE_POINTS = 401


@dataclass(frozen=True, eq=False)
class Field:
    """Volume fractions of `materials` per voxel (sum: 1 inside, less at the edge, 0 in air).

    The first materials are the bundles; `direction` holds their unit vectors in world axes, zero
    where a bundle has no part of the voxel. `affine` takes voxel indices to mm.
    """

    fractions: Float[Tensor, "x y z material"]
    direction: Float[Tensor, "x y z bundle 3"]
    affine: Float[Tensor, "4 4"] = quantity("mm")
    materials: tuple[str, ...] = quantity()

    def __post_init__(self) -> None:
        total = self.fractions.sum(-1)
        if self.fractions.min() < 0 or total.max() > 1 + 1e-9:
            raise ConfigError(
                f"field: volume fractions add up to {float(total.max()):g}; at most 1."
            )


def grid_affine(
    shape: tuple[int, int, int], voxel: tuple[float, float, float], orientation: str = "RAS"
) -> Float[Tensor, "4 4"]:
    """Affine (mm) of a grid centred on the origin; each axis points as its letter says."""
    sign = torch.tensor([1.0 if letter in "RAS" else -1.0 for letter in orientation])
    affine = torch.eye(4, dtype=torch.float64)
    affine[:3, :3] = torch.diag(sign * torch.tensor(voxel, dtype=torch.float64))
    middle = (torch.tensor(shape, dtype=torch.float64) - 1) / 2
    affine[:3, 3] = -affine[:3, :3] @ middle
    return affine


def fibre_field(
    places: FibreField, shape: tuple[int, int, int], affine: Float[Tensor, "4 4"]
) -> Field:
    """Fractions and directions of every voxel by sampling it; where bundles overlap they share.

    A bundle is a tube around a Bezier curve; its direction is the mean of the curve's tangents over
    the samples it holds. The rest of an ellipsoid is cells, but for a ball of free water.
    """
    count = len(places.bundles_mm)
    part = np.zeros((*shape, count + 2))
    direction = np.zeros((*shape, count, 3))
    matrix = affine.numpy()
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    curves = [_curve(points) for points in places.bundles_mm]
    steps = (np.arange(places.samples) + 0.5) / places.samples - 0.5
    for step in product(steps, repeat=3):
        place = (index + np.array(step)) @ matrix[:3, :3].T + matrix[:3, 3]
        tissue = ((place / np.array(places.extent_mm)) ** 2).sum(-1) <= 1
        near = [tree.query(place) for tree, _ in curves]
        fibre = np.stack([(far <= places.bundle_radius_mm) & tissue for far, _ in near], -1)
        rest = tissue & ~fibre.any(-1)
        from_water = np.linalg.norm(place - np.array(places.water_centre_mm), axis=-1)
        water = rest & (from_water <= places.water_radius_mm)
        part[..., :count] += fibre / np.maximum(fibre.sum(-1, keepdims=True), 1)
        part[..., count] += rest & ~water
        part[..., count + 1] += water
        tangents = [tangent[which] for (_, which), (_, tangent) in zip(near, curves, strict=True)]
        direction += fibre[..., None] * np.stack(tangents, -2)
    length = np.linalg.norm(direction, axis=-1, keepdims=True)
    direction = np.divide(direction, length, out=np.zeros_like(direction), where=length > 0)
    names = tuple(f"bundle {number + 1}" for number in range(count))
    return Field(
        torch.from_numpy(part / places.samples**3),
        torch.from_numpy(direction),
        affine,
        (*names, "cells", "water"),
    )


def _curve(control: tuple[tuple[float, float, float], ...]) -> tuple[cKDTree, ndarray]:
    """Points of a Bezier curve (mm), ready to be searched, and its unit tangents there."""
    t = np.linspace(0, 1, CURVE_POINTS)
    curve = BPoly(np.array(control)[:, None], [0.0, 1.0])
    slope = curve.derivative()(t)
    return cKDTree(curve(t)), slope / np.linalg.norm(slope, axis=1, keepdims=True)
