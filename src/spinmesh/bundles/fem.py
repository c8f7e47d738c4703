"""Finite elements on a periodic plane, in the form that a uniform phase gradient leaves periodic.

With q(t) = gamma int g dt and m = exp(-i q.x) w, the Bloch-Torrey equation with reflecting walls
is w' = D (grad - i q)^2 w with n.(grad - i q) w = 0, and w is periodic where m is not. Weakly:

    M w' = -(S + i q.C + D q^2 M) w,   C_a[i,j] = D int (phi_i d_a phi_j - d_a phi_i phi_j) dx.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float
from numpy import ndarray

from spinmesh.bundles.mesh import PeriodicPlane, triangle_shapes
from spinmesh.errors import MeshError

# Dunavant's six-point rule on the triangle, exact for degree 4: the mass of straight triangles.
_A, _B = 0.445948490915965, 0.091576213509771
_NODES = np.array(
    [[_A, _A], [1 - 2 * _A, _A], [_A, 1 - 2 * _A], [_B, _B], [1 - 2 * _B, _B], [_B, 1 - 2 * _B]]
)
_WEIGHTS = np.repeat([0.223381589678011 / 2, 0.109951743655322 / 2], 3)


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
    value, gradient = triangle_shapes(_NODES)
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
    weight = determinant * _WEIGHTS
    weighted = weight[..., None, None] * slope
    mass = np.einsum("tq,qi,qj->tij", weight, value, value, optimize=True)
    stiffness = np.einsum("tqia,tqja->tij", weighted, slope, optimize=True)
    forward = np.einsum("qi,tqja->atij", value, weighted, optimize=True)
    x, y = diffusivity * (forward - forward.swapaxes(2, 3))
    add = _adder(plane.nodes)
    return PlaneMatrices(add(mass), add(diffusivity * stiffness), (add(x), add(y)), diffusivity)


def _adder(nodes: ndarray):
    """Sums element matrices (triangle, 6, 6) into a sparse one."""
    size, count = nodes.shape[1], int(nodes.max()) + 1
    row, column = np.repeat(nodes, size, 1).ravel(), np.tile(nodes, (1, size)).ravel()

    def add(blocks: ndarray) -> sp.csr_matrix:
        return sp.csr_matrix((blocks.ravel(), (row, column)), shape=(count, count))

    return add
