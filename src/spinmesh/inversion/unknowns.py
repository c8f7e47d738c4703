"""What is unknown: the shape's latent numbers, its turn, and quantities of the tissue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from torch import Tensor

from spinmesh.errors import ConfigError
from spinmesh.inversion.shape_model import ShapeModel
from spinmesh.mesh import rotation_matrix
from spinmesh.reduction import ReducedModel, Span, project, push_forward
from spinmesh.tissue import Tissue

# A turn is known to within half a turn at any rate: the variance of a uniform angle is pi^2/3.
TURN_PRECISION = 3 / torch.pi**2
QUANTITIES = ("diffusivity", "t2", "density", "permeability")


@dataclass(frozen=True)
class Free:
    """A quantity of the tissue that is found together with the shape.

    A priori its logarithm is normal: about the given tissue's value, with standard deviation
    `spread`. One factor serves all `compartments` named (all of the tissue if none is); for
    `permeability` two labels name one membrane. A density counts relative to the compartments that
    are not named, so it is a volume fraction's.
    """

    quantity: Literal["diffusivity", "t2", "density", "permeability"]
    compartments: tuple[int, ...] = ()
    spread: float = 0.3

    def __post_init__(self) -> None:
        if self.quantity not in QUANTITIES:
            raise ConfigError(f"free: quantity {self.quantity!r}; give one of {QUANTITIES}.")
        if not 0 < self.spread < float("inf"):
            raise ConfigError(f"free: spread of {self.label} is {self.spread}; give a number > 0.")

    @property
    def label(self) -> str:
        """Words for a message or a table, such as `permeability 1-2`."""
        return " ".join([self.quantity, "-".join(map(str, self.compartments))]).strip()

    def value(self, tissue: Tissue) -> Float[Tensor, ""]:
        """The quantity in a tissue, of the first compartment or membrane meant (units of Tissue).

        Of a diffusion tensor a third of its trace.
        """
        if self.quantity == "permeability":
            return torch.as_tensor(self._membranes(tissue)[0][1], dtype=torch.float64)
        row = tissue.labels.index((self.compartments or tissue.labels)[0])
        values: Tensor = getattr(tissue, self.quantity)[row]
        return values.diagonal().mean() if values.ndim == 2 else values

    def scaled(self, tissue: Tissue, factor: Float[Tensor, ""]) -> Tissue:
        """The tissue with this quantity multiplied by `factor`; differentiable."""
        if self.quantity == "permeability":
            own = {pair: kappa * factor for pair, kappa in self._membranes(tissue)}
            return replace(tissue, permeability={**tissue.permeability, **own})
        meant = [not self.compartments or c in self.compartments for c in tissue.labels]
        factors = torch.stack([factor if m else torch.ones_like(factor) for m in meant])
        old: Tensor = getattr(tissue, self.quantity)
        changed: dict[str, Any] = {self.quantity: old * factors.reshape(-1, *[1] * (old.ndim - 1))}
        return replace(tissue, **changed)

    def _membranes(self, tissue: Tissue) -> list[tuple[tuple[int, int], float | Tensor]]:
        own = set(self.compartments)
        return [(p, k) for p, k in tissue.permeability.items() if not own or set(p) == own]

    def refuse_unless_visible(self, tissue: Tissue) -> None:
        """ConfigError if the tissue has no such quantity, or no attenuation depends on it."""
        unknown = set(self.compartments) - set(tissue.labels)
        if unknown:
            raise ConfigError(
                f"free: {self.label} names compartment {sorted(unknown)}; the tissue has "
                f"{tissue.labels}."
            )
        if self.quantity == "permeability":
            if not any(float(kappa) > 0 for _, kappa in self._membranes(tissue)):
                raise ConfigError(
                    f"free: {self.label} has no membrane of permeability > 0 in the tissue. Give "
                    "the interface its likely permeability: the prior is about that value."
                )
            return
        if not bool(torch.isfinite(self.value(tissue))):
            raise ConfigError(
                f"free: {self.label} is infinite in the tissue. Give its likely value (ms)."
            )
        if self.quantity != "diffusivity" and not 0 < len(self.compartments) < len(tissue.labels):
            raise ConfigError(
                f"free: {self.label} of all compartments {tissue.labels} divides out of every "
                "attenuation. Name some compartments and leave the others as a reference."
            )


@dataclass(frozen=True, eq=False)
class Point:
    """One guess of all unknowns.

    `latent` is whitened by the prior (z = mean + L y), `rotation` takes the decoded shape to the
    target's frame, `physics` are log factors in units of their prior's spread.
    """

    latent: Float[Tensor, " latent"]
    rotation: Float[Tensor, "3 3"]
    physics: Float[Tensor, " quantity"]


class Unknowns:
    """The space of points: how to step in it, and what a point means.

    A step is one vector: latent numbers, a rotation vector in the shape's own frame if the pose is
    unknown, and physics. The prior is a standard normal in the first and last, flat in the turn.
    """

    def __init__(
        self, model: ShapeModel, tissue: Tissue, free: tuple[Free, ...], turning: bool
    ) -> None:
        for quantity in free:
            quantity.refuse_unless_visible(tissue)
        if turning:
            _refuse_anisotropic(tissue)
        self.model, self.tissue, self.free, self.turning = model, tissue, free, turning

    @cached_property
    def whitening(self) -> Float[Tensor, "latent latent"]:
        """L of z = mean + L y."""
        return torch.linalg.cholesky(self.model.prior.covariance)

    @cached_property
    def centre(self) -> Float[Tensor, " latent"]:
        """The prior's mean latent."""
        return self.model.prior.mean

    @property
    def parts(self) -> tuple[int, int, int]:
        """Lengths of a step's parts: latent, turn, physics."""
        return len(self.centre), 3 if self.turning else 0, len(self.free)

    @property
    def precision(self) -> Float[Tensor, " unknown"]:
        """Of the prior, along each component of a step; the turn's keeps a round cell's finite."""
        latent, turn, physics = self.parts
        result = torch.ones(latent + turn + physics, dtype=torch.float64)
        result[latent : latent + turn] = TURN_PRECISION
        return result

    def point(self, latent: Tensor, rotation: Tensor | None = None) -> Point:
        """A guess of the shape, the tissue as given."""
        rotation = torch.eye(3, dtype=torch.float64) if rotation is None else rotation
        return Point(latent, rotation, torch.zeros(len(self.free), dtype=torch.float64))

    def moved(self, point: Point, step: Float[Tensor, " unknown"]) -> Point:
        """The point after a step."""
        latent, turn, physics = step.split(self.parts)
        rotation = point.rotation @ rotation_matrix(turn) if self.turning else point.rotation
        return Point(point.latent + latent, rotation, point.physics + physics)

    def step(self, start: Point, end: Point) -> Float[Tensor, " unknown"]:
        """The inverse of `moved`."""
        turn = torch.zeros(0, dtype=torch.float64)
        if self.turning:
            between = Rotation.from_matrix((start.rotation.T @ end.rotation).numpy())
            turn = torch.from_numpy(between.as_rotvec())
        return torch.cat([end.latent - start.latent, turn, end.physics - start.physics])

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
        return torch.cat([point.latent, turn, point.physics])

    def whiten(self, z: Float[Tensor, " latent"]) -> Float[Tensor, " latent"]:
        """Inverse of z = mean + L y."""
        return torch.linalg.solve(self.whitening, z - self.centre)

    def latent(self, y: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch latent"]:
        """The shape model's latent numbers z of whitened ones."""
        return self.centre + y @ self.whitening.T

    def shape(self, point: Point) -> Float[Tensor, "point 3"]:
        """Points (um) in the shape's own frame."""
        return self.model.decode(self.latent(point.latent))

    def tissue_at(self, point: Point) -> Tissue:
        """The tissue with its free quantities at the point."""
        tissue = self.tissue
        for quantity, x in zip(self.free, point.physics, strict=True):
            tissue = quantity.scaled(tissue, torch.exp(quantity.spread * x))
        return tissue

    def values(self, point: Point) -> Mapping[str, float]:
        """The free quantities by label, in units of Tissue."""
        tissue = self.tissue_at(point)
        return {quantity.label: float(quantity.value(tissue)) for quantity in self.free}

    def operators(
        self, point: Point, span: Span, step: Float[Tensor, " unknown"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Reduced laplacian, moments and mean a step from the point, on the frozen span.

        Differentiable in the step. The moments come in the target's frame: turning them turns the
        shape, for any gradient waveform, and costs nothing.
        """
        there = self.moved(point, step)
        reduced = project(span, self.shape(there), self.tissue_at(there))
        moments = torch.einsum("ab,bjk->ajk", there.rotation, reduced.moments)
        return reduced.laplacian, moments, reduced.mean

    def tangents(self, point: Point, span: Span) -> ReducedModel:
        """d(operators)/d(step) at zero along each component of a step, leading axis; span frozen.

        A turn changes the moments alone: they turn like positions.
        """
        latent, turn, physics = self.parts
        size = latent + turn + physics
        rigid = set(range(latent, latent + turn))
        moving = [i for i in range(size) if i not in rigid]
        unit = torch.eye(size, dtype=torch.float64)

        def where(step: Tensor) -> tuple[Tensor, Tissue]:
            there = self.moved(point, step)
            return self.shape(there), self.tissue_at(there)

        own = push_forward(span, where, torch.zeros(size, dtype=torch.float64), unit[moving])
        result = ReducedModel(*(x.new_zeros(size, *x.shape[1:]) for x in vars(own).values()))
        for part, values in zip(vars(result).values(), vars(own).values(), strict=True):
            part[moving] = values
        if turn:
            here = project(span, self.shape(point), self.tissue_at(point)).moments
            e = torch.eye(3, dtype=torch.float64)
            # d(Q exp([w]x) x)/dw_a = Q (e_a x x)
            cross = torch.linalg.cross(e[:, None].expand(3, 3, 3), e.expand(3, 3, 3))
            result.moments[latent : latent + turn] = torch.einsum("acb,cjk->abjk", cross, here)
        moments = torch.einsum("ab,dbjk->dajk", point.rotation, result.moments)
        return ReducedModel(result.laplacian, moments, result.mean)


def _refuse_anisotropic(tissue: Tissue) -> None:
    unit = torch.eye(3, dtype=tissue.diffusivity.dtype)
    scalar = tissue.diffusivity.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] * unit
    if not torch.allclose(tissue.diffusivity, scalar, rtol=1e-9, atol=0):
        raise ConfigError(
            "reconstruct: a diffusion tensor is given in the laboratory's frame, and with an "
            "unknown pose the shape turns against it, which is not modelled. Give a scalar "
            "diffusivity or `pose: known`."
        )
