"""What fills each compartment, and what its membranes let through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.errors import ConfigError
from spinmesh.settings import TissueSettings
from spinmesh.settings.physics import LEAST_T2

Interface = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Tissue:
    """Material of each compartment, in the order of `labels`, and its membranes.

    Every tensor may carry a gradient. `permeability` is keyed by pairs of labels (both orders
    mean the same membrane); `wall_permeability` is the outer wall's surface relaxivity.
    """

    labels: tuple[int, ...]
    diffusivity: Float[Tensor, "compartment 3 3"]  # um^2/ms
    t2: Float[Tensor, " compartment"]  # ms, inf allowed
    density: Float[Tensor, " compartment"]  # relative spin density
    permeability: Mapping[Interface, float | Tensor] = field(default_factory=dict)  # um/ms
    wall_permeability: Mapping[int, float | Tensor] = field(default_factory=dict)  # um/ms

    def __post_init__(self) -> None:
        count = len(self.labels)
        if not count == len(self.diffusivity) == len(self.t2) == len(self.density):
            raise ConfigError(
                f"tissue: {len(self.diffusivity)} diffusivities, {len(self.t2)} T2 and "
                f"{len(self.density)} densities for compartments {self.labels}."
            )
        if not bool((self.t2 >= LEAST_T2).all()):
            raise ConfigError(
                f"tissue: t2 is {self.t2.tolist()} ms; give numbers >= {LEAST_T2} (inf for none)."
            )
        if not bool(((self.density > 0) & torch.isfinite(self.density)).all()):
            raise ConfigError(
                f"tissue: density is {self.density.tolist()}; give finite numbers > 0."
            )
        for label, tensor in zip(self.labels, self.diffusivity.detach(), strict=True):
            finite = bool(torch.isfinite(tensor).all())
            symmetric = finite and torch.allclose(tensor, tensor.T, rtol=1e-10)
            if not symmetric or not bool((torch.linalg.eigvalsh(tensor) > 0).all()):
                raise ConfigError(
                    f"tissue: diffusivity of compartment {label} is not finite, symmetric and "
                    f"positive definite: {tensor.tolist()}. Give a number > 0 or such a 3x3 tensor."
                )
        membranes: list[tuple[tuple[int, int | None], float | Tensor]] = [
            *self.permeability.items(),
            *(((label, None), kappa) for label, kappa in self.wall_permeability.items()),
        ]
        for (first, second), kappa in membranes:
            what = f"wall of {first}" if second is None else f"interface {(first, second)}"
            if first == second:
                raise ConfigError(f"tissue: {what} must lie between two different compartments.")
            for other in {first, second} - {None, *self.labels}:
                raise ConfigError(f"tissue: {what}: {other} is not among {self.labels}.")
            if not 0 <= (value := float(torch.as_tensor(kappa).detach())) < float("inf"):
                raise ConfigError(
                    f"tissue: permeability of {what} is {value:g} um/ms; give a finite number "
                    ">= 0, or one label to both compartments if nothing is between them."
                )

    def to(self, device: str) -> Tissue:
        """The same tissue on another device; permeabilities follow when they are used."""
        return replace(
            self,
            diffusivity=self.diffusivity.to(device),
            t2=self.t2.to(device),
            density=self.density.to(device),
        )

    @classmethod
    def uniform(
        cls, diffusivity: float | Tensor = 2.0, t2: float | Tensor = float("inf"), labels=(1,)
    ) -> Tissue:
        """The same scalar or tensor diffusivity (um^2/ms) and T2 (ms) everywhere, sealed."""
        tensor = torch.as_tensor(diffusivity, dtype=torch.float64)
        tensor = tensor * torch.eye(3, dtype=torch.float64) if tensor.ndim == 0 else tensor
        count = len(labels)
        return cls(
            tuple(labels),
            tensor.expand(count, 3, 3),
            torch.as_tensor(t2, dtype=torch.float64).expand(count),
            torch.ones(count, dtype=torch.float64),
        )

    @classmethod
    def from_settings(cls, settings: TissueSettings | Mapping[str, Any]) -> Tissue:
        """The tissue (float64) that the settings, or a section of a configuration, describe."""
        if isinstance(settings, Mapping):
            settings = TissueSettings(**settings)
        labels = tuple(sorted(settings.compartments))
        compartments = [settings.compartments[label] for label in labels]

        def column(values: Any) -> Tensor:
            return torch.tensor(values, dtype=torch.float64)

        diffusivity = [column(c.diffusivity_um2_per_ms) for c in compartments]
        isotropic = torch.eye(3, dtype=torch.float64)
        return cls(
            labels,
            torch.stack([d * isotropic if d.ndim == 0 else d for d in diffusivity]),
            column([c.t2_ms for c in compartments]),
            column([c.density for c in compartments]),
            {i.between: i.permeability_um_per_ms for i in settings.interfaces},
            {w.compartment: w.permeability_um_per_ms for w in settings.walls},
        )

    @property
    def settings(self) -> TissueSettings:
        """What `from_settings` makes it from."""
        columns = (self.labels, self.diffusivity.tolist(), self.t2.tolist(), self.density.tolist())
        keys = ("diffusivity_um2_per_ms", "t2_ms", "density")
        compartments = {
            label: dict(zip(keys, values, strict=True))
            for label, *values in zip(*columns, strict=True)
        }
        interfaces = [
            {"between": pair, "permeability_um_per_ms": float(kappa)}
            for pair, kappa in self.permeability.items()
        ]
        walls = [
            {"compartment": label, "permeability_um_per_ms": float(kappa)}
            for label, kappa in self.wall_permeability.items()
        ]
        plain = {"compartments": compartments, "interfaces": interfaces, "walls": walls}
        return TissueSettings.checked(plain, "tissue")

    def filling(self, labels: tuple[int, ...]) -> Tissue:
        """The tissue for a mesh with these labels: a single material fills all of them.

        Raises ConfigError if there are several materials, and other labels than theirs.
        """
        if labels == self.labels:
            return self
        if len(self.labels) > 1:
            raise ConfigError(
                f"tissue: its compartments are {self.labels}, those of the mesh {labels}. Give "
                "each compartment of the mesh a material, or one material for all."
            )
        count = len(labels)
        return replace(
            self,
            labels=labels,
            diffusivity=self.diffusivity.expand(count, 3, 3),
            t2=self.t2.expand(count),
            density=self.density.expand(count),
            wall_permeability={
                label: kappa for label in labels for kappa in self.wall_permeability.values()
            },
        )

    def between(self, first: int, second: int) -> float | Tensor:
        """Permeability (um/ms) of the membrane between two compartments; 0 if not given."""
        given = self.permeability
        return given.get((first, second), given.get((second, first), 0.0))
