"""How far a mesh's signals are from those of the smooth body it stands for.

Two parts, both added to the reduced operators (docs/decisions/0004 has the figures):

The elements. Galerkin's method makes every decay rate too large, by the energy of the functions'
error: lambda_h - lambda = |grad(u - u_h)|^2 to leading order. Averaged over the tets around each
node, the gradient of u_h is closer to that of u than its own (Zienkiewicz & Zhu 1987), so the
difference of the two stands for the error, and subtracting its energy improves the rates (Naga,
Zhang & Zhou 2006).

The wall. Facets leave out a layer of the body (`facets`).
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

from spinmesh.bloch_torrey.error_estimate import Answers, largest_change, representatives
from spinmesh.bloch_torrey.facets import with_hidden_layer
from spinmesh.errors import ReductionError
from spinmesh.mesh import TET_EDGES, TetMesh
from spinmesh.mesh.tetmesh import shape_gradients
from spinmesh.reduction import ReducedModel, Span
from spinmesh.sequence import Acquisition
from spinmesh.tissue import Tissue

# Measurements that are looked at: the estimate is to cost a small part of the simulation.
FEW = 8
# Tets whose energy is looked at; of more, so many at random.
SAMPLE = 400
# Degree of the quadrature by nodes: twice that of the gradients, with positive weights.
DEGREE = {4: 2, 10: 5}
# Part of the largest rate added to keep the constant's zero rate invertible.
REGULAR = 1e-12


def discretisation_error(
    span: Span, reduced: ReducedModel, tissue: Tissue, acquisition: Acquisition
) -> float:
    """Estimated error of the attenuations that the elements' size and the wall's facets cause.

    Largest over a few measurements; `reduced` are the operators on `span`. Infinite if the wall is
    too rough for an estimate. Membranes' facets are not in it. Not differentiable.
    """
    with torch.no_grad():
        defect = torch.from_numpy(recovered_defect(span, tissue)).to(reduced.laplacian)
        rates = reduced.laplacian
        # L (L + E)^-1 L = L - E to first order, and never negative.
        unit = torch.eye(len(rates), dtype=rates.dtype)
        shifted = rates + defect + REGULAR * rates.diagonal().max() * unit
        finer = replace(reduced, laplacian=rates @ torch.linalg.solve(shifted, rates))
        try:
            smooth = with_hidden_layer(span, finer, tissue)
        except ReductionError:
            return float("inf")
        few = representatives(acquisition)
        some = few.select(torch.arange(0, len(few), -(-len(few) // FEW)))
        return largest_change(Answers.of(reduced, some), Answers.of(smooth, some))


def recovered_defect(span: Span, tissue: Tissue) -> Float[ndarray, "mode mode"]:
    """int rho (G v_i - grad v_i) . D (G v_j - grad v_j), G v the averaged gradient (1/ms)."""
    mesh, dofs, vectors = span.mesh, span.space.tet_dofs.numpy(), span.vectors.numpy()
    count, nodes = dofs.shape
    chosen = _chosen(count)
    used, local = np.unique(dofs[chosen], return_inverse=True)
    recovered = np.stack([average @ vectors for average in _averages(mesh, dofs, used)], 1)
    xi, weight = get_quadrature(MeshTet.elem, DEGREE[nodes])
    samples, pick = torch.from_numpy(xi.T.copy()), torch.from_numpy(chosen)
    gradient, determinant = _gradients(mesh.points.detach()[mesh.tets[pick]], samples)
    value = shape_gradients(samples, nodes)[0].numpy()
    own = np.einsum("tsna,tnk->tsak", gradient, vectors[dofs[chosen]], optimize=True)
    averaged = np.einsum("sn,tnak->tsak", value, recovered[local.reshape(-1, nodes)], optimize=True)
    row = torch.searchsorted(torch.tensor(tissue.labels), mesh.compartment[pick])
    # With D = C C', the energy is the square of C' times the difference.
    root = torch.linalg.cholesky(tissue.diffusivity.detach()).mT[row].numpy()
    density = tissue.density.detach()[row].numpy() * count / len(chosen)
    part = np.sqrt(determinant * weight * density[:, None])[:, :, None, None]
    flat = (part * (root[:, None] @ (averaged - own))).reshape(-1, vectors.shape[1])
    return np.asarray(flat.T @ flat)


def _chosen(count: int) -> Int[ndarray, " chosen"]:
    """All tets, or SAMPLE of them at random."""
    if count <= SAMPLE:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, SAMPLE, replace=False))


def _averages(
    mesh: TetMesh, dofs: Int[ndarray, "tet node"], used: Int[ndarray, " used"]
) -> tuple[sp.csr_matrix, ...]:
    """x, y and z of the gradient at the dofs `used`: the tets' own, weighted by their volumes."""
    place = np.full(dofs.max() + 1, -1)
    place[used] = np.arange(len(used))
    around = np.flatnonzero((place[dofs] >= 0).any(1))
    corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)
    xi = torch.cat([corners, corners[torch.tensor(TET_EDGES)].mean(1)])[: dofs.shape[1]]
    points = mesh.points.detach()[mesh.tets[torch.from_numpy(around)]]
    gradient, determinant = _gradients(points, xi)
    rows = place[dofs[around]]
    volume = np.broadcast_to(determinant.mean(1)[:, None], rows.shape)
    total = np.bincount(rows[rows >= 0], volume[rows >= 0], len(used))
    share = (volume / total[rows])[:, :, None]
    columns = np.broadcast_to(dofs[around][:, None, :], gradient.shape[:3])
    rows = np.broadcast_to(rows[:, :, None], gradient.shape[:3])
    kept = rows >= 0
    where = (rows[kept], columns[kept])
    shape = (len(used), len(place))
    return tuple(
        sp.csr_matrix(((share * gradient[..., axis])[kept], where), shape) for axis in range(3)
    )


def _gradients(
    points: Float[Tensor, "tet node 3"], xi: Float[Tensor, "sample 3"]
) -> tuple[Float[ndarray, "tet sample node 3"], Float[ndarray, "tet sample"]]:
    """Gradients of the shape functions at reference points, and the map's determinant there."""
    _, reference = shape_gradients(xi, points.shape[1])
    jacobian = torch.einsum("tna,snb->tsab", points, reference)
    gradient = torch.einsum("snb,tsba->tsna", reference, torch.linalg.inv(jacobian))
    return gradient.numpy(), torch.linalg.det(jacobian).numpy()
