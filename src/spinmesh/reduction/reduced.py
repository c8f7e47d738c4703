"""The Bloch-Torrey operators projected on a frozen basis."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.errors import ReductionError
from spinmesh.fem import cell_matrices
from spinmesh.reduction.span import Span
from spinmesh.tissue import Tissue


@dataclass(frozen=True, eq=False)
class ReducedModel:
    """Operators in a mass-orthonormal reduced basis: nu' = -(L + i gamma f(t) g.J) nu.

    `laplacian` holds stiffness, flux and relaxation. Positions in J count from `centre`, which a
    refocused gradient cannot see. `mean[c]` integrates over compartment c; their sum is also the
    initial state, since the symmetric form starts from w = 1 (fem.CellMatrices). Leading axes, if
    any, run over shapes.
    """

    laplacian: Float[Tensor, "*shape mode mode"]  # 1/ms
    moments: Float[Tensor, "*shape 3 mode mode"]  # um
    mean: Float[Tensor, "*shape compartment mode"]  # um^(3/2)

    @property
    def initial(self) -> Float[Tensor, "*shape mode"]:
        """Magnetisation at the excitation: the spin density."""
        return self.mean.sum(-2)

    def to(self, device: str) -> ReducedModel:
        """The same operators on another device."""
        return ReducedModel(
            self.laplacian.to(device), self.moments.to(device), self.mean.to(device)
        )


def project(span: Span, points: Float[Tensor, "point 3"], tissue: Tissue) -> ReducedModel:
    """Operators of the mesh at `points`, restricted to the frozen span.

    Differentiable in points and in every tensor of the tissue. With V held constant the derivative
    is that of the full finite-element signal with forward and adjoint solutions expanded in V
    (simulator.md section 3): no eigenvector is differentiated.
    """
    space = span.space
    mesh = span.mesh.with_points(points - points.detach()[span.mesh.vertices].mean(0))
    cells = cell_matrices(mesh, space, tissue)
    elements, local = cells.elements, span.vectors[space.tet_dofs]

    mass = _restrict(local, elements.mass)
    laplacian = _restrict(
        local, elements.stiffness + cells.relaxation[:, None, None] * elements.mass
    )
    inner, outer = (span.vectors[dofs] for dofs in space.interface_dofs.unbind(1))
    laplacian = laplacian + _restrict(inner - outer, cells.membrane)
    laplacian = laplacian + _restrict(span.vectors[space.wall_dofs], cells.wall)
    moments = torch.stack([_restrict(local, elements.moments[:, axis]) for axis in range(3)])
    integral = torch.einsum("tij,tjk->tk", elements.mass, local)
    labels = torch.tensor(tissue.labels, device=points.device)
    inside = (span.mesh.compartment == labels[:, None]).to(integral)
    return _whitened(mass, laplacian, moments, inside @ integral)


def _restrict(local: Tensor, blocks: Tensor) -> Tensor:
    """Sum over cells of V_e' A_e V_e."""
    size = local.shape[-1]
    result = local.reshape(-1, size).T @ (blocks @ local).reshape(-1, size)
    return (result + result.T) / 2


def _whitened(mass: Tensor, laplacian: Tensor, moments: Tensor, mean: Tensor) -> ReducedModel:
    """Cholesky-whiten: M_r is the identity where the span was built, but its derivative is not."""
    factor, info = torch.linalg.cholesky_ex(mass)
    if int(info.max()) != 0:
        raise ReductionError(
            "reduced mass matrix is not positive definite: the points are too far from those the "
            "span was built on. Build a new span there."
        )

    def both_sides(matrix: Tensor) -> Tensor:
        left = torch.linalg.solve_triangular(factor, matrix, upper=False)
        return torch.linalg.solve_triangular(factor, left.mT, upper=False)

    mean = torch.linalg.solve_triangular(factor, mean.T, upper=False).T
    return ReducedModel(both_sides(laplacian), both_sides(moments), mean)
