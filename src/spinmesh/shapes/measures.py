"""Sizes and errors of shapes in what the signal can see."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from jaxtyping import Float
from numpy.polynomial import legendre
from scipy.integrate import cumulative_trapezoid
from torch import Tensor

from spinmesh.mesh import Substrates, TetMesh, shape_functions
from spinmesh.shapes.align import aligned_chamfer_distance, motion_onto
from spinmesh.shapes.basis import spectral_basis, volume
from spinmesh.shapes.models import ShapeModel

STATIONS = 24
# Barycentric lattice 1/n inside each tet where the longitudinal coordinate is sampled.
LATTICE = 4
# Legendre degree of the centre line in the volume fraction: resolves about three beads.
DEGREE = 12
# Fraction of the volume at either end outside the profile.
TRIM = 0.1


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
    `TRIM` of the volume at either end, where cuts are no cross-sections, is left out. Means nothing
    for a cell about as wide as long, whose first mode may run across.
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
    arc = cumulative_trapezoid(speed, fine, initial=0)
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
    lattice = [place for place in product(range(LATTICE), repeat=3) if sum(place) < LATTICE]
    xi = (torch.tensor(lattice, dtype=torch.float64) + 0.25) / LATTICE
    shape, gradient = shape_functions(xi, mesh.tets.shape[1])
    corner = mesh.points[mesh.tets]
    jacobian = torch.einsum("tna,snb->tsab", corner, gradient)
    weight = torch.linalg.det(jacobian) / (6 * len(xi))
    position = torch.einsum("tna,sn->tsa", corner, shape)
    mode = phi[mesh.tets] @ shape.T
    return mode.flatten().numpy(), weight.flatten().numpy(), position.reshape(-1, 3).numpy()


def shape_errors(shape: TetMesh, truth: TetMesh) -> dict[str, float]:
    """Errors modulo translation, rotation and point reflection.

    `radius` RMS over the length (um), `centre_line` RMS after the best rigid motion or reflection
    (um), `bend` difference of the centre lines' RMS deviation from straight (um), `length` (um),
    `volume` (relative), `chamfer` the aligned Chamfer distance of the vertices (um).
    """
    a, b = profile(shape), profile(truth)
    both_ways = [
        (float((p.radius - b.radius).square().mean().sqrt()), _aligned_rms(p.centre, b.centre))
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
        "chamfer": aligned_chamfer_distance(shape, truth),
    }


def _aligned_rms(a: Float[Tensor, "station 3"], b: Float[Tensor, "station 3"]) -> float:
    """RMS distance of corresponding points after the best motion or reflection."""
    moved = motion_onto(a.numpy(), b.numpy())(a.numpy())
    return float(np.sqrt(np.square(moved - b.numpy()).sum(1).mean()))


def errors_beside_mean_shape(
    shape: TetMesh, model: ShapeModel, truth: Substrates | None
) -> dict[str, tuple[float, float]]:
    """Radius and bend error (um) of a shape and of the mean training shape.

    `truth` is a table of one shape; without it there are no errors.
    """
    if truth is None:
        return {}
    mean_shape = model.basis.template.with_points(model.mean_points)
    errors, of_mean = (shape_errors(mesh, truth.mesh(0)) for mesh in (shape, mean_shape))
    return {name: (errors[name], of_mean[name]) for name in ("radius", "bend")}
