"""How far a mesh's finite elements are from the equation they stand for, in units of the signal.

Galerkin's method makes every decay rate too large, by the energy of the functions' error: lambda_h -
lambda = |grad(u - u_h)|^2 to leading order. Averaged over the tets around each node, the gradient
of u_h is closer to that of u than its own (Zienkiewicz & Zhu 1987), so the difference of the two
stands for the error, and subtracting its energy from the reduced operator improves the rates (Naga,
Zhang & Zhou 2006). The signals move by about what the mesh leaves out; docs/decisions/0004 has the
figures. How well the mesh follows the body it stands for, nobody can tell from the mesh.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from skfem import MeshTet
from skfem.quadrature import get_quadrature
from torch import Tensor

from spinmesh.bloch_torrey.error_estimate import largest_change, representatives
from spinmesh.bloch_torrey.facets import with_hidden_layer
from spinmesh.mesh import TET_EDGES, TetMesh
from spinmesh.mesh.tetmesh import shape_gradients
from spinmesh.reduction import ReducedModel, Span
from spinmesh.sequence import Acquisition
from spinmesh.tissue import Tissue

# Tets whose energy is looked at; more are sampled. The energy's own scatter is then a few per cent.
SAMPLE = 400
# Recovered and own gradient are polynomials of the elements' degree; their squares of twice that.
DEGREE = {4: 2, 10: 5}
# Part of the largest rate added to keep the constant's zero rate invertible.
REGULAR = 1e-12


def discretisation_error(
    span: Span, reduced: ReducedModel, tissue: Tissue, acquisition: Acquisition
) -> float:
    """Estimated error (fraction of the unweighted signal) that the elements' size causes.

    Largest over representative measurements; not differentiable. It is about the equation on the
    mesh's own geometry. `reduced` are the operators on `span`.
    """
    with torch.no_grad():
        defect = torch.from_numpy(recovered_defect(span, tissue)).to(reduced.laplacian)
        rates = reduced.laplacian
        # L (L + E)^-1 L = L - E to first order, and never negative.
        unit = torch.eye(len(rates), dtype=rates.dtype)
        shifted = rates + defect + REGULAR * rates.diagonal().max() * unit
        finer = replace(reduced, laplacian=rates @ torch.linalg.solve(shifted, rates))
        finer = with_hidden_layer(span, finer, tissue)
        return largest_change(reduced, finer, representatives(acquisition))


def recovered_defect(span: Span, tissue: Tissue) -> Float[ndarray, "mode mode"]:
    """int rho (G v_i - grad v_i) . D (G v_j - grad v_j), G v the averaged gradient (um^3/ms)."""
    mesh, dofs = span.mesh, span.space.tet_dofs.numpy()
    chosen = _chosen(len(dofs))
    used, local = np.unique(dofs[chosen], return_inverse=True)
    recovered = np.stack([r @ span.vectors.numpy() for r in _averaging(mesh, dofs, used)], 1)
    points = mesh.points.detach()[mesh.tets[torch.from_numpy(chosen)]]
    xi, weight = get_quadrature(MeshTet.elem, DEGREE[dofs.shape[1]])
    samples = torch.from_numpy(xi.T.copy())
    value = shape_gradients(samples, dofs.shape[1])[0].numpy()
    gradient, determinant = _gradients(points, samples)
    own = np.einsum("tsna,tnk->tsak", gradient, span.vectors.numpy()[dofs[chosen]])
    averaged = np.einsum("sn,tnak->tsak", value, recovered[local.reshape(-1, dofs.shape[1])])
    row = torch.searchsorted(torch.tensor(tissue.labels), mesh.compartment[torch.from_numpy(chosen)])
    root = torch.linalg.cholesky(tissue.diffusivity.detach()).mT[row].numpy()
    density = tissue.density.detach()[row].numpy()
    part = np.sqrt(determinant * weight * density[:, None] * len(dofs) / len(chosen))
    energy = part[:, :, None, None] * (root[:, None] @ (averaged - own))
    flat = energy.reshape(-1, energy.shape[-1])
    return np.asarray(flat.T @ flat)


def _chosen(count: int) -> Int[ndarray, " chosen"]:
    """All tets, or SAMPLE of them at random."""
    if count <= SAMPLE:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, SAMPLE, replace=False))


def _averaging(
    mesh: TetMesh, dofs: Int[ndarray, "tet node"], used: Int[ndarray, " used"]
) -> tuple[sp.csr_matrix, ...]:
    """x, y and z of the gradient at the dofs `used`: the tets' own, weighted by their volumes."""
    place = np.full(dofs.max() + 1, -1)
    place[used] = np.arange(len(used))
    around = np.flatnonzero((place[dofs] >= 0).any(1))
    nodes = dofs.shape[1]
    corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]).double()
    ends = torch.tensor(TET_EDGES)
    middles = corners[ends].mean(1)
    xi = corners if nodes == 4 else torch.cat([corners, middles])
    points = mesh.points.detach()[mesh.tets[torch.from_numpy(around)]]
    gradient, determinant = _gradients(points, xi)
    rows = np.repeat(place[dofs[around]][:, :, None], nodes, 2)
    columns = np.repeat(dofs[around][:, None, :], nodes, 1)
    weight = np.repeat(determinant.mean(1)[:, None], nodes, 1)
    total = np.bincount(rows[:, :, 0][rows[:, :, 0] >= 0], weight[rows[:, :, 0] >= 0], len(used))
    kept = rows >= 0
    share = weight[:, :, None] / total[rows]
    shape = (len(used), dofs.max() + 1)
    return tuple(
        sp.csr_matrix(((share * gradient[..., axis])[kept], (rows[kept], columns[kept])), shape)
        for axis in range(3)
    )


def _gradients(
    points: Float[Tensor, "tet node 3"], xi: Float[Tensor, "sample 3"]
) -> tuple[Float[ndarray, "tet sample node 3"], Float[ndarray, "tet sample"]]:
    """Gradients of the shape functions at reference points, and the map's determinant there."""
    _, reference = shape_gradients(xi, points.shape[1])
    jacobian = torch.einsum("tna,snb->tsab", points, reference)
    gradient = torch.einsum("snb,tsba->tsna", reference, torch.linalg.inv(jacobian))
    return gradient.numpy(), torch.linalg.det(jacobian).numpy()
