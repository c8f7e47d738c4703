"""What is unknown: the shape's latent numbers, its turn, and quantities of the tissue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from torch import Tensor

from spinmesh.errors import ConfigError
from spinmesh.mesh import TetMesh, rotation_matrix
from spinmesh.reduction import ReducedModel, Span, project, push_forward
from spinmesh.settings.reconstruct import Free
from spinmesh.shapes import ShapeModel
from spinmesh.tissue import Tissue

# A turn is known to within half a turn at any rate: the variance of a uniform angle is pi^2/3.
TURN_PRECISION = 3 / torch.pi**2


def quantity(free: Free, tissue: Tissue) -> Float[Tensor, ""]:
    """The free quantity in a tissue, of the first compartment or membrane meant (units of Tissue).

    Of a diffusion tensor a third of its trace.
    """
    if free.quantity == "permeability":
        return torch.as_tensor(_membranes(free, tissue)[0][1], dtype=torch.float64)
    row = tissue.labels.index((free.compartments or tissue.labels)[0])
    values: Tensor = getattr(tissue, free.quantity)[row]
    return values.diagonal().mean() if values.ndim == 2 else values


def scaled(free: Free, tissue: Tissue, factor: Float[Tensor, ""]) -> Tissue:
    """The tissue with the free quantity multiplied by `factor`; differentiable."""
    if free.quantity == "permeability":
        changed = {pair: kappa * factor for pair, kappa in _membranes(free, tissue)}
        return replace(tissue, permeability={**tissue.permeability, **changed})
    meant = [not free.compartments or c in free.compartments for c in tissue.labels]
    factors = torch.stack([factor if m else torch.ones_like(factor) for m in meant])
    old: Tensor = getattr(tissue, free.quantity)
    new: dict[str, Any] = {free.quantity: old * factors.reshape(-1, *[1] * (old.ndim - 1))}
    return replace(tissue, **new)


def _membranes(free: Free, tissue: Tissue) -> list[tuple[tuple[int, int], float | Tensor]]:
    meant = set(free.compartments)
    return [(p, k) for p, k in tissue.permeability.items() if not meant or set(p) == meant]


def refuse_invisible(free: Free, tissue: Tissue) -> None:
    """ConfigError if the tissue has no such quantity, or no attenuation depends on it."""
    unknown = set(free.compartments) - set(tissue.labels)
    if unknown:
        raise ConfigError(
            f"free: {free.label} names compartment {sorted(unknown)}; the tissue has "
            f"{tissue.labels}."
        )
    if free.quantity == "permeability":
        if not any(float(kappa) > 0 for _, kappa in _membranes(free, tissue)):
            raise ConfigError(
                f"free: {free.label} has no membrane of permeability > 0 in the tissue. Give "
                "the interface its likely permeability: the prior is about that value."
            )
        return
    if not bool(torch.isfinite(quantity(free, tissue))):
        raise ConfigError(
            f"free: {free.label} is infinite in the tissue. Give its likely value (ms)."
        )
    if free.quantity != "diffusivity" and not 0 < len(free.compartments) < len(tissue.labels):
        raise ConfigError(
            f"free: {free.label} of all compartments {tissue.labels} divides out of every "
            "attenuation. Name some compartments and leave the others as a reference."
        )


@dataclass(frozen=True, eq=False)
class Point:
    """One guess of all unknowns.

    `z` are the latent numbers, `rotation` takes the decoded shape to the target's frame, `physics`
    are log factors in units of their prior's spread.
    """

    z: Float[Tensor, " latent"]
    rotation: Float[Tensor, "3 3"]
    physics: Float[Tensor, " quantity"]


class Unknowns:
    """The space of points: how to step in it, and what a point means.

    A step is one vector: latents, a rotation vector in the shape's own frame if the pose is
    unknown, and physics. The prior is a standard normal in the first and last, flat in the turn.
    """

    def __init__(
        self, model: ShapeModel, tissue: Tissue, free: tuple[Free, ...], turning: bool
    ) -> None:
        for each in free:
            refuse_invisible(each, tissue)
        if turning:
            _refuse_anisotropic(tissue)
        self.model, self.tissue, self.free, self.turning = model, tissue, free, turning

    @property
    def parts(self) -> tuple[int, int, int]:
        """Lengths of a step's parts: latent, turn, physics."""
        return self.model.latents.shape[1], 3 if self.turning else 0, len(self.free)

    @property
    def precision(self) -> Float[Tensor, " unknown"]:
        """Of the prior, along each component of a step; the turn's keeps a round cell's finite."""
        latent, turn, physics = self.parts
        result = torch.ones(latent + turn + physics, dtype=torch.float64)
        result[latent : latent + turn] = TURN_PRECISION
        return result

    def point(self, z: Tensor, rotation: Tensor | None = None) -> Point:
        """A guess of the shape, the tissue as given."""
        rotation = torch.eye(3, dtype=torch.float64) if rotation is None else rotation
        return Point(z, rotation, torch.zeros(len(self.free), dtype=torch.float64))

    def moved(self, point: Point, step: Float[Tensor, " unknown"]) -> Point:
        """The point after a step."""
        latent, turn, physics = step.split(self.parts)
        rotation = point.rotation @ rotation_matrix(turn) if self.turning else point.rotation
        return Point(point.z + latent, rotation, point.physics + physics)

    def step(self, start: Point, end: Point) -> Float[Tensor, " unknown"]:
        """The inverse of `moved`."""
        turn = torch.zeros(0, dtype=torch.float64)
        if self.turning:
            between = Rotation.from_matrix((start.rotation.T @ end.rotation).numpy())
            turn = torch.from_numpy(between.as_rotvec())
        return torch.cat([end.z - start.z, turn, end.physics - start.physics])

    def log_volume(self, step: Float[Tensor, " unknown"]) -> float:
        """Log of the volume that a unit volume of steps there has among the rotations.

        (2 - 2 cos a) / a^2 at an angle a: the exponential map's Jacobian (Haar measure).
        """
        angle = step.split(self.parts)[1].norm()
        return float(2 * torch.log(torch.sinc(angle / (2 * torch.pi))))

    def unique(self, step: Float[Tensor, " unknown"]) -> bool:
        """Whether the step is the shortest to its end: its turn is less than half a turn."""
        return bool(step.split(self.parts)[1].norm() < torch.pi)

    def gaussian_part(self, point: Point) -> Float[Tensor, " unknown"]:
        """The point's coordinates under the prior, zero for the turn: d(-log prior)/d(step)."""
        turn = torch.zeros(self.parts[1], dtype=torch.float64)
        return torch.cat([point.z, turn, point.physics])

    def shape(self, point: Point) -> Float[Tensor, "point 3"]:
        """Points (um) in the shape's own frame."""
        return self.model.decode(point.z)

    def tissue_at(self, point: Point) -> Tissue:
        """The tissue with its free quantities at the point."""
        tissue = self.tissue
        for free, x in zip(self.free, point.physics, strict=True):
            tissue = scaled(free, tissue, torch.exp(free.spread * x))
        return tissue

    def values(self, point: Point) -> Mapping[str, float]:
        """The free quantities by label, in units of Tissue."""
        tissue = self.tissue_at(point)
        return {free.label: float(quantity(free, tissue)) for free in self.free}

    def tangents(self, point: Point, span: Span) -> ReducedModel:
        """d(operators)/d(step) at zero along each component of a step, leading axis; span frozen.

        Of the shape in its own frame. A turn changes the moments alone: they turn like positions.
        """
        latent, turn, physics = self.parts
        size = latent + turn + physics
        moving = [i for i in range(size) if not latent <= i < latent + turn]
        unit = torch.eye(size, dtype=torch.float64)

        def where(step: Tensor) -> tuple[Tensor, Tissue]:
            there = self.moved(point, step)
            return self.shape(there), self.tissue_at(there)

        changes = push_forward(span, where, torch.zeros(size, dtype=torch.float64), unit[moving])
        result = ReducedModel(*(x.new_zeros(size, *x.shape[1:]) for x in changes.operators))
        for part, values in zip(result.operators, changes.operators, strict=True):
            part[moving] = values
        if turn:
            here = project(span, self.shape(point), self.tissue_at(point)).moments
            e = torch.eye(3, dtype=torch.float64)
            # d(Q exp([w]x) x)/dw_a = Q (e_a x x)
            cross = torch.linalg.cross(e[:, None].expand(3, 3, 3), e.expand(3, 3, 3))
            result.moments[latent : latent + turn] = torch.einsum("acb,cjk->abjk", cross, here)
        return result


def _refuse_anisotropic(tissue: Tissue) -> None:
    unit = torch.eye(3, dtype=tissue.diffusivity.dtype)
    scalar = tissue.diffusivity.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] * unit
    if not torch.allclose(tissue.diffusivity, scalar, rtol=1e-9, atol=0):
        raise ConfigError(
            "reconstruct: a diffusion tensor is given in the laboratory's frame, and with an "
            "unknown pose the shape turns against it, which is not modelled. Give a scalar "
            "diffusivity or `pose: known`."
        )


def opposite_points(template: TetMesh) -> Int[Tensor, " point"]:
    """Of each point of the template, the one nearest to its reflection through the centre.

    Exact for a swept disk, whose rings have an even number of points.
    """
    points = (template.points - template.bounding_box.mean(0)).numpy()
    return torch.from_numpy(cKDTree(points).query(-points)[1])


def reflected_latent(model: ShapeModel, z: Float[Tensor, " latent"]) -> Float[Tensor, " latent"]:
    """Latent numbers of the shape's point reflection, which no |S| can see.

    As far as the model can express it. The reflected tube is numbered from its other end and put
    where the shape was.
    """
    points = model.decode(z)
    reflected = -points[opposite_points(model.basis.template)]
    return model.encode(reflected + points.mean(0) - reflected.mean(0))
