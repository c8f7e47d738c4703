"""A packed bundle: axons side by side, in their myelin, with the water between them."""

from __future__ import annotations

from typing import Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from spinmesh.settings.setting import Range, Setting

Drawn = Literal[
    "radius_um",
    "variation",
    "volume_fraction",
    "gap_um",
    "g_ratio",
    "undulation_amplitude_um",
    "bead_amplitude",
    "dispersion_deg",
]


class PackedBundle(Setting):
    """Axons with the water between them, periodic in all three directions.

    Compartment 1 is all axons, 2 the water, 3 the myelin, if there is a `g_ratio`.
    """

    axons: PositiveInt = 20
    """How many."""
    radius_um: PositiveFloat = 1.0
    """Mean of their outer radii (gamma law)."""
    variation: float = Field(0.3, gt=0, le=1)
    """Standard deviation of the radii over their mean."""
    volume_fraction: float = Field(0.65, gt=0, lt=0.9)
    """Of axons with their myelin, before they are deformed; 0.75 is hard to pack."""
    gap_um: PositiveFloat = 0.1
    """Least distance between them, to a tenth; wide gaps leave room for beads."""
    g_ratio: float | None = Field(None, gt=0, lt=1)
    """Inner over outer radius; null: no myelin."""
    length_um: PositiveFloat = 20.0
    """Along the axons (z)."""
    layers: PositiveInt = 10
    """Layers of tets along them; give some six to each bead or wave."""
    size_um: PositiveFloat = 0.5
    """Of the triangles across them; at most a quarter of the cell's side."""
    undulation_amplitude_um: NonNegativeFloat = 0.0
    """Of the wave along y that all follow."""
    undulation_count: PositiveInt = 1
    """Whole waves along the length."""
    bead_amplitude: NonNegativeFloat = 0.0
    """Of the radii, relative to them; what two neighbours swell must fit in their gap."""
    bead_count: PositiveInt = 2
    """Whole beads along the length; where the first stands is drawn for each axon."""
    dispersion_deg: float = Field(0.0, ge=0, lt=90)
    """Root mean square of the axons' tilt in either direction, which varies across the cell."""
    dispersion_count: PositiveInt = 1
    """Whole turns of the tilt along the length."""
    label_each_axon: bool = False
    """Axons are compartments 4, 5, ... of their own instead of 1."""
    ranges: dict[Drawn, Range] = Field(default_factory=dict)
    """[low, high] of values that are drawn evenly for each bundle, in place of those above."""
    seed: NonNegativeInt = 0
    """Of radii, places, beads and what is drawn from ranges."""

    @property
    def labels(self) -> tuple[int, ...]:
        """Of the compartments, ascending."""
        axons = tuple(range(4, 4 + self.axons)) if self.label_each_axon else ()
        sheathed = self.g_ratio is not None or "g_ratio" in self.ranges
        return (*(() if axons else (1,)), 2, *((3,) if sheathed else ()), *axons)

    @model_validator(mode="after")
    def _ranges_are_plausible(self) -> PackedBundle:
        for key, pair in self.ranges.items():
            for value in pair:
                try:
                    type(self).model_validate(dict(self) | {key: value, "ranges": {}})
                except ValidationError as error:
                    message = error.errors()[0]["msg"]
                    raise ValueError(f"ranges.{key} is {list(pair)}: {message}") from error
        return self
