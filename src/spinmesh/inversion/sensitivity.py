"""Attenuations at one point of the search and their exact Jacobian on a frozen span."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.bloch_torrey import Basis, reduce_mesh, simulate, unweighted
from spinmesh.inversion.unknowns import Point, Unknowns
from spinmesh.reduction import ReducedModel, Span
from spinmesh.sequence import Acquisition


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a point gives: its span, its reduced model (in the target's frame), and |S|/S0."""

    span: Span
    reduced: ReducedModel
    attenuation: Float[Tensor, " measurement"]


def predict(unknowns: Unknowns, point: Point, acquisition: Acquisition, basis: Basis) -> Prediction:
    """Attenuations at a point, on a fresh span."""
    with torch.no_grad():
        mesh = unknowns.model.basis.template.with_points(unknowns.shape(point), "iterate")
        # The mesh stays in its own frame, so the basis is grown for gradients turned back.
        own = acquisition.rotated(point.rotation.T)
        found = reduce_mesh(mesh, unknowns.tissue_at(point), own, basis)
        moments = torch.einsum("ab,bjk->ajk", point.rotation, found.reduced.moments)
        reduced = ReducedModel(found.reduced.laplacian, moments, found.reduced.mean)
        return Prediction(found.span, reduced, attenuation(reduced, acquisition))


def attenuation(
    reduced: ReducedModel, acquisition: Acquisition
) -> Float[Tensor, "*shape measurement"]:
    """|S|/S0 of a reduced model, or of many, with S0 as it was measured."""
    plain = simulate(reduced, acquisition).abs() / unweighted(reduced, acquisition)
    if acquisition.reference is None:
        return plain
    reference = acquisition.reference
    return reference.relative(plain, attenuation(reduced, reference.acquisition))


def jacobian(
    unknowns: Unknowns, point: Point, prediction: Prediction, acquisition: Acquisition
) -> Float[Tensor, "measurement unknown"]:
    """d(attenuation)/d(step) by forward mode through decode, project and simulate, span frozen.

    All directions at once, so that the adjoint states of `simulate` are computed only once.
    """
    tangents = unknowns.tangents(point, prediction.span)
    reduced = prediction.reduced
    at = (reduced.laplacian, reduced.moments, reduced.mean)

    def measured(laplacian: Tensor, moments: Tensor, mean: Tensor) -> Tensor:
        return attenuation(ReducedModel(laplacian, moments, mean), acquisition)

    def along(*direction: Tensor) -> Tensor:
        result: Tensor = torch.func.jvp(measured, at, direction)[1]
        return result

    return torch.func.vmap(along)(tangents.laplacian, tangents.moments, tangents.mean).T
