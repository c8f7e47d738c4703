"""How far a mesh's signals are from those of the smooth body it stands for (decision 0004).

The elements: Galerkin's method makes every decay rate too large by the energy of the functions'
error. Gradients averaged over the tets around each node (Zienkiewicz & Zhu 1987) stand for the
exact ones, and the energy of their difference is subtracted (Naga, Zhang & Zhou 2006).

The wall: an edge of length l between faces of areas A/2 that meet at an angle theta hides a volume
theta A^2 / (12 l) of the smooth wall if they are flat, theta A^2 / (60 l) if they are curved
(quadratic): exact to leading order for circles. Edges sharper than SHARP are the body's own. The
layer's mass, energy and moments are added to the reduced operators.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from spinmesh.bloch_torrey.error_estimate import largest_change, representatives
from spinmesh.bloch_torrey.signal import Signals
from spinmesh.errors import ReductionError, ResolutionWarning
from spinmesh.fem import quadrature
from spinmesh.mesh import TetMesh, reference_nodes, shape_functions
from spinmesh.reduction import ReducedModel, Span, whitened
from spinmesh.sequence import Acquisition
from spinmesh.tissue import Tissue

# A tolerance this much below the mesh's own error asks for digits that are not there. The estimate
# is good to a factor of a few, so a smaller excess is only warned of.
FAR_BEYOND = 100
# Measurements that are looked at: the estimate is to cost a small part of the simulation.
FEW = 8
# Tets whose energy is looked at; of more, so many at random.
SAMPLE = 400
# Degree of the quadrature by nodes: twice that of the gradients, with positive weights.
DEGREE = {4: 2, 10: 5}
# Polynomials of degree 2 in space.
QUADRATICS = 10
# Part of the largest rate added to keep the constant's zero rate invertible.
REGULAR = 1e-12
# Angles (rad) beyond this are edges of the body, such as a cylinder's rim or a cube's edges; a
# hexagonal tube, the coarsest cylinder that the templates make, turns by 1.05.
SHARP = 1.1
# Mean height of the hidden layer over the angle times the faces' width, by nodes of a face.
HIDDEN = {3: 1 / 12, 6: 1 / 60}


def discretisation_error(
    span: Span, reduced: ReducedModel, tissue: Tissue, acquisition: Acquisition
) -> float:
    """Estimated error of the attenuations that the elements' size and the wall's facets cause.

    Largest over a few measurements; `reduced` are the operators on `span`. Infinite if the wall is
    too rough for an estimate, or if the mesh has no more nodes than there are quadratics: averaged
    gradients are then those of the functions themselves. Membranes' facets are not in it. Not
    differentiable.
    """
    if len(span.mesh.points) <= QUADRATICS:
        return float("inf")
    with torch.no_grad():
        finer = replace(reduced, laplacian=finer_rates(span, reduced.laplacian, tissue))
        try:
            smooth = with_hidden_layer(span, finer, tissue)
        except ReductionError:
            return float("inf")
        some = looked_at(acquisition)
        return largest_change(Signals.of(reduced, some), Signals.of(smooth, some))


def looked_at(acquisition: Acquisition) -> Acquisition:
    """The few measurements that the mesh's error is estimated for."""
    few = representatives(acquisition)
    return few.select(torch.arange(0, len(few), -(-len(few) // FEW)))


def finer_rates(
    span: Span, rates: Float[Tensor, "mode mode"], tissue: Tissue
) -> Float[Tensor, "mode mode"]:
    """S + Q + R in a mass-orthonormal span, less the energy of the functions' error (1/ms)."""
    defect = torch.from_numpy(recovered_defect(span, tissue)).to(rates)
    # L (L + E)^-1 L = L - E to first order, and never negative.
    unit = torch.eye(len(rates), dtype=rates.dtype)
    return rates @ torch.linalg.solve(
        rates + defect + REGULAR * rates.diagonal().max() * unit, rates
    )


def check_resolution(mesh: TetMesh, error: float, tolerance: float) -> None:
    """Warn (ResolutionWarning) if a mesh's estimated `error` exceeds a tolerance; refuse if by far.

    Raises ReductionError if no digit that was asked for is one the mesh can give.
    """
    if error <= tolerance:
        return
    message = (
        f"{mesh.name}: its {len(mesh.tets):,} tets alone cause an error of about {error:.1g} of "
        f"the unweighted signal; {tolerance:g} was asked for. Refine the mesh (half the edges, or "
        "curved tetra10), or raise the tolerance."
    )
    if error > FAR_BEYOND * tolerance:
        raise ReductionError(message)
    warnings.warn(message, ResolutionWarning, stacklevel=2)


def recovered_defect(span: Span, tissue: Tissue) -> Float[ndarray, "mode mode"]:
    """int rho (G v_i - grad v_i) . D (G v_j - grad v_j), G v the averaged gradient (1/ms)."""
    mesh, dofs, vectors = span.mesh, span.space.tet_dofs.numpy(), span.vectors.numpy()
    count, nodes = dofs.shape
    chosen = _chosen(count)
    used, local = np.unique(dofs[chosen], return_inverse=True)
    recovered = np.stack([average @ vectors for average in _averages(mesh, dofs, used)], 1)
    pick = torch.from_numpy(chosen)
    weight, value, reference = quadrature(nodes, DEGREE[nodes])
    gradient, determinant = _gradients(mesh.points.detach()[mesh.tets[pick]], reference)
    plain = np.einsum("tsna,tnk->tsak", gradient, vectors[dofs[chosen]], optimize=True)
    averaged = np.einsum(
        "sn,tnak->tsak", value.numpy(), recovered[local.reshape(-1, nodes)], optimize=True
    )
    row = _row(tissue, mesh.compartment[pick])
    # With D = C C', the energy is the square of C' times the difference.
    root = torch.linalg.cholesky(tissue.diffusivity.detach()).mT[row].numpy()
    density = tissue.density.detach()[row].numpy() * count / len(chosen)
    part = np.sqrt(determinant * weight.numpy() * density[:, None])[:, :, None, None]
    flat = (part * (root[:, None] @ (averaged - plain))).reshape(-1, vectors.shape[1])
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
    points = mesh.points.detach()[mesh.tets[torch.from_numpy(around)]]
    reference = shape_functions(reference_nodes(dofs.shape[1]), dofs.shape[1])[1]
    gradient, determinant = _gradients(points, reference)
    rows = place[dofs[around]]
    volume = np.broadcast_to(determinant.mean(1)[:, None], rows.shape)
    total = np.bincount(rows[rows >= 0], volume[rows >= 0], len(used))
    share = (volume / total[rows])[:, :, None]
    columns = np.broadcast_to(dofs[around][:, None, :], gradient.shape[:3])
    rows = np.broadcast_to(rows[:, :, None], gradient.shape[:3])
    needed = rows >= 0
    where = (rows[needed], columns[needed])
    shape = (len(used), len(place))
    return tuple(
        sp.csr_matrix(((share * gradient[..., axis])[needed], where), shape) for axis in range(3)
    )


def _gradients(
    points: Float[Tensor, "tet node 3"], reference: Float[Tensor, "sample node 3"]
) -> tuple[Float[ndarray, "tet sample node 3"], Float[ndarray, "tet sample"]]:
    """Gradients of the shape functions from their reference ones, and the map's determinant."""
    jacobian = torch.einsum("tna,snb->tsab", points, reference)
    gradient = torch.einsum("snb,tsba->tsna", reference, torch.linalg.inv(jacobian))
    return gradient.numpy(), torch.linalg.det(jacobian).numpy()


def with_hidden_layer(span: Span, reduced: ReducedModel, tissue: Tissue) -> ReducedModel:
    """The operators with the layer between a faceted and a smooth wall in, scaled to the same S0.

    Raises ReductionError if hollow walls take away more than the elements beside them have.
    """
    nodes, row = span.space.dof_point[span.space.wall_dofs], _row(tissue, span.space.wall_label)
    points, vectors = span.mesh.points.detach(), span.vectors[span.space.wall_dofs]
    area, shape, gradient = _on_faces(points[nodes])
    # As in the reduced moments, positions count from the vertices' mean.
    position = (shape @ (points[nodes] - points[span.mesh.vertices].mean(0))).unbind(-1)
    value, slope = shape @ vectors, gradient.mT @ vectors[:, None]
    height = hidden_height(points[nodes], nodes) * tissue.density.detach()[row]
    weight = area * height[:, None]
    flow = tissue.diffusivity.detach()[row][:, None] @ slope
    rate = (1 / tissue.t2.detach())[row][:, None]
    integral = (weight[:, :, None] * value).sum(1)
    larger = whitened(
        torch.eye(span.size, dtype=weight.dtype) + _product(value, value, weight),
        reduced.laplacian
        + _product(slope, flow, weight[:, :, None].expand(slope.shape[:3]))
        + _product(value, value, weight * rate),
        reduced.moments + torch.stack([_product(value, value, weight * x) for x in position]),
        reduced.mean + torch.zeros_like(reduced.mean).index_add(0, row, integral),
    )
    return replace(larger, mean=reduced.initial.norm() / larger.initial.norm() * larger.mean)


def _product(left: Tensor, right: Tensor, weight: Tensor) -> Float[Tensor, "mode mode"]:
    """Sum over samples of weight left right'."""
    return left.flatten(0, -2).T @ (weight.flatten()[:, None] * right.flatten(0, -2))


def _row(tissue: Tissue, label: Int[Tensor, " cell"]) -> Int[Tensor, " cell"]:
    """Which compartment of the tissue each label is."""
    return torch.searchsorted(torch.tensor(tissue.labels), label)


def hidden_height(
    points: Float[Tensor, "face node 3"], nodes: Int[Tensor, "face node"]
) -> Float[Tensor, " face"]:
    """Mean height (um) of the smooth wall over each face; negative where the wall is hollow."""
    corner = points[:, :3]
    edges = torch.tensor([[0, 1], [1, 2], [2, 0]])
    along = (corner[:, edges[:, 1]] - corner[:, edges[:, 0]]).reshape(-1, 3)
    area = torch.linalg.cross(along[0::3], along[1::3]).norm(dim=1) / 2
    normal = _edge_normals(points).reshape(-1, 3)
    first, second = _shared_edges(nodes[:, :3][:, edges].reshape(-1, 2))
    turn = normal[second] - normal[first]
    angle = 2 * torch.asin((turn.norm(dim=1) / 2).clamp(max=1.0))
    middle = corner.mean(1).repeat_interleave(3, 0)
    sign = ((middle[second] - middle[first]) * turn).sum(1).sign()
    both = area[first // 3] + area[second // 3]
    hidden = sign * angle * both**2 * HIDDEN[points.shape[1]] / along[first].norm(dim=1)
    hidden = torch.where(angle < SHARP, hidden, 0.0)
    volume = torch.zeros_like(area)
    for side in (first, second):
        volume = volume.index_add(0, side // 3, hidden / 2)
    return volume / area


def _shared_edges(ends: Int[Tensor, "edge 2"]) -> tuple[Tensor, Tensor]:
    """Both copies of each edge that two faces share."""
    key = torch.sort(ends, -1).values
    number, copies = torch.unique(key, dim=0, return_inverse=True, return_counts=True)[1:]
    order = torch.argsort(number, stable=True)
    first, second = order[copies[number[order]] == 2].reshape(-1, 2).T
    return first, second


def _edge_normals(points: Float[Tensor, "face node 3"]) -> Float[Tensor, "face 3 3"]:
    """Unit normals at the middles of the edges (01), (12), (20)."""
    _, reference = shape_functions(reference_nodes(6)[3:], points.shape[1])
    tangent = torch.einsum("fna,snb->fsab", points, reference)
    normal = torch.linalg.cross(tangent[..., 0], tangent[..., 1], dim=-1)
    return normal / normal.norm(dim=-1, keepdim=True)


def _on_faces(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weights (face, sample), shape functions, surface gradients (face, sample, node, 3)."""
    weight, value, dvalue = quadrature(points.shape[1])
    tangent = torch.einsum("fna,snb->fsab", points, dvalue)
    metric = tangent.mT @ tangent
    slope = torch.einsum("fsab,fsbc,snc->fsna", tangent, torch.linalg.inv(metric), dvalue)
    return weight * torch.linalg.det(metric).sqrt(), value, slope
