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
    beaded,
    bent,
    fanned,
    resized,
    stretched,
    twisted,
    undulating,
    unfolded,
)
from spinmesh.mesh.tetmesh import TetMesh, tet_quality
from spinmesh.progress import progress
from spinmesh.settings.mesh import SHAPE_PARAMETERS, Mesh, ShapeKey
from spinmesh.stored import quantity, store
from spinmesh.units import rad_from_deg


def _name_and_unit(key: ShapeKey) -> tuple[str, str]:
    """Of a configuration's key; the unit is that of the value as it is written there."""
    stem, _, unit = key.rpartition("_")
    return (stem, unit) if unit in ("um", "rad", "deg") else (key, "1")


# Name -> (unit, value that leaves the template's shape alone; None = the template's own size).
PARAMETER_TABLE: dict[str, tuple[str, float | None]] = {
    name: ("rad" if unit == "deg" else unit, parameter.neutral)
    for key, parameter in SHAPE_PARAMETERS.items()
    for name, unit in [_name_and_unit(key)]
}
PARAMETERS = tuple(PARAMETER_TABLE)

_SIZE = ("radius", "length", "ellipticity")
# Families vary size by radius and length; no family draws the axis scalings.
_DRAWN = tuple(name for name in PARAMETERS if name not in ("scale_x", "scale_y", "scale_z"))
FAMILIES: dict[str, tuple[str, ...]] = {
    "straight": _SIZE,
    "bend_twist": (*_SIZE, "bend", "bend_direction", "twist"),
    "beading": (*_SIZE, "bead_amplitude", "bead_count", "bead_phase"),
    "fanning": (*_SIZE, "fan_angle", "fan_height", "fan_direction"),
    "undulating": (*_SIZE, "undulation_amplitude", "undulation_count"),
    "combined": _DRAWN,
}

# A full bend (beta = 1) displaces the tip by this many template radii (ReMiDi uses "order ten").
BEND_WIDTHS = 10.0
# Shapes that a process checks before it reports.
AT_ONCE = 500


def internal_values(settings: Mapping[ShapeKey, Any]) -> dict[str, Any]:
    """Values or [low, high] of a configuration, under the names and in the units of PARAMETERS."""
    values = {}
    for key, value in settings.items():
        name, unit = _name_and_unit(key)
        values[name] = rad_from_deg(value) if unit == "deg" else value
    return values


def neutral_parameters(template: TetMesh) -> Float[Tensor, " parameter"]:
    """The parameters that reproduce the template."""
    radius, length = _template_size(template)
    size = {"radius": radius, "length": length}
    values = [size[name] if v is None else v for name, (_, v) in PARAMETER_TABLE.items()]
    return torch.tensor(values, dtype=torch.float64)


def deform(
    template: TetMesh, parameters: Float[Tensor, "... parameter"]
) -> Float[Tensor, "... point 3"]:
    """Node coordinates (um) of the deformed template; differentiable in the parameters.

    Parameters in the order of `PARAMETERS`. The maps of `mesh.maps`, one after the other: a cell of
    another size and ellipticity is beaded, bent, undulates, is twisted, fans and is stretched.
    """
    p = {name: parameters[..., i, None] for i, name in enumerate(PARAMETERS)}
    radius, length = _template_size(template)
    t = template.points[:, 2] / length
    points = resized(template.points, p["radius"] / radius, p["ellipticity"])
    points = beaded(points, t, p["bead_amplitude"], p["bead_count"], p["bead_phase"])
    points = bent(points, t, BEND_WIDTHS * p["radius"] * p["bend"], p["bend_direction"])
    points = undulating(points, t, p["undulation_amplitude"], p["undulation_count"])
    points = twisted(points, t, p["twist"])
    points = fanned(points, t, p["length"], p["fan_angle"], p["fan_height"], p["fan_direction"])
    return stretched(points, p["scale_x"], p["scale_y"], p["scale_z"])


def _template_size(template: TetMesh) -> tuple[float, float]:
    radius = float(template.points[:, :2].norm(dim=1).max())
    return radius, float(template.points[:, 2].max())


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
        values = {**{name: values[name] for name in PARAMETERS if name not in _SIZE}, **values}
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

    unit = torch.from_numpy(qmc.LatinHypercube(len(_DRAWN), rng=rng).random(count))
    values = neutral_parameters(template).repeat(count, 1)
    for i, name in enumerate(_DRAWN):
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
