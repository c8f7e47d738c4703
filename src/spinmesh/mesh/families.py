"""Families of axon shapes: closed-form deformations of the template, and seeded samples of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.errors import ConfigError, MeshError
from spinmesh.machine import side_by_side
from spinmesh.mesh.maps import (
    PARAMETER_TABLE,
    PARAMETERS,
    deform,
    name_and_unit,
    neutral_parameters,
    unfolded,
)
from spinmesh.mesh.tetmesh import TetMesh, tet_quality
from spinmesh.progress import progress
from spinmesh.settings.mesh import DRAWN, Mesh, ShapeKey
from spinmesh.stored import quantity, store
from spinmesh.units import rad_from_deg

# The parameters that each family draws.
FAMILIES = {family: tuple(name_and_unit(key)[0] for key in keys) for family, keys in DRAWN.items()}
# Shapes that a process checks before it reports.
AT_ONCE = 500


def internal_values(settings: Mapping[ShapeKey, Any]) -> dict[str, Any]:
    """Values or [low, high] of a configuration, under the names and in the units of PARAMETERS."""
    values = {}
    for key, value in settings.items():
        name, unit = name_and_unit(key)
        values[name] = rad_from_deg(value) if unit == "deg" else value
    return values


@store("spinmesh/substrates", version=3, stage="mesh")
@dataclass(frozen=True, eq=False)
class Substrates:
    """A table of shapes on one template.

    A shape is the template deformed by its parameters: its points are made where they are needed,
    in half a millisecond, so that a table of any size takes 150 bytes a shape. Shapes that are no
    deformation of the template (samples of a posterior) bring their points as `given`.
    """

    template: TetMesh
    parameters: Float[Tensor, "substrate parameter"] = quantity("see PARAMETER_TABLE")
    names: tuple[str, ...] = quantity()  # of the parameters
    family: tuple[str, ...] = quantity(axis="substrate")
    split: tuple[str, ...] = quantity(axis="substrate")  # train, validation or test
    quality: Float[Tensor, " substrate"] | None = quantity(default=None)  # of each one's worst tet
    given: Float[Tensor, "substrate point 3"] | None = quantity("um", default=None)

    def __post_init__(self) -> None:
        if len(self.parameters) == 0:
            raise MeshError("substrate table: empty. Raise a family's count or another split.")
        columns = (self.parameters, self.family, self.split, self.quality, self.given)
        lengths = {len(column) for column in columns if column is not None}
        if len(lengths) != 1:
            raise MeshError(f"substrate table: columns of lengths {sorted(lengths)}.")
        if self.given is None and self.names != PARAMETERS:
            raise MeshError("substrate table: give the points of shapes that `deform` cannot make.")

    def __len__(self) -> int:
        return len(self.parameters)

    @property
    def points(self) -> Float[Tensor, "substrate point 3"]:
        """Points (um) of all shapes, made anew each time: of a large table ask for some."""
        return torch.stack([self.mesh(index).points for index in range(len(self))])

    def mesh(self, index: int) -> TetMesh:
        """The mesh of one substrate."""
        # One at a time, so that no bit depends on which others are made with it.
        given, name = self.given, f"substrate {index} ({self.family[index]})"
        points = deform(self.template, self.parameters[index]) if given is None else given[index]
        return self.template.with_points(points, name)

    def take(self, index: list[int]) -> Substrates:
        """The substrates at `index`, in that order."""
        family, split = (tuple(words[i] for i in index) for words in (self.family, self.split))
        quality, given = (x if x is None else x[index] for x in (self.quality, self.given))
        rows = (self.parameters[index], self.names, family, split, quality, given)
        return Substrates(self.template, *rows)

    def parts(self, most: int) -> Iterator[Substrates]:
        """The table in pieces of at most `most` substrates."""
        for start in range(0, len(self), most):
            yield self.take(list(range(start, min(start + most, len(self)))))

    def select(self, split: str) -> Substrates:
        """The substrates of one split; MeshError if it has none."""
        return self.take([i for i, s in enumerate(self.split) if s == split])


def sample_substrates(
    template: TetMesh,
    families: Mapping[str, int],
    ranges: Mapping[str, tuple[float, float]],
    split: Mapping[str, float],
    seed: int,
) -> Substrates:
    """Latin-hypercube samples of each family's parameters, shuffled into splits.

    `ranges` gives [low, high] in internal units for any of `PARAMETERS`; the others stay neutral.
    Raises MeshError naming the substrate if a deformation folds a tet; ConfigError for an unknown
    family or parameter.
    """
    unknown = [name for name in (*families, *ranges) if name not in FAMILIES | PARAMETER_TABLE]
    if unknown:
        raise ConfigError(f"mesh: unknown {unknown}. Families: {list(FAMILIES)}.")
    names = tuple(family for family, count in families.items() for _ in range(count))
    if not names:
        raise MeshError("substrate table: every family has count 0. Give at least one shape.")
    rng = np.random.default_rng(seed)
    parameters = torch.cat(
        [
            _sample_family(template, FAMILIES[family], ranges, count, rng)
            for family, count in families.items()
            if count > 0
        ]
    )
    splits = _splits(split, len(names), rng)
    return checked(Substrates(template, parameters, PARAMETERS, names, splits))


def substrates_of(template: TetMesh, settings: Mesh, seed: int) -> Substrates:
    """The table of shapes that the settings ask for."""
    families = {str(family): count for family, count in settings.families.items()}
    ranges, split = internal_values(settings.ranges), settings.split.model_dump()
    return sample_substrates(template, families, ranges, split, seed)


def single_substrate(
    template: TetMesh, values: Mapping[str, float], family: str = "target"
) -> Substrates:
    """A table of one shape with the given parameters; the others stay neutral."""
    parameters = neutral_parameters(template)
    for name, value in values.items():
        parameters[PARAMETERS.index(name)] = value
    return checked(Substrates(template, parameters[None], PARAMETERS, (family,), ("test",)))


def checked(table: Substrates) -> Substrates:
    """The table with the quality of each shape's worst tet, one shape in memory at a time.

    Each thread's process looks at some. Raises MeshError with the substrate and the parameter to
    blame if a tet is turned.
    """
    template = table.template
    neutral = dict(zip(PARAMETERS, neutral_parameters(template).tolist(), strict=True))
    units = {name: unit for name, (unit, _) in PARAMETER_TABLE.items()}

    def points_of(values: Mapping[str, float]) -> Tensor:
        return deform(template, template.points.new_tensor([values[name] for name in PARAMETERS]))

    def quality(index: int) -> float:
        values = dict(zip(PARAMETERS, table.parameters[index].tolist(), strict=True))
        # Sizes last: a thick cell may fold in a fan, but then the fan is what was wanted less of.
        size = FAMILIES["straight"]
        values = {**{name: values[name] for name in PARAMETERS if name not in size}, **values}
        mesh = unfolded(table.mesh(index), points_of, values, neutral, units)
        return float(tet_quality(mesh).min())

    def qualities(part: int) -> list[float]:
        return [quality(index) for index in range(len(table))[part * AT_ONCE :][:AT_ONCE]]

    count = -(-len(table) // AT_ONCE)
    parts = side_by_side(qualities, count)
    parts = progress(parts, "check shapes", total=count) if count > 1 else parts
    worst = [value for part in parts for value in part]
    return replace(table, quality=torch.tensor(worst, dtype=torch.float64))


def _sample_family(
    template: TetMesh,
    free: tuple[str, ...],
    ranges: Mapping[str, tuple[float, float]],
    count: int,
    rng: np.random.Generator,
) -> Float[Tensor, "count parameter"]:
    # scipy.stats takes two seconds to import, and most users of this module never sample.
    from scipy.stats import qmc

    drawn = FAMILIES["combined"]
    unit = torch.from_numpy(qmc.LatinHypercube(len(drawn), rng=rng).random(count))
    values = neutral_parameters(template).repeat(count, 1)
    for i, name in enumerate(drawn):
        if name in free and name in ranges:
            low, high = ranges[name]
            values[:, i] = low + (high - low) * unit[:, i]
    return values


def _splits(split: Mapping[str, float], count: int, rng: np.random.Generator) -> tuple[str, ...]:
    bounds = np.floor(np.cumsum(list(split.values())) * count + 0.5).astype(int)
    labels = np.array(list(split))[np.searchsorted(bounds, np.arange(count), side="right")]
    return tuple(str(label) for label in rng.permutation(labels))


def rotation_matrix(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation by |vector| rad about `vector` (exponential map); smooth at zero."""
    zero = torch.zeros_like(vector[..., 0])
    x, y, z = vector.unbind(-1)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1)
    return torch.linalg.matrix_exp(cross.reshape(*vector.shape[:-1], 3, 3))
