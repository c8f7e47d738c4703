"""Shapes as coefficients of polynomials and of the template's Laplacian eigenfunctions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.errors import MeshError, ReductionError
from spinmesh.fem import element_matrices
from spinmesh.fem.assembly import Pattern
from spinmesh.mesh import TetMesh
from spinmesh.reduction import lowest_modes, orthonormal
from spinmesh.stored import quantity

# A function of which less than this part is left beside the earlier ones adds nothing.
DEPENDENT = 1e-6


@dataclass(frozen=True, eq=False)
class SpectralBasis:
    """M-orthonormal functions on the template; without polynomials, S phi = lambda M phi ascending.

    `eigenvalues` are Rayleigh quotients (unit diffusivity, no flux through the wall). Compartments
    share their points, so a shape stays in one piece. What is expanded is the displacement from the
    template: the template's own coordinates violate the modes' zero normal slope everywhere on the
    wall, the displacements mostly at the two ends (measured: docs/decisions/0007).
    """

    template: TetMesh
    eigenvalues: Float[Tensor, " mode"] = quantity("1/um^2")
    modes: Float[Tensor, "point mode"] = quantity("um^(-3/2)")
    dual: Float[Tensor, "point mode"] = quantity("um^(3/2)")  # M Phi: the rows that encode

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


def spectral_basis(
    template: TetMesh, count: int | None = None, degree: int | None = None
) -> SpectralBasis:
    """The `count` lowest modes (all if None); the largest entry of each mode is positive.

    With `degree`, the polynomials up to it take the first places and the modes, made orthogonal to
    them, the rest. A bent or scaled shape's displacement is nearly a polynomial, and modes, which
    have no slope at the ends, approach it slowly (docs/decisions/0007).

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
    low, high = template.bounding_box
    # About the first eigenvalue that is not zero.
    shift = float((torch.pi / (high - low).max()) ** 2)
    values, modes = lowest_modes(stiffness, mass, count, shift)
    if values[0] < -1e-8 * max(values[-1], 1.0):
        raise ReductionError(
            f"{template.name}: eigenvalue {values[0]:.3g} 1/um^2 is negative. Check the template."
        )
    if degree is not None:
        functions = np.concatenate([_polynomials(template, degree), modes], 1)
        modes = np.empty((size, 0))
        for function in functions.T[..., None]:  # Gram and Schmidt
            if modes.shape[1] < count:
                added = orthonormal(function, modes, mass, DEPENDENT)
                modes = np.concatenate([modes, added], 1)
        values = np.einsum("pm,pm->m", modes, stiffness @ modes)
    pivot = np.abs(modes).argmax(0)
    modes = modes * np.sign(modes[pivot, np.arange(count)])
    return SpectralBasis(
        template,
        torch.from_numpy(values),
        torch.from_numpy(np.ascontiguousarray(modes)),
        torch.from_numpy(np.ascontiguousarray(mass @ modes)),
    )


def _polynomials(template: TetMesh, degree: int) -> Float[np.ndarray, "point function"]:
    """Products of powers of the coordinates, scaled to -1..1, lowest degree first."""
    low, high = (corner.numpy() for corner in template.bounding_box)
    x, y, z = ((2 * template.points.numpy() - low - high) / (high - low)).T
    powers = [
        (total - i - j, i, j)
        for total in range(degree + 1)
        for i in range(total + 1)
        for j in range(total - i + 1)
    ]
    return np.stack([x**i * y**j * z**k for i, j, k in powers], 1)


def point_matrices(mesh: TetMesh) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Stiffness (unit diffusivity, um) and mass (um^3) of the points, continuous over membranes."""
    unit = torch.eye(3, dtype=mesh.points.dtype).expand(len(mesh.tets), 3, 3)
    mass, stiffness, _ = element_matrices(mesh.points[mesh.tets], unit)
    pattern = Pattern.of(mesh.tets.numpy(), len(mesh.points))
    return pattern.filled(stiffness), pattern.filled(mass)


def volume(mesh: TetMesh) -> float:
    """Volume (um^3), curved elements included."""
    return float(point_matrices(mesh)[1].sum())
