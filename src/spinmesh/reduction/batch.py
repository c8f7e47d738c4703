"""Many shapes of one template reduced together: dense matrices, one batched factorisation.

For templates of some hundred nodes, where a sparse factorisation per shape leaves a GPU idle
(docs/decisions/0006).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.errors import ReductionError
from spinmesh.fem import Space, cell_matrices, function_space, jumps
from spinmesh.mesh import TetMesh
from spinmesh.reduction.reduced import ReducedModel
from spinmesh.reduction.span import DEPENDENT, monomials, slowest_rate
from spinmesh.tissue import Tissue

# Beyond this many dofs dense matrices take more time than sparse ones, shape by shape.
MOST_DENSE = 1_200


def reduce_shapes(
    template: TetMesh,
    points: Float[Tensor, "shape point 3"],
    tissue: Tissue,
    degree: int = 3,
    blocks: int = 3,
    least_shift: float = 0.0,
) -> ReducedModel:
    """Operators of every shape in its own polynomial-seeded Krylov basis; a batch on one device.

    The device is that of `points`. The spans are those of `krylov_span`, or of `reduce_mesh` if the
    shift is at least the rate (1/ms) of the longest echo; directions that a shape
    lacks become zero functions, which nothing excites. Not differentiable: `project` on a shape's
    own span is. Raises ReductionError beyond MOST_DENSE dofs or if a shape is folded.
    """
    space = function_space(template)
    if len(space) > MOST_DENSE:
        raise ReductionError(
            f"{template.name}: {len(space):,} unknowns are too many for dense matrices of many "
            f"shapes (at most {MOST_DENSE:,}). Reduce the shapes one by one with `reduce_mesh`."
        )
    with torch.no_grad():
        dense = _Dense.of(template, space, points, tissue.to(str(points.device)))
        rates = [
            max(slowest_rate(template.with_points(shape), tissue), least_shift)
            for shape in points.to("cpu").unbind()
        ]
        factor = dense.factorised(points.new_tensor(rates)[:, None, None] * dense.mass)
        seed = monomials(dense.position, dense.inside, degree)
        last = dense.orthonormal(seed, dense.mass[..., :0])
        basis = last
        for _ in range(blocks):
            last = dense.orthonormal(torch.cholesky_solve(dense.mass @ last, factor), basis)
            basis = torch.cat([basis, last], -1)
        return dense.projected(basis)


@dataclass(frozen=True, eq=False)
class _Dense:
    """Matrices of all shapes, and which compartment each unknown is in."""

    mass: Float[Tensor, "shape dof dof"]
    decay: Float[Tensor, "shape dof dof"]  # S + Q + R
    moments: Float[Tensor, "shape 3 dof dof"]  # positions count from the vertices' mean
    position: Float[Tensor, "shape dof 3"]
    inside: Float[Tensor, "compartment dof"]

    @classmethod
    def of(cls, template: TetMesh, space: Space, points: Tensor, tissue: Tissue) -> _Dense:
        """Cell matrices of all shapes, summed into dense ones."""
        points = points - points[:, template.vertices].mean(1, keepdim=True)
        cells = torch.func.vmap(
            lambda shape: cell_matrices(template.with_points(shape), space, tissue)
        )(points)

        def whole(blocks: Tensor, dofs: Tensor) -> Tensor:
            place = (dofs[:, :, None] * len(space) + dofs[:, None, :]).flatten().to(points.device)
            result = points.new_zeros(len(points), len(space) ** 2)
            result.index_add_(1, place, blocks.flatten(1))
            return result.unflatten(1, (len(space), len(space)))

        decay = whole(cells.decay, space.tet_dofs)
        decay = decay + whole(jumps(cells.membrane), space.interface_dofs.flatten(1))
        decay = decay + whole(cells.wall, space.wall_dofs)
        moments = [whole(moment, space.tet_dofs) for moment in cells.moments.unbind(2)]
        mass = whole(cells.mass, space.tet_dofs)
        inside = space.inside.to(points)
        position = points[:, space.dof_point.to(points.device)]
        return cls(mass, decay, torch.stack(moments, 1), position, inside)

    def factorised(self, shift: Tensor) -> Tensor:
        """Cholesky factors of S + Q + R + shift; ReductionError if a shape's is not definite."""
        factor, info = torch.linalg.cholesky_ex(self.decay + shift)
        if bool((info != 0).any()):
            raise ReductionError(
                f"shape {int(info.argmax())} of the batch: its matrices are not positive "
                "definite. Check that no tet is folded."
            )
        return factor

    def orthonormal(self, block: Tensor, basis: Tensor) -> Tensor:
        """M-orthonormal part of `block` outside `basis`; dependent directions become zero."""
        for _ in range(2):
            massed = self.mass @ block
            length = (block * massed).sum(-2, keepdim=True).clamp_min(0).sqrt()
            scale = torch.where(length > 0, 1 / length, 0.0)
            block = scale * block - basis @ (basis.mT @ (scale * massed))
            values, vectors = torch.linalg.eigh(block.mT @ self.mass @ block)
            keep = values > DEPENDENT**2 * values.amax(-1, keepdim=True).clamp_min(1.0)
            root = torch.where(keep, values.clamp_min(DEPENDENT**2).rsqrt(), 0.0)
            block = block @ (vectors * root[:, None, :])
        return block

    def projected(self, basis: Tensor) -> ReducedModel:
        """V'AV of every operator."""
        laplacian = basis.mT @ self.decay @ basis
        moments = basis[:, None].mT @ self.moments @ basis[:, None]
        mean = self.inside @ (self.mass @ basis)
        return ReducedModel((laplacian + laplacian.mT) / 2, (moments + moments.mT) / 2, mean)
