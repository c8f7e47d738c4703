"""Attenuations of one shape and their exact Jacobian on a frozen span."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.bloch_torrey import Basis, simulate, unweighted
from spinmesh.mesh import TetMesh
from spinmesh.reduction import ReducedModel, Span, project
from spinmesh.sequence import Acquisition
from spinmesh.tissue import Tissue


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a shape gives: its span, its reduced model and its attenuations |S|/S0."""

    span: Span
    reduced: ReducedModel
    attenuation: Float[Tensor, " measurement"]


def predict(mesh: TetMesh, tissue: Tissue, acquisition: Acquisition, basis: Basis) -> Prediction:
    """Attenuations of a mesh, on a fresh span."""
    span = basis.span(mesh, tissue)
    with torch.no_grad():
        reduced = project(span, mesh.points, tissue)
        signal = simulate(reduced, acquisition).abs()
        return Prediction(span, reduced, signal / unweighted(reduced, acquisition))


def shape_jacobian(
    prediction: Prediction,
    tissue: Tissue,
    acquisition: Acquisition,
    decode: Callable[[Tensor], Tensor],
    z: Float[Tensor, " latent"],
) -> Float[Tensor, "measurement latent"]:
    """d(attenuation)/dz by forward mode through decode, project and simulate, the span frozen.

    `project` goes one direction at a time, which was measured eight times faster than all at once;
    `simulate` takes all directions at once, so that its adjoint states are computed only once.
    """

    def operators(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        reduced = project(prediction.span, points, tissue)
        return reduced.laplacian, reduced.moments, reduced.mean

    columns = []
    for direction in torch.eye(len(z), dtype=z.dtype, device=z.device):
        points, velocity = torch.func.jvp(decode, (z,), (direction,))[:2]
        columns.append(torch.func.jvp(operators, (points,), (velocity,))[1])
    tangents = [torch.stack(parts) for parts in zip(*columns, strict=True)]
    reduced = prediction.reduced
    at = (reduced.laplacian, reduced.moments, reduced.mean)

    def attenuation(laplacian: Tensor, moments: Tensor, mean: Tensor) -> Tensor:
        model = ReducedModel(laplacian, moments, mean)
        return simulate(model, acquisition).abs() / unweighted(model, acquisition)

    return _columns(attenuation, at, tangents)


def turn_jacobian(
    prediction: Prediction, acquisition: Acquisition
) -> Float[Tensor, "measurement 3"]:
    """d(attenuation)/d(rotation vector) when the shape turns: the gradient moves by g x w."""
    gradient = acquisition.gradient
    unit = torch.eye(3, dtype=gradient.dtype, device=gradient.device)
    # Column j of the matrix that maps g to g x w is e_j x w.
    tangents = torch.stack([torch.linalg.cross(unit, w.expand_as(unit)).T for w in unit])
    reduced = prediction.reduced

    def attenuation(rotation: Tensor) -> Tensor:
        turned = acquisition.rotated(rotation)
        return simulate(reduced, turned).abs() / unweighted(reduced, turned)

    return _columns(attenuation, (unit,), [tangents])


def _columns(function: Callable[..., Tensor], at: tuple[Tensor, ...], tangents) -> Tensor:
    """Jacobian of a vector function along stacked tangents of its arguments."""

    def along(*direction: Tensor) -> Tensor:
        result: Tensor = torch.func.jvp(function, at, direction)[1]
        return result

    return torch.func.vmap(along)(*tangents).T
