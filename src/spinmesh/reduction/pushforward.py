"""Derivatives of the projected operators along many directions at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.fem import Pattern, jumps
from spinmesh.reduction.reduced import ReducedModel, centred_cells, whitened
from spinmesh.reduction.span import Span
from spinmesh.tissue import Tissue

# Bytes of cell matrices' tangents that are alive at a time.
ALIVE = 2.5e8
# Cell matrices that have a tangent each: decay, mass and three moments.
KINDS = 5

Where = Callable[[Tensor], tuple[Tensor, Tissue]]


def push_forward(
    span: Span, where: Where, here: Float[Tensor, " step"], directions: Float[Tensor, "way step"]
) -> ReducedModel:
    """d(project(span, *where(step)))/d(step) at `here` along each direction, leading axis `way`.

    `where` gives points (um) and tissue. The same derivative as forward mode through `project`, but
    the cells' matrices are differentiated for all directions together and assembled before they
    meet V: ten times less work, since a dof has a row in some two dozen cells.
    """
    projection = _Projection.of(span)
    tangents = _chunked(lambda step: _cells(span, *where(step)), here, directions)
    value = projection.of_cells(_cells(span, *where(here)))
    along = [projection.of_cells(tuple(one)) for one in zip(*tangents, strict=True)]
    stacked = tuple(torch.stack(parts) for parts in zip(*along, strict=True))

    def slope(*tangent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        result: tuple[Tensor, Tensor, Tensor] = torch.func.jvp(_operators, value, tangent)[1]
        return result

    return ReducedModel(*torch.func.vmap(slope)(*stacked))


def _operators(mass: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    model = whitened(mass, *rest)
    return model.laplacian, model.moments, model.mean


def _cells(span: Span, points: Tensor, tissue: Tissue) -> tuple[Tensor, ...]:
    """Mass, decay, moments, membranes and walls of the cells."""
    cells = centred_cells(span, points, tissue)
    return cells.elements.mass, cells.decay, cells.elements.moments, cells.membrane, cells.wall


def _chunked(
    cells: Callable[[Tensor], tuple[Tensor, ...]], here: Tensor, directions: Tensor
) -> tuple[Tensor, ...]:
    """Tangents of the cells, a few directions at a time."""

    def along(direction: Tensor) -> tuple[Tensor, ...]:
        result: tuple[Tensor, ...] = torch.func.jvp(cells, (here,), (direction,))[1]
        return result

    bytes_each = KINDS * 8 * cells(here)[0].numel()
    parts = [
        torch.func.vmap(along)(few) for few in directions.split(max(1, int(ALIVE / bytes_each)))
    ]
    return tuple(torch.cat(blocks) for blocks in zip(*parts, strict=True))


@dataclass(frozen=True, eq=False)
class _Projection:
    """V'AV of matrices given by their cells."""

    vectors: np.ndarray
    inside: np.ndarray  # (compartment, dof)
    cell: Pattern
    membrane: Pattern
    wall: Pattern

    @classmethod
    def of(cls, span: Span) -> _Projection:
        space, count = span.space, len(span.space)
        both = space.interface_dofs.flatten(1).numpy()
        return cls(
            span.vectors.numpy(),
            space.inside.numpy(),
            *(
                Pattern.of(d, count)
                for d in (space.tet_dofs.numpy(), both, space.wall_dofs.numpy())
            ),
        )

    def of_cells(self, cells: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Projected mass, decay, moments, and the compartments' means."""
        mass, decay, moments, membrane, wall = cells
        V = self.vectors
        massed = self.cell.filled(mass) @ V
        decayed = self.cell.filled(decay) @ V
        if len(membrane):
            decayed = decayed + self.membrane.filled(jumps(membrane)) @ V
        if len(wall):
            decayed = decayed + self.wall.filled(wall) @ V
        xyz = [self.cell.filled(moments[:, axis]) @ V for axis in range(3)]
        square = [torch.from_numpy(V.T @ image) for image in (massed, decayed, *xyz)]
        symmetric = [(matrix + matrix.T) / 2 for matrix in square]
        mean = torch.from_numpy(self.inside @ massed)
        return symmetric[0], symmetric[1], torch.stack(symmetric[2:]), mean
