"""Settings of the permeable axon."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, PositiveFloat, PositiveInt

from spinmesh.settings.setting import Setting

Family = Literal["straight", "bend_twist", "beading"]
FAMILIES: tuple[Family, ...] = get_args(Family)


class AxonSettings(Setting):
    """How many axons, on which meshes."""

    run: str = Field("permeable_axon", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run; its results go to results/<run>/."""
    families: tuple[Family, ...] = FAMILIES
    """Kinds of axons."""
    targets: PositiveInt = 3
    """Axons of each family; their permeabilities are a half, once and twice 0.05 um/ms in turn."""
    snr: PositiveFloat = 50.0
    """Of the unweighted signal."""
    starts: PositiveInt = 3
    """Shapes the search starts from."""
    template: tuple[PositiveInt, PositiveInt] = (2, 4)
    """Rings (an even number) and layers of the shape model's mesh."""
    target_template: tuple[PositiveInt, PositiveInt] = (4, 6)
    """Rings (an even number) and layers of the targets' mesh."""
    per_family: PositiveInt = 80
    """Training shapes of each family."""
    latent: PositiveInt = 8
    """Numbers that describe a shape."""
