"""Stage 1 of the configuration: template, families, target, and what a lab has of its own."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from spinmesh.settings.bundle import PackedBundle
from spinmesh.settings.physics import TissueSettings
from spinmesh.settings.setting import Range, Setting


class Parameter(NamedTuple):
    """A parameter of a shape: what it does, its neutral value, and bounds beyond which it folds."""

    meaning: str
    neutral: float | None  # leaves the template's shape alone; None: the template's own size
    low: float | None = None  # None: no bound
    high: float | None = None


SHAPE_PARAMETERS = {
    "radius_um": Parameter("of the cross-section", None, 0.01),
    "length_um": Parameter("along the centre line", None, 0.01),
    "ellipticity": Parameter("e: the cross-section's axes are scaled by exp(+-e/2)", 0.0, -2, 2),
    "bend": Parameter("the tip is displaced by 10 radii times this", 0.0, 0, 0.5),
    "bend_direction_rad": Parameter("where to, around the axis", 0.0),
    "twist_rad": Parameter("of one end against the other", 0.0),
    "bead_amplitude": Parameter("of the radius, relative to it", 0.0, 0, 0.9),
    "bead_count": Parameter("beads along the length", 1.0, 0),
    "bead_phase_rad": Parameter("where the first one stands", 0.0),
    "fan_angle_deg": Parameter("by which the centre line turns", 0.0, 0, 90),
    "fan_height": Parameter("where it turns, as a fraction of the length", 0.5, 0, 1),
    "fan_direction_rad": Parameter("where to, around the axis", 0.0),
    "undulation_amplitude_um": Parameter("of the centre line's wave", 0.0, 0),
    "undulation_count": Parameter("waves along the length", 1.0, 0),
    "scale_x": Parameter("factor along x, after all else", 1.0, 0.01),
    "scale_y": Parameter("factor along y, after all else", 1.0, 0.01),
    "scale_z": Parameter("factor along z, after all else", 1.0, 0.01),
}
_SIZE = ("radius_um", "length_um", "ellipticity")
# The parameters that each family of shapes draws. Size varies by radius and length: none scales.
DRAWN = {
    "straight": _SIZE,
    "bend_twist": (*_SIZE, "bend", "bend_direction_rad", "twist_rad"),
    "beading": (*_SIZE, "bead_amplitude", "bead_count", "bead_phase_rad"),
    "fanning": (*_SIZE, "fan_angle_deg", "fan_height", "fan_direction_rad"),
    "undulating": (*_SIZE, "undulation_amplitude_um", "undulation_count"),
    "combined": tuple(key for key in SHAPE_PARAMETERS if not key.startswith("scale_")),
}
if TYPE_CHECKING:
    Family = str
    ShapeKey = str
else:
    Family = Literal[tuple(DRAWN)]
    ShapeKey = Literal[tuple(SHAPE_PARAMETERS)]

# Defaults, copied by pydantic for every configuration.
FAMILIES: dict[Family, int] = {name: 60 for name in DRAWN if name != "undulating"}
DEMO_TARGET: dict[ShapeKey, float] = {"radius_um": 1.7, "length_um": 20.0, "bend": 0.1}
RANGES: dict[ShapeKey, tuple[float, float]] = {
    "radius_um": (1.0, 3.0),
    "length_um": (20.0, 20.0),
    "ellipticity": (0.0, 0.4),
    "bend": (0.0, 0.3),
    "bend_direction_rad": (0.0, 6.2832),
    "twist_rad": (0.0, 1.5),
    "bead_amplitude": (0.0, 0.3),
    "bead_count": (1.0, 2.0),
    "bead_phase_rad": (0.0, 6.2832),
    "fan_angle_deg": (0.0, 60.0),
    "fan_height": (0.25, 0.75),
    "fan_direction_rad": (0.0, 6.2832),
    "undulation_amplitude_um": (0.0, 0.0),
    "undulation_count": (1.0, 1.0),
}


class SweptDisk(Setting):
    """A cylinder of concentric rings swept in layers: the template that substrates deform."""

    rings: PositiveInt = 2
    """Concentric rings of 6, 12, 18... sectors in the cross-section."""
    layers: PositiveInt = 10
    """Layers of tetrahedra along the axis."""
    radius_um: PositiveFloat = 2.0
    """Radius of the undeformed template."""
    length_um: PositiveFloat = 20.0
    """Length of the undeformed template."""
    order: Literal[1, 2] = 2
    """1: straight 4-node tets; 2: curved 10-node tets with mid-edge nodes on the rings' circles."""

    def refined(self, factor: int) -> SweptDisk:
        """The same cylinder with `factor` times as many rings and layers."""
        return self.replace(rings=self.rings * factor, layers=self.layers * factor)


class Split(Setting):
    """Fractions of the substrates; they add up to 1."""

    train: NonNegativeFloat = 0.8
    """Seen by the networks."""
    validation: NonNegativeFloat = 0.1
    """Chooses when training stops."""
    test: NonNegativeFloat = 0.1
    """Seen by nothing but the final score."""

    @model_validator(mode="after")
    def _adds_up(self) -> Split:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train + validation + test is {total:g}; make it 1")
        return self


class TargetShape(Setting):
    """The shape to reconstruct in the demonstration: in no training set, on a finer mesh."""

    shape: dict[ShapeKey, float] = DEMO_TARGET
    """Its parameters; those left out stay at the template's value."""
    refine: PositiveInt = 2
    """Rings and layers of its mesh, as a multiple of the template's."""


class MeshOptions(Setting):
    """How an input of any kind becomes tetrahedra: the options of `spinmesh mesh`."""

    scale_to_um: PositiveFloat | None = None
    """What the files' lengths are multiplied by to become um (1e6 for m, 1e3 for mm); null: those
    of the format, if the shape is then of a plausible size."""
    size_um: PositiveFloat | None = None
    """Longest edge away from the surfaces; null: twice their median edge."""
    box: bool = False
    """Water in a box around all."""
    margin_um: PositiveFloat | None = None
    """From the surfaces to the box; null: a tenth of its length."""
    tight_um: PositiveFloat | None = None
    """Water within this distance of the surfaces; null: none."""
    cut_um: tuple[float, float, float, float, float, float] | Literal["cell"] | None = None
    """Box whose walls cut all flat: its lowest and highest corner; `cell`: that of the file (CACTUS
    and DiSCo strands, dmipy-sim substrates); null: nothing is cut."""
    label_key: str | None = None
    """Of tetrahedra: cell data that holds the compartments; null: the usual names."""
    compartments: tuple[NonNegativeInt, ...] | None = None
    """Labels of the inputs, of what lies within a part of the same input, and last of the water; 0
    stays empty; null: 1, 2, ..."""
    curved: bool = False
    """Tets of ten nodes, on the smooth surface that the corners of membranes were taken from."""
    time_limit_s: PositiveFloat | None = None
    """After which a mesher is ended; null: an hour, 45 s for the repair of a broken surface."""
    memory_limit_gb: PositiveFloat | None = None
    """Address space of a mesher; null: 80 % of the machine's memory."""

    @property
    def water(self) -> bool:
        """Whether there is water around the inputs."""
        return self.box or self.tight_um is not None

    @model_validator(mode="after")
    def _one_water(self) -> MeshOptions:
        if self.box and self.tight_um is not None:
            raise ValueError("box excludes tight; give one outer surface of the water")
        if self.margin_um is not None and not self.box:
            raise ValueError("margin is the box's; give box, or tight instead")
        cell = self.cut_um if isinstance(self.cut_um, tuple) else (0, 0, 0, 1, 1, 1)
        if not all(-math.inf < a < b < math.inf for a, b in zip(cell[:3], cell[3:], strict=True)):
            raise ValueError("cut: give the lowest corner first, as x,y,z,x,y,z in um")
        return self


def safe_name(words: str) -> str:
    """The words as a name of files: letters, digits, dots and dashes."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", words).strip("._-") or "input"


def _texts(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _entries(value: Any) -> Any:
    """A path or an entry alone is a list of one; a path alone is an entry."""
    entries = value if isinstance(value, list | tuple) else [] if value is None else [value]
    return tuple({"path": entry} if isinstance(entry, str) else entry for entry in entries)


class MeshInput(MeshOptions):
    """A shape of your own, from any file that `spinmesh mesh` reads, or a packed bundle."""

    FILE_KEYS: ClassVar = ("path",)
    path: Annotated[
        tuple[str, ...], BeforeValidator(_texts, json_schema_input_type=str | tuple[str, ...])
    ] = ()
    """A file, or several whose contents become compartments; a folder or a pattern such as
    cells/*.swc stands for an entry with the same options for each file in it."""
    bundle: PackedBundle | None = None
    """In place of a path: axons and water made by these keys; give a name."""
    count: PositiveInt = 1
    """Of bundles, drawn anew each; if several, they are entries called name-1, name-2, ..."""
    row: NonNegativeInt = 0
    """Which of them this is; the run counts them."""
    name: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Of its files in results/<run>/; null: the file's, or its path where two files share one."""
    tissue: TissueSettings | None = None
    """What fills it; null: as the top level's `tissue`."""
    jobs: PositiveInt = 1
    """That share the pieces of a body much longer than water moves within the echo; each holds all
    of its mesh. Worth it above about 100,000 nodes."""

    @model_validator(mode="after")
    def _one_source(self) -> MeshInput:
        if (self.bundle is None) == (self.path == ()):
            raise ValueError("give a path or a bundle, one of them")
        if self.bundle is None and self.count > 1:
            raise ValueError("count is that of bundles; leave it away")
        if self.bundle is not None and self.name is None:
            raise ValueError("give the bundle a `name`")
        options = self.model_dump(include=set(MeshOptions.model_fields), exclude_defaults=True)
        if self.bundle is not None and options:
            raise ValueError(f"a bundle has keys of its own; leave {', '.join(options)} away")
        return self


class Mesh(Setting):
    """Stage 1: shapes."""

    template: SweptDisk = SweptDisk()
    """The template."""
    families: dict[Family, NonNegativeInt] = FAMILIES
    """How many substrates of each family; the families left out have none."""
    ranges: dict[ShapeKey, Range] = RANGES
    """[low, high] of each parameter; those left out stay at the template's value."""
    split: Split = Split()
    """Who sees which substrates."""
    target: TargetShape = TargetShape()
    """What is reconstructed unless `reconstruct.signal` is given."""
    inputs: Annotated[
        tuple[MeshInput, ...],
        BeforeValidator(
            _entries, json_schema_input_type=str | MeshInput | list[str | MeshInput] | None
        ),
    ] = ()
    """Shapes of your own, simulated beside the substrates: a list of entries, or one. A path alone
    is an entry without options."""

    @model_validator(mode="after")
    def _plausible(self) -> Mesh:
        if sum(self.families.values()) == 0:
            raise ValueError("families: every count is 0; ask for at least one substrate")
        ends = [("ranges", key, value) for key, pair in self.ranges.items() for value in pair]
        target = [("target.shape", key, value) for key, value in self.target.shape.items()]
        for where, key, value in ends + target:
            low, high = SHAPE_PARAMETERS[key][2:]
            if (low is not None and value < low) or (high is not None and value > high):
                raise ValueError(
                    f"{where}.{key} is {value:g}; give {low} to {'...' if high is None else high}"
                )
        return self
