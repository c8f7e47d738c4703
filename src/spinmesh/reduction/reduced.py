"""The Bloch-Torrey operators projected on a frozen basis."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.errors import ReductionError
from spinmesh.fem import CellMatrices, cell_matrices
from spinmesh.reduction.span import Span, integrals
from spinmesh.tissue import Tissue


@dataclass(frozen=True, eq=False)
class ReducedModel:
    """Operators in a mass-orthonormal reduced basis: nu' = -(L + i gamma f(t) g.J) nu.

    `laplacian` holds stiffness, flux and relaxation. Positions in J count from `centre`, which a
    refocused gradient cannot see. `mean[c]` integrates over compartment c; their sum is also the
    initial state, since the symmetric form starts from w = 1 (fem.CellMatrices). Leading axes, if
    any, run over shapes. `core` is the mass of the tets whose water is observed, None for all: the
    water that is in the core in the middle of a sequence (`Program`).
    """

    laplacian: Float[Tensor, "*shape mode mode"]  # 1/ms
    moments: Float[Tensor, "*shape 3 mode mode"]  # um
    mean: Float[Tensor, "*shape compartment mode"]  # um^(3/2)
    core: Float[Tensor, "*shape mode mode"] | None = None

    @property
    def initial(self) -> Float[Tensor, "*shape mode"]:
        """Magnetisation at the excitation: the spin density."""
        return self.mean.sum(-2)

    @property
    def operators(self) -> tuple[Tensor, ...]:
        """All that there are, in order."""
        return tuple(part for part in vars(self).values() if part is not None)

    def to(self, device: str) -> ReducedModel:
        """The same operators on another device."""
        return ReducedModel(*(part.to(device) for part in self.operators))

    def leading(self, size: int) -> ReducedModel:
        """On the first functions."""
        L, J, mean, *core = self.operators
        return ReducedModel(
            L[..., :size, :size],
            J[..., :size, :size],
            mean[..., :size],
            *(X[..., :size, :size] for X in core),
        )


def project(span: Span, points: Float[Tensor, "point 3"], tissue: Tissue) -> ReducedModel:
    """Operators of the mesh at `points`, restricted to the frozen span.

    Differentiable in points and in every tensor of the tissue. With V held constant the derivative
    is that of the full finite-element signal with forward and adjoint solutions expanded in V
    (simulator.md section 3): no eigenvector is differentiated. Raises ReductionError if the points
    are so far from the span's that its functions become dependent.
    """
    cells = centred_cells(span, points, tissue)
    others = [cells.moments]
    if span.core is not None:
        others.append((cells.mass * span.core[:, None, None])[:, None])
    operators, mean = restricted(span, cells, torch.cat(others, 1))
    return ReducedModel(operators[0], operators[1:4], mean, *operators[4:])


def restricted(
    span: Span,
    cells: CellMatrices,
    others: Float[Tensor, "tet other node node"],
    sign: int | Float[Tensor, "other 1 1"] = 1,
) -> tuple[Float[Tensor, "operator mode mode"], Float[Tensor, "row mode"]]:
    """S + Q + R and `others` on the span, and the integrals of its functions, whitened.

    `sign` is 1 for those that are symmetric, -1 for those that are antisymmetric.
    """
    space, local = span.space, span.vectors[span.space.tet_dofs]
    inner, outer = space.interface_dofs.unbind(1)

    def image(blocks: Tensor) -> Tensor:
        return _gathered(blocks @ local, space.tet_dofs, len(space))

    across = cells.membrane @ (span.vectors[inner] - span.vectors[outer])
    decay = (
        image(cells.decay)
        + _gathered(across, inner, len(space))
        - _gathered(across, outer, len(space))
    )
    lost = cells.wall @ span.vectors[space.wall_dofs]
    decay = decay + _gathered(lost, space.wall_dofs, len(space))
    massed = image(cells.mass)
    mass, laplacian = (_symmetric(span.vectors.T @ product) for product in (massed, decay))
    rest = span.vectors.T @ torch.stack([image(other) for other in others.unbind(1)])
    rest = (rest + sign * rest.mT) / 2
    mean = integrals(span.space, cells.mass) @ span.vectors
    return _whitened(mass, torch.cat([laplacian[None], rest]), mean)


def centred_cells(span: Span, points: Float[Tensor, "point 3"], tissue: Tissue) -> CellMatrices:
    """Cell matrices of the mesh at `points` (um); positions count from the vertices' fixed mean."""
    mesh = span.mesh.with_points(points - points.detach()[span.mesh.vertices].mean(0))
    return cell_matrices(mesh, span.space, tissue)


def _gathered(images: Tensor, dofs: Tensor, count: int) -> Tensor:
    """Sum the cells' rows A_e V_e of each dof: A V, (dof, mode).

    V'(A V) afterwards costs k^2 per dof; V_e' A_e V_e would cost k^2 per node of every cell, 14
    times more on straight tets, forward and backward.
    """
    size = images.shape[-1]
    result = images.new_zeros(count, size)
    return result.index_add(0, dofs.flatten(), images.reshape(-1, size))


def _symmetric(matrix: Tensor) -> Tensor:
    return (matrix + matrix.T) / 2


def whitened(
    mass: Float[Tensor, "mode mode"],
    laplacian: Float[Tensor, "mode mode"],
    moments: Float[Tensor, "3 mode mode"],
    mean: Float[Tensor, "compartment mode"],
    *core: Float[Tensor, "mode mode"],
) -> ReducedModel:
    """Cholesky-whiten: the mass is the identity where the span was built, its derivative is not.

    Raises ReductionError if the mass is not positive definite.
    """
    squares = torch.stack([laplacian, *moments, *core])
    operators, mean = _whitened(mass, squares, mean)
    return ReducedModel(operators[0], operators[1:4], mean, *operators[4:])


def _whitened(mass: Tensor, operators: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    factor, info = torch.linalg.cholesky_ex(mass)
    if int(info.max()) != 0:
        raise ReductionError(
            "reduced mass matrix is not positive definite: the points are too far from those the "
            "span was built on. Build a new span there."
        )
    left = torch.linalg.solve_triangular(factor, operators, upper=False)
    both = torch.linalg.solve_triangular(factor, left.mT, upper=False).mT
    return both, torch.linalg.solve_triangular(factor, mean.T, upper=False).T
