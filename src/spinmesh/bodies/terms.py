"""What a reduced model depends on a tissue by: one operator for each number that may change."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spinmesh.errors import ConfigError
from spinmesh.fem import Patterns
from spinmesh.reduction import ReducedModel, Span, centred_cells, integrals
from spinmesh.tissue import Tissue

# Numbers of two tissues that are closer than this are one.
EQUAL = 1e-9
Pair = tuple[int, int | None]
REDUCE = "Reduce the mesh again with this tissue (spinmesh reduce)."


class Terms(NamedTuple):
    """L = sum_j stretch_j decay_j + sum_m rate_m mass_m, the masses of all materials making 1.

    Compartments of equal diffusivity, T2 and density are one material.
    """

    decay: Float[Tensor, "term mode mode"]  # 1/ms: stiffness of each material, then fluxes
    mass: Float[Tensor, "material mode mode"]  # of all materials but the first
    moments: Float[Tensor, "3 mode mode"]  # um
    mean: Float[Tensor, "2 mode"]  # um^(3/2): of what is observed, and of the rest

    def model(self, change: Change) -> ReducedModel:
        """With one mean if all is observed."""
        laplacian = torch.einsum("t,tij->ij", change.stretch, self.decay)
        laplacian = laplacian + change.rates[0] * torch.eye(len(laplacian)).double()
        slower = change.rates[1:] - change.rates[0]
        laplacian = laplacian + torch.einsum("m,mij->ij", slower, self.mass)
        return ReducedModel(laplacian, self.moments, self.mean[: 1 + bool(self.mean[1].any())])

    def leading(self, size: int) -> Terms:
        """On the first functions."""
        decay, mass, moments = (each[:, :size, :size] for each in self[:3])
        return Terms(decay, mass, moments, self.mean[:, :size])

    def on(self, vectors: Float[Tensor, "mode fewer"]) -> Terms:
        """On orthonormal combinations of the functions."""
        decay, mass, moments = (vectors.T @ each @ vectors for each in self[:3])
        return Terms(decay, mass, moments, self.mean @ vectors)


def terms(span: Span, tissue: Tissue) -> Terms:
    """On a mass-orthonormal span; not differentiable."""
    mesh, space, vectors = span.mesh, span.space, span.vectors.numpy()
    patterns = Patterns.of(space)
    material = _materials(tissue)[torch.searchsorted(torch.tensor(tissue.labels), mesh.compartment)]
    with torch.no_grad():
        cells = centred_cells(span, mesh.points, tissue)
        rows = integrals(space, span.core, cells.mass) @ span.vectors

    def projected(matrix) -> Tensor:
        product = torch.from_numpy(vectors.T @ (matrix @ vectors))
        return (product + product.T) / 2

    def inside(number: int, blocks: Tensor) -> Tensor:
        return projected(patterns.tets.filled((material == number)[:, None, None] * blocks))

    numbers = range(int(_materials(tissue).max()) + 1)
    decay = [inside(number, cells.stiffness) for number in numbers]
    for kind in _fluxes(tissue):
        membrane = cells.membrane * _of_kind(kind, tissue, space.interface_labels)
        wall = cells.wall * _of_kind(kind, tissue, space.wall_label[:, None])
        decay.append(projected(patterns.flux(membrane, wall)))
    mass = [inside(number, cells.mass) for number in numbers[1:]]
    moments = [projected(patterns.tets.filled(block)) for block in cells.moments.unbind(1)]
    nothing = rows.new_zeros(0, span.size, span.size)
    core = rows.sum(0) if span.core is None else rows[:-1].sum(0)
    mean = torch.stack([core, rows.sum(0) - core if span.core is not None else 0 * core])
    return Terms(
        torch.stack(decay), torch.stack(mass) if mass else nothing, torch.stack(moments), mean
    )


class Change(NamedTuple):
    """What multiplies the terms of one tissue in another one."""

    stretch: Float[Tensor, " term"]  # of the decay
    rates: Float[Tensor, " material"]  # 1/ms, of the masses
    faster: float  # 1/ms, by which all water relaxes faster at least, per stretched time
    through: bool  # whether membranes or walls let water through

    @classmethod
    def between(cls, before: Tissue, after: Tissue) -> Change:
        """Of two tissues that differ in factors of the diffusivities and permeabilities, and in T2.

        Raises ConfigError if they differ otherwise, or where they were equal before.
        """
        if after.labels != before.labels:
            raise ConfigError(f"pack: has compartments {before.labels}, the tissue {after.labels}.")
        if not torch.allclose(before.density, after.density, rtol=EQUAL, atol=0):
            raise ConfigError(
                f"pack: was made for densities {before.density.tolist()}, not for "
                f"{after.density.tolist()}. {REDUCE}"
            )
        material, stretch, rates, faster = _materials(before), [], [], []
        for number in range(int(material.max()) + 1):
            rows = material == number
            old, new, t2 = before.diffusivity[rows][0], after.diffusivity[rows], after.t2[rows]
            factor = float(new[0].trace() / old.trace())
            if not torch.allclose(new, factor * old.expand_as(new), rtol=EQUAL, atol=EQUAL):
                raise _not_a_factor("the diffusivity", before, rows)
            if not torch.allclose(t2, t2[0].expand_as(t2), rtol=EQUAL, atol=0):
                raise _not_a_factor("T2", before, rows)
            stretch.append(factor)
            rates.append(float(1 / t2[0]))
            faster.append(rates[-1] - factor * float(1 / before.t2[rows][0]))
        fluxes = _of_fluxes(before, after)
        terms, rate = (torch.tensor(x, dtype=torch.float64) for x in ([*stretch, *fluxes], rates))
        return cls(terms, rate, min(faster), bool(fluxes))


def _of_fluxes(before: Tissue, after: Tissue) -> list[float]:
    walls = {*before.wall_permeability, *after.wall_permeability}
    pairs: set[Pair] = {*before.permeability, *after.permeability}
    pairs |= {(label, None) for label in walls}
    factors: dict[tuple[bool, float], float] = {}
    for pair in pairs:
        (wall, old), (_, new) = _flux(before, *pair), _flux(after, *pair)
        factor = new / old if old > 0 else float(new > 0)
        known = factors.setdefault((wall, old), factor)
        if abs(factor - known) > EQUAL * known or (old == 0 and new > 0):
            where = f"the wall of {pair[0]}" if pair[1] is None else f"the membrane {pair}"
            raise ConfigError(
                f"pack: was made for a permeability of {old:g} um/ms of {where}; what was sealed "
                f"stays so, and what was equal changes by one factor. {REDUCE}"
            )
    return [factors[kind] for kind in _fluxes(before)]


def _not_a_factor(what: str, before: Tissue, rows: Tensor) -> ConfigError:
    labels = [label for label, row in zip(before.labels, rows.tolist(), strict=True) if row]
    return ConfigError(
        f"pack: {what} of compartments {labels}, which were of one material, can be changed by one "
        f"factor alone. {REDUCE}"
    )


def _materials(tissue: Tissue) -> Int[Tensor, " compartment"]:
    """Number of each compartment's material."""
    columns = [tissue.diffusivity.flatten(1), tissue.t2[:, None], tissue.density[:, None]]
    return torch.unique(torch.cat(columns, 1).detach(), dim=0, return_inverse=True)[1]


def _flux(tissue: Tissue, label: int, other: int | None = None) -> tuple[bool, float]:
    """Whether a wall, and its permeability (um/ms)."""
    if other is None:
        return True, float(tissue.wall_permeability.get(label, 0.0))
    return False, float(tissue.between(label, other))


def _fluxes(tissue: Tissue) -> list[tuple[bool, float]]:
    """The kinds of membranes and walls that let water through."""
    kinds = {_flux(tissue, *pair) for pair in tissue.permeability}
    kinds |= {_flux(tissue, label) for label in tissue.wall_permeability}
    return sorted(kind for kind in kinds if kind[1] > 0)


def _of_kind(
    kind: tuple[bool, float], tissue: Tissue, labels: Int[Tensor, "face side"]
) -> Float[Tensor, "face 1 1"]:
    """1 for the faces of one kind, else 0."""
    unique, number = torch.unique(labels, dim=0, return_inverse=True)
    chosen = [_flux(tissue, *pair) == kind for pair in unique.tolist()]
    return torch.tensor(chosen, dtype=torch.float64)[number][:, None, None]
