"""A packed bundle: axons side by side, in their myelin, with the water between them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from spinmesh.settings.mesh import Range
from spinmesh.settings.setting import Setting

# A number, or [low, high]: drawn evenly between them for each bundle.
Positive = PositiveFloat | Range
NotNegative = Annotated[float, Field(ge=0)] | Range
# Most that a value can be; a bundle beyond may fold, and is then refused with its parameter.
MOST = {"volume_fraction": 0.9, "g_ratio": 0.95, "bead_amplitude": 0.9, "dispersion_deg": 45.0}


class PackedBundle(Setting):
    """Axons with water, periodic in all three directions; a number may be [low, high] instead.

    Compartment 1: axons; 2: the water between them; 3: myelin, if there is a `g_ratio`.
    """

    axons: PositiveInt = 20
    """How many."""
    radius_um: Positive = 1.0
    """Mean of their outer radii (gamma law)."""
    variation: Positive = 0.3
    """Standard deviation of the radii over their mean."""
    volume_fraction: Positive = 0.65
    """Of axons with their myelin, before they are deformed; 0.75 is hard to pack."""
    gap_um: Positive = 0.1
    """Least distance between them, to a tenth; wide gaps leave room for beads."""
    g_ratio: Positive | None = None
    """Inner over outer radius, or null: no myelin."""
    length_um: PositiveFloat = 20.0
    """Along the axons (z)."""
    layers: PositiveInt = 10
    """Layers of tets along them; some six for each bead or wave."""
    size_um: PositiveFloat = 0.5
    """Of the triangles across them; at most a quarter of the cell's side."""
    undulation_amplitude_um: NotNegative = 0.0
    """Of the wave that all follow, along y."""
    undulation_count: PositiveInt = 1
    """Whole waves along the length."""
    bead_amplitude: NotNegative = 0.0
    """Of the radii, relative to them; 3/2 of two neighbours' swelling must fit in their gap."""
    bead_count: PositiveInt = 2
    """Whole beads along the length; where the first stands is drawn for each axon."""
    dispersion_deg: NotNegative = 0.0
    """Root mean square of the axons' tilt in either direction, which varies across the cell."""
    dispersion_count: PositiveInt = 1
    """Whole turns of the tilt along the length."""
    label_each_axon: bool = False
    """Axons are compartments 4, 5, ... of their own instead of 1."""
    seed: NonNegativeInt = 0
    """Of radii, places, beads and of what is drawn from [low, high]."""

    @model_validator(mode="after")
    def _plausible(self) -> PackedBundle:
        for key, value in self:
            if not isinstance(value, int | float | tuple) or isinstance(value, bool):
                continue
            low, high = value if isinstance(value, tuple) else (value, value)
            least = 0.0 if "amplitude" in key or key in ("dispersion_deg", "seed") else 1e-6
            if low < least or high > MOST.get(key, float("inf")):
                raise ValueError(
                    f"{key} is {value}; give {least:g} to {MOST.get(key, '...')}, or [low, high] "
                    "in between"
                )
        return self
