"""Images of bundles and the signals that go with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.bundles.protocol import Protocol
from spinmesh.errors import ConfigError
from spinmesh.stored import quantity, store

# Fine cells along one pixel: axons are kept apart, and averaged into grey levels, on these.
SUPERSAMPLING = 4
# Grey levels may leave [-1, 1] by rounding only.
OUT_OF_RANGE = 1e-5


@store("spinmesh/images", version=5, stage="synthesise")
@dataclass(frozen=True, eq=False)
class ImageSet:
    """Periodic two-phase images, +1 inside axons and -1 outside, grey where a pixel holds both.

    `condition` is the logarithm of the direction-averaged attenuation of the axons in the image,
    one feature for each shell, or for each measurement of packed bundles. It is free of noise;
    `protocol`, of bundles only, adds it: see `observed`. `volume_fraction` is exact, not counted in
    pixels; `effective_radius` and `surface_to_volume` are those of disks (`bundles.STATISTICS`),
    None for other axons. `split`: train or test.
    """

    images: Float[Tensor, "image pixel_y pixel_x"]
    condition: Float[Tensor, "image feature"]
    volume_fraction: Float[Tensor, " image"]
    split: tuple[str, ...] = quantity(axis="image")
    field_of_view: float = quantity("um")
    effective_radius: Float[Tensor, " image"] | None = quantity("um", default=None)
    surface_to_volume: Float[Tensor, " image"] | None = quantity("1/um", default=None)
    protocol: Protocol | None = None

    def __post_init__(self) -> None:
        lengths = {len(self.split), *(len(column) for column in self._columns().values())}
        if len(lengths) != 1 or 0 in lengths:
            raise ConfigError(f"image set: columns of lengths {sorted(lengths)}; one per image.")
        wrong = ~(self.images.abs() <= 1 + OUT_OF_RANGE).all(2).all(1)
        if bool(wrong.any()):
            first = int(wrong.nonzero()[0])
            low, high = self.images[first].min(), self.images[first].max()
            raise ConfigError(
                f"image set: {int(wrong.sum())} images leave [-1, 1] (first: image {first}, from "
                f"{low:g} to {high:g}). Scale them: -1 is outside axons, +1 inside."
            )

    def __len__(self) -> int:
        return len(self.images)

    def _columns(self) -> dict[str, Tensor]:
        """What has a row for each image."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def observed(self, seed: int) -> Float[Tensor, "image feature"]:
        """The conditions as measured: with the protocol's noise, or as they are without one."""
        if self.protocol is None:
            return self.condition
        return self.protocol.observed(self.condition, torch.Generator().manual_seed(seed))

    def select(self, split: str) -> ImageSet:
        """The images of one split; ConfigError if it has none."""
        index = [i for i, word in enumerate(self.split) if word == split]
        if not index:
            raise ConfigError(f"image set: no {split!r} images, only {sorted(set(self.split))}.")
        return self.chosen(index)

    def chosen(self, index: Sequence[int]) -> ImageSet:
        """Some of the images, in the order of their numbers given."""
        rows = list(index)
        columns: dict[str, Any] = {name: x[rows] for name, x in self._columns().items()}
        return replace(self, split=tuple(self.split[i] for i in rows), **columns)


def held_out_count(count: int, fraction: float) -> int:
    """How many of a set's images are held out, the last ones; at least one."""
    return max(1, round(count * fraction))
