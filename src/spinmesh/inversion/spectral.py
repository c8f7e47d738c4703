"""Shapes as coefficients of the template's mass-weighted Laplacian eigenfunctions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.linalg import eigh
from scipy.sparse import coo_array, csc_array
from scipy.sparse.linalg import eigsh
from torch import Tensor

from spinmesh.errors import MeshError, ReductionError
from spinmesh.fem.elements import element_matrices
from spinmesh.mesh import TetMesh

# Below this many points, or for more than this fraction of all modes, dense eigh is faster than
# shift-invert Lanczos and returns every mode.
DENSE_POINTS = 600
DENSE_FRACTION = 0.25
# A mode of which less than this part is left beside the polynomials adds nothing.
DEPENDENT = 1e-6


@dataclass(frozen=True, eq=False)
class SpectralBasis:
    """Eigenfunctions S phi = lambda M phi of the template, ascending, M-orthonormal.

    Lambda in 1/um^2 (unit diffusivity, no flux through the wall); `modes` in um^(-3/2).
    Compartments share their points, so a shape stays in one piece. What is expanded is the
    displacement from the template: the template's own coordinates violate the modes' zero normal
    slope everywhere on the wall, the displacements mostly at the two ends. Measured
    (volume-weighted RMS error in um, 60 bent, beaded and fanned shapes, 1,525 points): with 16, 64
    and 256 modes 0.075, 0.047 and 0.022 for displacements, 0.170, 0.131 and 0.061 for coordinates.
    Polynomials may come first (`spectral_basis`): they take up the slopes at the ends, and
    `eigenvalues` are then Rayleigh quotients.
    """

    template: TetMesh
    eigenvalues: Float[Tensor, " mode"]
    modes: Float[Tensor, "point mode"]
    dual: Float[Tensor, "point mode"]  # M Phi, um^(3/2): the rows that encode

    def encode(self, points: Float[Tensor, "*batch point 3"]) -> Float[Tensor, "*batch mode 3"]:
        """Coefficients Phi' M (P - P0) in um^(5/2); linear, so differentiable in the points."""
        if points.shape[-2:] != self.template.points.shape:
            raise MeshError(
                f"{self.template.name}: points of shape {tuple(points.shape)} are not on this "
                f"template of {len(self.template.points)} points. Deform the template itself."
            )
        return torch.einsum("pm,...pa->...ma", self.dual, points - self.template.points)

    def decode(self, coefficients: Float[Tensor, "*batch mode 3"]) -> Tensor:
        """Points P0 + Phi C (um) from the leading coefficients, as many as are given."""
        used = self.modes[:, : coefficients.shape[-2]]
        return self.template.points + torch.einsum("pm,...ma->...pa", used, coefficients)

    def reconstruction_error(
        self, points: Float[Tensor, "substrate point 3"]
    ) -> Float[Tensor, " mode"]:
        """Root mean square error (um), volume-weighted, left by the leading 1, 2, ... modes."""
        displacement = points - self.template.points
        energy = self.encode(points).square().sum(-1).mean(0).cumsum(0)
        mass = point_matrices(self.template)[1]
        flat = displacement.transpose(0, 1).reshape(len(self.modes), -1).numpy()
        total = float((flat * (mass @ flat)).sum()) / len(points)
        return ((total - energy).clamp_min(0) / float(mass.sum())).sqrt()


def spectral_basis(
    template: TetMesh, count: int | None = None, degree: int | None = None
) -> SpectralBasis:
    """The `count` lowest modes (all if None); the largest entry of each mode is positive.

    With `degree`, the polynomials up to it take the first places and the modes, made orthogonal to
    them, the rest. A bent or scaled shape's displacement is nearly a polynomial, and modes, which
    have no slope at the ends, approach it slowly: 300 functions left 0.076 um RMS of bent
    and twisted shapes without polynomials, 0.006 um with those of degree 3 (docs/decisions/0007).

    Raises ReductionError if the template has fewer points than `count`, or an eigenvalue is
    negative beyond rounding.
    """
    size = len(template.points)
    count = size if count is None else count
    if not 1 <= count <= size:
        raise ReductionError(
            f"{template.name}: {count} modes asked of {size} points. Lower the count of modes."
        )
    stiffness, mass = point_matrices(template)
    if size <= DENSE_POINTS or count > DENSE_FRACTION * size:
        values, modes = eigh(stiffness.toarray(), mass.toarray(), subset_by_index=(0, count - 1))
    else:
        # A shift below zero by about the first non-zero eigenvalue keeps S - sigma M definite.
        length = float((template.bounding_box[1] - template.bounding_box[0]).max())
        start = np.random.default_rng(0).standard_normal(size)
        values, modes = eigsh(
            stiffness, count, mass, sigma=-((np.pi / length) ** 2), which="LM", v0=start
        )
    order = np.argsort(values)
    values, modes = values[order], modes[:, order]
    if values[0] < -1e-8 * max(values[-1], 1.0):
        raise ReductionError(
            f"{template.name}: eigenvalue {values[0]:.3g} 1/um^2 is negative. Check the template."
        )
    if degree is not None:
        modes = _after_polynomials(template, degree, modes, mass)
        values = np.einsum("pm,pm->m", modes, stiffness @ modes)
    pivot = np.abs(modes).argmax(0)
    modes = modes * np.sign(modes[pivot, np.arange(count)])
    return SpectralBasis(
        template,
        torch.from_numpy(values),
        torch.from_numpy(np.ascontiguousarray(modes)),
        torch.from_numpy(np.ascontiguousarray(mass @ modes)),
    )


def _after_polynomials(
    template: TetMesh, degree: int, modes: np.ndarray, mass: csc_array
) -> np.ndarray:
    """Polynomials, then modes, M-orthonormal in that order; as many as there are modes."""
    low, high = (corner.numpy() for corner in template.bounding_box)
    x, y, z = ((2 * template.points.numpy() - low - high) / (high - low)).T
    powers = [
        (total - i - j, i, j)
        for total in range(degree + 1)
        for i in range(total + 1)
        for j in range(total - i + 1)
    ]
    polynomials = np.stack([x**i * y**j * z**k for i, j, k in powers], 1)
    kept = np.empty((len(modes), 0))
    for function in np.concatenate([polynomials, modes], 1).T:
        rest = function / np.sqrt(function @ (mass @ function))
        for _ in range(2):  # twice is enough (Kahan)
            rest = rest - kept @ (kept.T @ (mass @ rest))
        length = np.sqrt(rest @ (mass @ rest))
        if length > DEPENDENT:
            kept = np.column_stack([kept, rest / length])
        if kept.shape[1] == modes.shape[1]:
            break
    return kept


def point_matrices(mesh: TetMesh) -> tuple[csc_array, csc_array]:
    """Stiffness (unit diffusivity) and mass of the mesh's points, continuous over membranes."""
    unit = torch.eye(3, dtype=mesh.points.dtype).expand(len(mesh.tets), 3, 3)
    element = element_matrices(mesh.points[mesh.tets], unit)
    nodes = mesh.tets.shape[1]
    row = mesh.tets[:, :, None].expand(-1, -1, nodes).reshape(-1).numpy()
    column = mesh.tets[:, None, :].expand(-1, nodes, -1).reshape(-1).numpy()
    shape = (len(mesh.points),) * 2
    stiffness, mass = (
        coo_array((matrix.reshape(-1).numpy(), (row, column)), shape).tocsc()
        for matrix in (element.stiffness, element.mass)
    )
    return stiffness, mass
