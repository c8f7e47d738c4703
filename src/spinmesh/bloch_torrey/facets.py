"""What a faceted wall leaves out of a smooth body, in units of the signal.

Where two faces meet at an angle theta the smooth wall they approximate bulges beyond them. An edge
of length l between faces of areas A/2 each hides a volume theta A^2 / (12 l) if the faces are flat:
exact to leading order for cylinders and spheres. Curved faces (quadratic) meet at much smaller
angles, and hide theta A^2 / (60 l), exact for a circle's arcs. Edges sharper than SHARP are the
body's own. The layer's mass, energy and moments are added to the reduced operators.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spinmesh.fem.elements import face_rule, face_shapes
from spinmesh.reduction import ReducedModel, Span, whitened
from spinmesh.tissue import Tissue

# Angles (rad) beyond this are edges of the body, such as a cylinder's rim or a cube's edges; a
# hexagonal tube, the coarsest cylinder that the templates make, turns by 1.05.
SHARP = 1.1
# Mean height of the hidden layer over the angle times the faces' width, by nodes of a face.
HIDDEN = {3: 1 / 12, 6: 1 / 60}


def with_hidden_layer(span: Span, reduced: ReducedModel, tissue: Tissue) -> ReducedModel:
    """The operators with the layer between a faceted and a smooth wall in, scaled to the same S0.

    Raises ReductionError if hollow walls take away more than the elements beside them have.
    """
    layer = _layer(span, tissue)
    rate = (1 / tissue.t2.detach())[layer.row]
    mass = layer.gram(torch.ones_like(rate))
    decay = reduced.laplacian + layer.energy(tissue) + layer.gram(rate)
    moments = reduced.moments + layer.moments()
    mean = reduced.mean + layer.mean(len(tissue.labels))
    unit = torch.eye(span.size, dtype=mass.dtype)
    larger = whitened(unit + mass, decay, moments, mean)
    scale = reduced.initial.norm() / larger.initial.norm()
    return replace(larger, mean=scale * larger.mean)


@dataclass(frozen=True, eq=False)
class _Layer:
    """The basis on the wall's faces, and what integrates it over the layer (sample by sample)."""

    row: Tensor  # face: compartment's number
    weight: Tensor  # face, sample: height times area times density
    position: Tensor  # face, sample, 3; from the vertices' mean, as in the reduced moments
    value: Tensor  # face, sample, mode
    slope: Tensor  # face, sample, 3, mode: along the wall

    def gram(self, factor: Tensor) -> Float[Tensor, "mode mode"]:
        """int factor v v'; the factor has one number per face, or per face and sample."""
        weight = self.weight * (factor if factor.ndim == 2 else factor[:, None])
        return _product(self.value, self.value, weight)

    def energy(self, tissue: Tissue) -> Float[Tensor, "mode mode"]:
        """int grad v . D grad v' along the wall."""
        flow = tissue.diffusivity.detach()[self.row][:, None] @ self.slope
        weight = self.weight.repeat_interleave(3, 1)
        return _product(self.slope.flatten(1, 2), flow.flatten(1, 2), weight)

    def moments(self) -> Float[Tensor, "3 mode mode"]:
        """int x v v'."""
        return torch.stack([self.gram(self.position[..., axis]) for axis in range(3)])

    def mean(self, compartments: int) -> Float[Tensor, "compartment mode"]:
        """int v over each compartment's part."""
        own = torch.einsum("fsk,fs->fk", self.value, self.weight)
        return own.new_zeros(compartments, own.shape[1]).index_add(0, self.row, own)


def _layer(span: Span, tissue: Tissue) -> _Layer:
    mesh, dofs = span.mesh, span.space.wall_dofs
    nodes = span.space.dof_point[dofs]
    every = mesh.points.detach()
    area, value, slope = _on_faces(every[nodes])
    row = torch.searchsorted(torch.tensor(tissue.labels), span.space.wall_label)
    height = hidden_height(every[nodes], nodes) * tissue.density.detach()[row]
    return _Layer(
        row,
        area * height[:, None],
        torch.einsum("fna,sn->fsa", every[nodes] - every[mesh.vertices].mean(0), value),
        torch.einsum("sn,fnk->fsk", value, span.vectors[dofs]),
        torch.einsum("fsna,fnk->fsak", slope, span.vectors[dofs]),
    )


def _product(left: Tensor, right: Tensor, weight: Tensor) -> Float[Tensor, "mode mode"]:
    return left.flatten(0, 1).T @ (weight.flatten()[:, None] * right.flatten(0, 1))


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
    middles = torch.tensor([[0.5, 0.0], [0.5, 0.5], [0.0, 0.5]], dtype=points.dtype)
    _, reference = face_shapes(middles, points.shape[1])
    tangent = torch.einsum("fna,snb->fsab", points, reference)
    normal = torch.linalg.cross(tangent[..., 0], tangent[..., 1], dim=-1)
    return normal / normal.norm(dim=-1, keepdim=True)


def _on_faces(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weights (face, sample), shape functions, surface gradients (face, sample, node, 3)."""
    weight, value, dvalue = face_rule(points.shape[1])
    tangent = torch.einsum("fna,snb->fsab", points, dvalue)
    metric = tangent.mT @ tangent
    slope = torch.einsum("fsab,fsbc,snc->fsna", tangent, torch.linalg.inv(metric), dvalue)
    return weight * torch.linalg.det(metric).sqrt(), value, slope
