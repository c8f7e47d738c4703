"""Operators of a periodic cell: the phase of the gradient is taken out of the magnetisation.

With q(t) = gamma int g dt and m = exp(-i q.x) w, w is periodic where m is not, and

    M w' = -(S + Q + R + i sum_a q_a C_a + sum_ab q_a q_b N_ab) w,
    C_a[i,j] = int rho (phi_i (D grad phi_j)_a - (D grad phi_i)_a phi_j),
    N_ab[i,j] = int rho D_ab phi_i phi_j.

A membrane sees the same phase on both of its sides, so that Q is what it was. C is antisymmetric.
"""

from __future__ import annotations

from dataclasses import dataclass

import scipy.sparse as sp
import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.fem.assembly import Matrices, Patterns, cell_matrices, check_tissue, summed
from spinmesh.fem.elements import quadrature
from spinmesh.fem.space import function_space
from spinmesh.mesh import TetMesh, check_quality
from spinmesh.tissue import Tissue

# Pairs of axes of the symmetric N, and how often each stands in the sum.
PAIRS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
TWICE = (1.0, 1.0, 1.0, 2.0, 2.0, 2.0)


@dataclass(frozen=True, eq=False)
class PeriodicMatrices:
    """Sparse matrices over the unknowns of a periodic cell."""

    matrices: Matrices  # its moments mean nothing here
    drift: tuple[sp.csr_matrix, ...]  # C of x, y and z, um^4/ms
    spread: tuple[sp.csr_matrix, ...]  # N of PAIRS, um^5/ms

    @property
    def operators(self) -> tuple[sp.csr_matrix, ...]:
        """S + Q + R, then C, then N."""
        return (self.matrices.decay, *self.drift, *self.spread)


def assemble_periodic(mesh: TetMesh, tissue: Tissue) -> PeriodicMatrices:
    """Matrices of a mesh with periods. Raises MeshError or ConfigError as `assemble`."""
    check_quality(mesh)
    space = function_space(mesh)
    check_tissue(mesh, space, tissue)
    with torch.no_grad():
        cells = cell_matrices(mesh, space, tissue)
        row = torch.searchsorted(torch.tensor(tissue.labels), mesh.compartment)
        diffusivity = tissue.diffusivity[row]
        forward = _forward(mesh.points[mesh.tets], tissue.density[row, None, None] * diffusivity)
        filled = Patterns.of(space).tets.filled
        drift = (forward - forward.mT).unbind(1)
        spread = (diffusivity[:, a, b, None, None] * cells.mass for a, b in PAIRS)
        return PeriodicMatrices(
            summed(space, cells), tuple(map(filled, drift)), tuple(map(filled, spread))
        )


def _forward(
    points: Float[Tensor, "tet node 3"], diffusivity: Float[Tensor, "tet 3 3"]
) -> Float[Tensor, "tet 3 node node"]:
    """int phi_i (D grad phi_j)_a of each tet (um^4/ms)."""
    weight, value, reference = (x.to(points) for x in quadrature(points.shape[1]))
    jacobian = torch.einsum("tna,snb->tsab", points, reference)
    volume = weight * torch.linalg.det(jacobian)
    slope = torch.einsum("snb,tsba->tsna", reference, torch.linalg.inv(jacobian))
    flow = slope @ diffusivity[:, None].mT
    return torch.einsum("ts,si,tsja->taij", volume, value, flow)
