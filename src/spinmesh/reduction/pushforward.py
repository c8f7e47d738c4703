"""Derivatives of the projected operators along many directions at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.fem import CellMatrices, Patterns
from spinmesh.reduction.reduced import ReducedModel, centred_cells, whitened
from spinmesh.reduction.span import Span, integrals
from spinmesh.tissue import Tissue

# Bytes of cell matrices' tangents that are alive at a time.
ALIVE = 2.5e8
# Cell matrices that have a tangent each: mass, stiffness, relaxation and three moments.
KINDS = 6

Where = Callable[[Tensor], tuple[Tensor, Tissue]]


def push_forward(
    span: Span, where: Where, here: Float[Tensor, " step"], directions: Float[Tensor, "way step"]
) -> ReducedModel:
    """d(project(span, *where(step)))/d(step) at `here` along each direction, leading axis `way`.

    `where` gives points (um) and tissue. The same derivative as forward mode through `project`, but
    the cells' matrices are differentiated for all directions together and assembled before they
    meet V: ten times less work, since a dof has a row in some two dozen cells.
    """
    patterns = Patterns.of(span.space)

    def cells(step: Tensor) -> CellMatrices:
        return centred_cells(span, *where(step))

    value = _projected(span, patterns, cells(here))
    tangents = zip(*_chunked(cells, here, directions), strict=True)
    along = [_projected(span, patterns, CellMatrices(*one)) for one in tangents]
    stacked = tuple(torch.stack(parts) for parts in zip(*along, strict=True))

    def slope(*tangent: Tensor) -> tuple[Tensor, ...]:
        result: tuple[Tensor, ...] = torch.func.jvp(_operators, value, tangent)[1]
        return result

    return ReducedModel(*torch.func.vmap(slope)(*stacked))


def _operators(mass: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
    return whitened(mass, *rest).operators


def _chunked(
    cells: Callable[[Tensor], CellMatrices], here: Tensor, directions: Tensor
) -> tuple[Tensor, ...]:
    """Tangents of the cells, a few directions at a time."""

    def along(direction: Tensor) -> CellMatrices:
        result: CellMatrices = torch.func.jvp(cells, (here,), (direction,))[1]
        return result

    bytes_each = KINDS * 8 * cells(here).mass.numel()
    parts = [
        torch.func.vmap(along)(few) for few in directions.split(max(1, int(ALIVE / bytes_each)))
    ]
    return tuple(torch.cat(blocks) for blocks in zip(*parts, strict=True))


def _projected(span: Span, patterns: Patterns, cells: CellMatrices) -> tuple[Tensor, ...]:
    """V'AV of mass, decay, moments and core, and the compartments' means, from the cells."""
    V, filled = span.vectors.numpy(), patterns.tets.filled
    massed = filled(cells.mass) @ V
    decayed = (filled(cells.decay) + patterns.flux(cells.membrane, cells.wall)) @ V
    images = [massed, decayed, *(filled(moment) @ V for moment in cells.moments.unbind(1))]
    if span.core is not None:
        images.append(filled(cells.mass * span.core[:, None, None]) @ V)
    square = [torch.from_numpy(V.T @ image) for image in images]
    whole, laplacian, x, y, z, *core = ((matrix + matrix.T) / 2 for matrix in square)
    mean = integrals(span.space, cells.mass) @ span.vectors
    return whole, laplacian, torch.stack([x, y, z]), mean, *core
