"""Operators of a periodic cell: the phase of the gradient is taken out of the magnetisation.

With q(t) = gamma int g dt and m = exp(-i q.x) w, w is periodic where m is not, and

    M w' = -(S + Q + R + i sum_a q_a C_a + sum_k (q.D_k.q) N_k) w,
    C_a[i,j] = int rho (phi_i (D grad phi_j)_a - (D grad phi_i)_a phi_j),
    N_k[i,j] = int rho phi_i phi_j where the diffusivity is D_k.

A membrane sees the same phase on both of its sides, so that Q is what it was. C is antisymmetric.
"""

from __future__ import annotations

from dataclasses import dataclass

import scipy.sparse as sp
import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.fem.assembly import (
    CellMatrices,
    Matrices,
    Patterns,
    cell_matrices,
    check_tissue,
    summed,
)
from spinmesh.fem.elements import quadrature
from spinmesh.fem.space import Space, function_space
from spinmesh.mesh import TetMesh, check_quality
from spinmesh.tissue import Tissue

# Tets that are worked on at once.
TOGETHER = 2**15


@dataclass(frozen=True, eq=False)
class PeriodicMatrices:
    """Sparse matrices over the unknowns of a periodic cell."""

    matrices: Matrices  # its moments mean nothing here
    drift: tuple[sp.csr_matrix, ...]  # C of x, y and z, um^4/ms
    spread: tuple[sp.csr_matrix, ...]  # N of each diffusivity, um^3
    diffusivity: Float[Tensor, "kind 3 3"]  # um^2/ms

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
        diffusivity, kind = tissue.diffusivity[row].unique(dim=0, return_inverse=True)
        flow = tissue.density[row, None, None] * diffusivity[kind]
        # The element matrices are what takes most memory: each is let go as soon as it is summed.
        drift = cells.mass.new_empty(3, *cells.mass.shape)
        for some in torch.arange(len(kind)).split(TOGETHER):
            drift[:, some] = _drift(mesh.points[mesh.tets[some]], flow[some]).transpose(0, 1)
        filled, mass = Patterns.of(space).tets.filled, cells.mass
        drifts = tuple(map(filled, drift))
        del drift
        system = summed(space, cells)
        del cells
        spread = (mass * (kind == k)[:, None, None] for k in range(len(diffusivity)))
        return PeriodicMatrices(system, drifts, tuple(map(filled, spread)), diffusivity)


def periodic_cells(
    mesh: TetMesh, space: Space, tissue: Tissue
) -> tuple[CellMatrices, Float[Tensor, "tet kind node node"]]:
    """Matrices of each tet; second C of x, y and z, then N of each of the tissue's compartments.

    Differentiable in points and tissue.
    """
    cells = cell_matrices(mesh, space, tissue)
    row = torch.searchsorted(torch.tensor(tissue.labels), mesh.compartment)
    drift = _drift(
        mesh.points[mesh.tets], tissue.density[row, None, None] * tissue.diffusivity[row]
    )
    member = (row[:, None] == torch.arange(len(tissue.labels))).to(drift)
    return cells, torch.cat([drift, member[..., None, None] * cells.mass[:, None]], 1)


def _drift(
    points: Float[Tensor, "tet node 3"], diffusivity: Float[Tensor, "tet 3 3"]
) -> Float[Tensor, "tet 3 node node"]:
    """int (phi_i (D grad phi_j)_a - (D grad phi_i)_a phi_j) of each tet (um^4/ms)."""
    weight, value, reference = (x.to(points) for x in quadrature(points.shape[1]))
    jacobian = torch.einsum("tna,snb->tsab", points, reference)
    volume = weight * torch.linalg.det(jacobian)
    slope = torch.einsum("snb,tsba->tsna", reference, torch.linalg.inv(jacobian))
    flow = slope @ diffusivity[:, None].mT
    forward = torch.einsum("ts,si,tsja->taij", volume, value, flow)
    return forward - forward.mT
