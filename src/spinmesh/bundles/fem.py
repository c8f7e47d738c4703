"""Finite elements on a periodic plane, in the form that a uniform phase gradient leaves periodic.

With q(t) = gamma int g dt and m = exp(-i q.x) w, the Bloch-Torrey equation with reflecting walls
is w' = D (grad - i q)^2 w with n.(grad - i q) w = 0, and w is periodic where m is not. Weakly:

    M w' = -(S + i q.C + D q^2 M) w,   C_a[i,j] = D int (phi_i d_a phi_j - d_a phi_i phi_j) dx.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float
from numpy import ndarray
from skfem import MeshTri
from skfem.quadrature import get_quadrature

from spinmesh.bundles.mesh import PeriodicPlane
from spinmesh.errors import MeshError
from spinmesh.fem import Pattern
from spinmesh.mesh import shape_functions

# Polynomial degree integrated exactly: that of the mass of straight triangles.
DEGREE = 4


@dataclass(frozen=True, eq=False)
class PlaneMatrices:
    """Sparse matrices over the nodes of a plane; the drift is antisymmetric, the others not."""

    mass: sp.csr_matrix  # um^2
    stiffness: sp.csr_matrix  # um^2/ms
    drift: tuple[sp.csr_matrix, sp.csr_matrix]  # um^3/ms, times q (1/um)
    diffusivity: float  # um^2/ms

    def operator(self, q: Float[ndarray, " 2"], shift: float) -> sp.csc_matrix:
        """S + i q.C + (D q^2 + shift) M, Hermitian and positive for a shift (1/ms) > 0."""
        scale = self.diffusivity * float(q @ q) + shift
        phase = q[0] * self.drift[0] + q[1] * self.drift[1]
        return (self.stiffness + 1j * phase + scale * self.mass).tocsc()


def assemble_plane(plane: PeriodicPlane, diffusivity: float) -> PlaneMatrices:
    """Matrices of six-node triangles by quadrature; MeshError if one is folded."""
    xi, weights = get_quadrature(MeshTri.elem, DEGREE)
    value, gradient = (x.numpy() for x in shape_functions(torch.from_numpy(xi.T.copy()), 6))
    jacobian = np.einsum("tna,qnb->tqab", plane.points, gradient, optimize=True)
    determinant = np.linalg.det(jacobian)
    determinant = determinant * np.sign(determinant[:, :1])
    if not (determinant > 0).all():
        first = int((~(determinant > 0)).any(1).argmax())
        raise MeshError(
            f"plane: triangle {first} is folded or flat. Lower the mesh size or widen the gap "
            "between disks."
        )
    slope = np.einsum("qnb,tqba->tqna", gradient, np.linalg.inv(jacobian), optimize=True)
    weight = determinant * weights
    weighted = weight[..., None, None] * slope
    mass = np.einsum("tq,qi,qj->tij", weight, value, value, optimize=True)
    stiffness = np.einsum("tqia,tqja->tij", weighted, slope, optimize=True)
    forward = np.einsum("qi,tqja->atij", value, weighted, optimize=True)
    drift = diffusivity * (forward - forward.swapaxes(2, 3))
    pattern = Pattern.of(plane.nodes, int(plane.nodes.max()) + 1)
    matrices = [
        pattern.filled(torch.from_numpy(x)) for x in (mass, diffusivity * stiffness, *drift)
    ]
    return PlaneMatrices(matrices[0], matrices[1], (matrices[2], matrices[3]), diffusivity)
