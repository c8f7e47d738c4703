"""What a faceted wall leaves out of a smooth body, in units of the signal.

Where two faces meet at an angle theta the smooth wall they approximate bulges beyond them. An edge
of length l between faces of areas A/2 each hides a volume theta A^2 / (12 l) if the faces are flat:
exact to leading order for cylinders and spheres. Curved faces (quadratic) meet at much smaller
angles, and hide theta A^2 / (60 l), exact for a circle's arcs. Edges sharper than SHARP are the
body's own. The layer's mass, energy and moments are added to the reduced operators.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.fem.elements import face_rule, face_shapes
from spinmesh.reduction import ReducedModel, Span
from spinmesh.tissue import Tissue

# Angles (rad) beyond this are edges of the body, such as a cylinder's rim.
SHARP = 0.9
# Mean height of the hidden layer over theta times the faces' width, by nodes of a face.
HIDDEN = {3: 1 / 12, 6: 1 / 60}


def with_hidden_layer(span: Span, reduced: ReducedModel, tissue: Tissue) -> ReducedModel:
    """The operators with the layer between a faceted and a smooth wall, scaled to the same S0."""
    dofs = span.space.wall_dofs
    points = span.mesh.points.detach()[span.space.dof_point[dofs]]
    height = hidden_height(points, span.space.dof_point[dofs])
    weight, value, tangential = _on_faces(points)
    row = torch.searchsorted(torch.tensor(tissue.labels), span.space.wall_label)
    weight = weight * (height * tissue.density.detach()[row])[:, None]
    position = torch.einsum("fna,sn->fsa", points, value)
    position = position - span.mesh.points.detach()[span.mesh.vertices].mean(0)
    own = span.vectors[dofs]
    at = torch.einsum("sn,fnk->fsk", value, own)
    slope = torch.einsum("fsna,fnk->fsak", tangential, own)
    flow = torch.einsum("fab,fsbk->fsak", tissue.diffusivity.detach()[row], slope)
    rate = (1 / tissue.t2.detach())[row][:, None]
    mass = _gram(at, at, weight)
    decay = _gram(slope.flatten(1, 2), flow.flatten(1, 2), weight.repeat_interleave(3, 1))
    decay = reduced.laplacian + decay + _gram(at, at, weight * rate)
    moments = torch.stack([_gram(at, at, weight * position[..., axis]) for axis in range(3)])
    mean = torch.stack(
        [
            torch.einsum("fsk,fs->k", at, weight * (span.space.wall_label == label)[:, None])
            for label in tissue.labels
        ]
    )
    root = torch.linalg.cholesky(torch.eye(span.size, dtype=mass.dtype) + mass)

    def whitened(operator: Tensor) -> Tensor:
        half = torch.linalg.solve_triangular(root, operator, upper=False)
        return torch.linalg.solve_triangular(root, half.mT, upper=False)

    read = torch.linalg.solve_triangular(root, (reduced.mean + mean).T, upper=False).T
    scale = reduced.initial.norm() / read.sum(0).norm()
    return ReducedModel(whitened(decay), whitened(reduced.moments + moments), scale * read)


def _gram(left: Tensor, right: Tensor, weight: Tensor) -> Float[Tensor, "mode mode"]:
    return left.flatten(0, 1).T @ (weight.flatten()[:, None] * right.flatten(0, 1))


def hidden_height(points: Float[Tensor, "face node 3"], nodes: Tensor) -> Float[Tensor, " face"]:
    """Mean height (um) of the smooth wall over each face; negative where the wall is hollow."""
    corner, count = points[:, :3], points.shape[1]
    edges = torch.tensor([[0, 1], [1, 2], [2, 0]])
    area = torch.linalg.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]).norm(dim=1) / 2
    normal = _edge_normals(points)
    key = torch.sort(nodes[:, :3][:, edges], -1).values.reshape(-1, 2)
    _, number, copies = torch.unique(key, dim=0, return_inverse=True, return_counts=True)
    order = torch.argsort(number, stable=True)
    paired = copies[number[order]] == 2
    first, second = order[paired].reshape(-1, 2).T
    n = normal.reshape(-1, 3)
    middle = corner.mean(1).repeat_interleave(3, 0)
    along = corner[:, edges].diff(dim=2)[:, :, 0].reshape(-1, 3)
    turned = torch.linalg.cross(n[first], n[second]).norm(dim=1)
    angle = torch.atan2(turned, (n[first] * n[second]).sum(1))
    convex = ((middle[second] - middle[first]) * (n[second] - n[first])).sum(1).sign()
    faces = torch.stack([first // 3, second // 3])
    both = area[faces].sum(0)
    hidden = convex * angle * both**2 * HIDDEN[count] / along[first].norm(dim=1)
    hidden = torch.where(angle < SHARP, hidden, 0.0)
    volume = torch.zeros_like(area)
    for face in faces:
        volume = volume.index_add(0, face, hidden / 2)
    return volume / area


def _edge_normals(points: Tensor) -> Float[Tensor, "face 3 3"]:
    """Unit normals at the middles of the edges (01), (12), (20)."""
    middles = torch.tensor([[0.5, 0.0], [0.5, 0.5], [0.0, 0.5]]).double()
    _, dvalue = face_shapes(middles, points.shape[1])
    tangent = torch.einsum("fna,snb->fsab", points, dvalue)
    normal = torch.linalg.cross(tangent[..., 0], tangent[..., 1], dim=-1)
    return normal / normal.norm(dim=-1, keepdim=True)


def _on_faces(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Surface weights (face, sample), shape functions, surface gradients (face, sample, node, 3)."""
    weight, value, dvalue = face_rule(points.shape[1])
    tangent = torch.einsum("fna,snb->fsab", points, dvalue)
    metric = tangent.mT @ tangent
    slope = torch.einsum("fsab,fsbc,snc->fsna", tangent, torch.linalg.inv(metric), dvalue)
    return weight * torch.linalg.det(metric).sqrt(), value, slope
