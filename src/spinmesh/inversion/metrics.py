"""How far a reconstructed shape is from the true one, in what the signal can see."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from numpy.polynomial import legendre
from scipy.spatial import cKDTree
from torch import Tensor

from spinmesh.inversion.shape_model import ShapeModel
from spinmesh.inversion.spectral import point_matrices, spectral_basis
from spinmesh.mesh import TetMesh, rotation_matrix, shape_gradients

STATIONS = 24
# Turns about each axis, in degrees, over which the modified Chamfer distance is minimised.
TURN = 15
# Iterated closest points at most, and the relative gain below which they have stalled.
CLOSEST_POINTS, STALLED = 60, 1e-4
# Barycentric lattice 1/n inside each tet where the longitudinal coordinate is sampled.
LATTICE = 4
# Legendre degree of the centre line in the volume fraction: resolves about three beads.
DEGREE = 12
# Fraction of the volume at either end outside the profile.
TRIM = 0.1


def chamfer_distance(a: Float[Tensor, "n 3"], b: Float[Tensor, "m 3"]) -> float:
    """Mean of the two mean nearest-neighbour distances (um), 1/(2n) sum + 1/(2m) sum."""
    return _chamfer(a.numpy(), b.numpy(), cKDTree(b.numpy()))


def modified_chamfer_distance(a: TetMesh, b: TetMesh) -> float:
    """ReMiDi's metric over vertices (um): the least Chamfer distance over turns and inversion.

    `a` is moved so that the centres of the bounding boxes agree, then turned about x, y or z
    through that centre in steps of 15 degrees, each also inverted through it. The paper does not
    say its steps; a finer grid only lowers the figure. Meshes of different resolution stay about
    half an edge apart, so compare deformations of one template.
    """
    return _best_turn(*_vertices(a, b))[0]


def aligned_chamfer_distance(a: TetMesh, b: TetMesh) -> float:
    """The same metric (um), minimised over every rotation and translation instead of some turns.

    A reconstruction of unknown pose is turned by a small angle about no special axis, and turns of
    15 degrees cannot take that back. From the meshes as they lie, as published and as the vertices
    correspond (if they do), iterated closest points descend; the least distance counts.
    """
    return chamfer_distances(a, b)[1]


def chamfer_distances(a: TetMesh, b: TetMesh) -> tuple[float, float]:
    """`modified_chamfer_distance` and the no larger `aligned_chamfer_distance`, at once."""
    moving, fixed = _vertices(a, b)
    published, turned = _best_turn(moving, fixed)
    starts = [moving, -moving, turned]
    if len(moving) == len(fixed):
        starts.append(_onto(moving, moving, fixed))
    tree = cKDTree(fixed)
    return published, min(_closest_points(start, fixed, tree) for start in starts)


def _vertices(a: TetMesh, b: TetMesh) -> tuple[np.ndarray, np.ndarray]:
    moving, fixed = (_centred(mesh.points[mesh.vertices]) for mesh in (a, b))
    return moving, fixed


def _best_turn(moving: np.ndarray, fixed: np.ndarray) -> tuple[float, np.ndarray]:
    """Least Chamfer distance over turns about the axes and inversion, and the points there.

    Half of the distance, from the moved points to the fixed ones, is a lower bound: the other half
    is asked for in its order, and only until the bound exceeds the best. Its points are turned back
    instead, so that one tree serves all turns.
    """
    turns = _turns()
    there = cKDTree(fixed).query(np.einsum("tab,nb->tna", turns, moving))[0].mean(1)
    tree, best, found = cKDTree(moving), np.inf, turns[0]
    for k in np.argsort(there, kind="stable"):
        if there[k] / 2 >= best:
            break
        distance = (there[k] + tree.query(fixed @ turns[k])[0].mean()) / 2
        if distance < best:
            best, found = distance, turns[k]
    return float(best), moving @ found.T


@cache
def _turns() -> np.ndarray:
    """Rotations in steps of TURN degrees about the three axes, each also with the inversion."""
    angles = torch.arange(0, 360, TURN, dtype=torch.float64) * (torch.pi / 180)
    axes = torch.eye(3, dtype=torch.float64)
    turns = np.stack([rotation_matrix(axis * angle).numpy() for axis in axes for angle in angles])
    return np.concatenate([turns, -turns])


def _closest_points(moving: np.ndarray, fixed: np.ndarray, tree: cKDTree) -> float:
    """Least Chamfer distance met while both clouds' nearest neighbours are brought together."""
    best = _chamfer(moving, fixed, tree)
    for _ in range(CLOSEST_POINTS):
        to_fixed, to_moving = tree.query(moving)[1], cKDTree(moving).query(fixed)[1]
        ours = np.concatenate([moving, moving[to_moving]])
        theirs = np.concatenate([fixed[to_fixed], fixed])
        moving = _onto(moving, ours, theirs)
        distance = _chamfer(moving, fixed, tree)
        if distance > (1 - STALLED) * best:
            return min(best, distance)
        best = distance
    return best


def _onto(moving: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """`moving` after the orthogonal map and shift that take `ours` nearest to `theirs` (Kabsch)."""
    centre, goal = ours.mean(0), theirs.mean(0)
    U, _, Vt = np.linalg.svd((ours - centre).T @ (theirs - goal))
    return (moving - centre) @ (U @ Vt) + goal


def _centred(points: Tensor) -> np.ndarray:
    return (points - (points.amax(0) + points.amin(0)) / 2).numpy()


def _chamfer(a: np.ndarray, b: np.ndarray, tree: cKDTree) -> float:
    return float((tree.query(a)[0].mean() + cKDTree(a).query(b)[0].mean()) / 2)


@dataclass(frozen=True, eq=False)
class Profile:
    """A cell along its length: `STATIONS` cross-sections at equal arc length, ends left out."""

    centre: Float[Tensor, "station 3"]  # um
    radius: Float[Tensor, " station"]  # um, of the disk with the slice's area
    length: float  # um, arc length of that part of the centre line

    @property
    def bend(self) -> float:
        """RMS distance of the centre line from its own best straight line (um)."""
        centred = self.centre - self.centre.mean(0)
        deviation = torch.linalg.svdvals(centred)[1:]
        return float((deviation.square().sum() / len(centred)).sqrt())

    def reversed(self) -> Profile:
        """The same cell from the other end."""
        return Profile(self.centre.flip(0), self.radius.flip(0), self.length)


def profile(mesh: TetMesh) -> Profile:
    """Centre line and equivalent radius of an elongated cell, from its first Neumann mode.

    The level sets of the lowest non-constant eigenfunction cut a tube crosswise however it is
    bent, on any mesh. With v the fraction of the volume on one side of a cut, the centre line x(v)
    is the least-squares Legendre series of position, and the cut's area is V / |dx/dv|. The outer
    `TRIM` of the volume at either end, where cuts are no cross-sections, is left out. One shape on
    a 1,037-point and a finer mesh differs by 0.01 um RMS in radius. Means nothing for a cell about
    as wide as long, whose first mode may run across.
    """
    mode, weight, position = _samples(mesh)
    order = np.argsort(mode, kind="stable")
    weight, position = weight[order], position[order]
    total = weight.sum()
    v = (np.cumsum(weight) - weight / 2) / total
    values = legendre.legvander(2 * v - 1, DEGREE)
    normal = values.T @ (weight[:, None] * values)
    line = np.linalg.solve(normal, values.T @ (weight[:, None] * position))
    fine = np.linspace(2 * TRIM - 1, 1 - 2 * TRIM, 40 * STATIONS + 1)
    speed = np.linalg.norm(legendre.legval(fine, legendre.legder(line)), axis=0)  # ds per 2 dv
    arc = np.concatenate([[0.0], np.cumsum((speed[1:] + speed[:-1]) / 2 * np.diff(fine))])
    station = np.interp((np.arange(STATIONS) + 0.5) / STATIONS * arc[-1], arc, fine)
    area = total / (2 * np.interp(station, fine, speed))
    return Profile(
        torch.from_numpy(legendre.legval(station, line).T.copy()),
        torch.from_numpy(np.sqrt(area / np.pi)),
        float(arc[-1]),
    )


def _samples(mesh: TetMesh) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First mode, volume and position at a lattice of interior points of every tet."""
    phi = spectral_basis(mesh, 2).modes[:, 1]
    n = LATTICE
    lattice = [
        (i + 0.25, j + 0.25, k + 0.25)
        for i in range(n)
        for j in range(n - i)
        for k in range(n - i - j)
    ]
    xi = torch.tensor(lattice, dtype=torch.float64) / n
    shape, gradient = shape_gradients(xi, mesh.tets.shape[1])
    corner = mesh.points[mesh.tets]
    jacobian = torch.einsum("tna,snb->tsab", corner, gradient)
    weight = torch.linalg.det(jacobian) / (6 * len(xi))
    position = torch.einsum("tna,sn->tsa", corner, shape)
    mode = phi[mesh.tets] @ shape.T
    return mode.flatten().numpy(), weight.flatten().numpy(), position.reshape(-1, 3).numpy()


def volume(mesh: TetMesh) -> float:
    """Volume (um^3), curved elements included."""
    return float(point_matrices(mesh)[1].sum())


def shape_errors(shape: TetMesh, truth: TetMesh) -> dict[str, float]:
    """Errors modulo translation, rotation and point reflection.

    `radius` RMS over the length (um), `centre_line` RMS after the best rigid motion or reflection
    (um), `bend` difference of the centre lines' RMS deviation from straight (um), `length` (um),
    `volume` (relative), `modified_chamfer` (um).
    """
    a, b = profile(shape), profile(truth)
    both_ways = [
        (
            float((p.radius - b.radius).square().mean().sqrt()),
            _aligned_distance(p.centre, b.centre),
        )
        for p in (a, a.reversed())
    ]
    # One reading direction for both: the one with the smaller error in total.
    radius, centre_line = min(both_ways, key=sum)
    return {
        "radius": radius,
        "centre_line": centre_line,
        "bend": abs(a.bend - b.bend),
        "length": abs(a.length - b.length),
        "volume": abs(volume(shape) / volume(truth) - 1),
        "modified_chamfer": modified_chamfer_distance(shape, truth),
    }


def _aligned_distance(a: Tensor, b: Tensor) -> float:
    """RMS distance after the best orthogonal map and translation (Kabsch, reflections allowed)."""
    a, b = a - a.mean(0), b - b.mean(0)
    singular = torch.linalg.svdvals(a.T @ b).sum()
    square = (a.square().sum() + b.square().sum() - 2 * singular) / len(a)
    return float(square.clamp_min(0).sqrt())


def compare_with_mean_shape(shape: TetMesh, truth: TetMesh, model: ShapeModel) -> dict[str, float]:
    """`shape_errors` of the shape, the mean training shape and the template, and the gains.

    Keys: `radius_error`, `radius_error_mean_shape`, `radius_error_template`, and `radius_gain`, the
    factor by which the shape beats the mean training shape; likewise for the other errors.
    """
    template = model.basis.template
    errors = shape_errors(shape, truth)
    mean = shape_errors(template.with_points(model.mean_points), truth)
    undeformed = shape_errors(template, truth)
    result = {}
    for name, error in errors.items():
        result[f"{name}_error"] = error
        result[f"{name}_error_mean_shape"] = mean[name]
        result[f"{name}_error_template"] = undeformed[name]
        result[f"{name}_gain"] = mean[name] / max(error, 1e-12)
    return result
