"""Images of bundles and the signals that go with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.bundles.protocol import Protocol
from spinmesh.errors import ConfigError

# Fine cells along one pixel: axons are kept apart, and averaged into grey levels, on these.
SUPERSAMPLING = 4
# Grey levels may leave [-1, 1] by rounding only.
OUT_OF_RANGE = 1e-5


@dataclass(frozen=True)
class ImageSpec:
    """Which images to make of a substrate table.

    Each image is packed until axons cover a fraction drawn uniformly from `volume_fraction`;
    random sequential addition jams near 0.5. `field_of_view` in um.
    """

    count: int = 1600
    held_out_fraction: float = 0.25
    pixels: int = 32
    field_of_view: float = 20.0
    volume_fraction: tuple[float, float] = (0.2, 0.4)
    attempts: int = 20

    def __post_init__(self) -> None:
        if self.count < 2 or not 0 < self.held_out_fraction < 1:
            raise ConfigError(
                f"images: count {self.count}, held_out_fraction {self.held_out_fraction}; give at "
                "least 2 images and a fraction between 0 and 1."
            )
        if self.pixels < 8 or self.pixels % 8:
            raise ConfigError(f"images: pixels is {self.pixels}; give a multiple of 8.")
        low, high = self.volume_fraction
        if not (0 < low <= high < 1 and self.field_of_view > 0 and self.attempts > 0):
            raise ConfigError(
                f"images: volume_fraction {self.volume_fraction}, field_of_view "
                f"{self.field_of_view} um, attempts {self.attempts}; give 0 < low <= high < 1 and "
                "positive numbers."
            )


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Periodic two-phase images, +1 inside axons and -1 outside, grey where a pixel holds both.

    `condition` is the logarithm of the direction-averaged attenuation of the axons in the image,
    one feature per shell, or per measurement of packed bundles; `features` says which. It is free
    of noise; `protocol`, of bundles only, adds it: see `observed`. `volume_fraction` is exact, not
    counted in pixels. Of disks `effective_radius` (um), that is (<r^6>/<r^2>)^(1/4), and
    `surface_to_volume` (1/um) are known as well.
    """

    images: Float[Tensor, "image pixel_y pixel_x"]
    condition: Float[Tensor, "image feature"]
    volume_fraction: Float[Tensor, " image"]
    split: tuple[str, ...]  # train or test
    field_of_view: float  # um
    features: tuple[str, ...] = ()
    effective_radius: Float[Tensor, " image"] | None = None
    surface_to_volume: Float[Tensor, " image"] | None = None
    protocol: Protocol | None = None

    def __post_init__(self) -> None:
        lengths = {len(self.images), len(self.condition), len(self.volume_fraction)}
        lengths.add(len(self.split))
        known = (self.effective_radius, self.surface_to_volume)
        lengths |= {len(column) for column in known if column is not None}
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

    def observed(self, seed: int) -> Float[Tensor, "image feature"]:
        """The conditions as measured: with the protocol's noise, or as they are without one."""
        if self.protocol is None:
            return self.condition
        return self.protocol.observed(self.condition, torch.Generator().manual_seed(seed))

    def select(self, split: str) -> ImageSet:
        """The images of one split; ConfigError if it has none."""
        index = [i for i, s in enumerate(self.split) if s == split]
        if not index:
            raise ConfigError(f"image set: no {split!r} images, only {sorted(set(self.split))}.")
        return self.chosen(index)

    def chosen(self, index: Sequence[int]) -> ImageSet:
        """Some of the images, in the order of their numbers given."""
        index = list(index)
        return ImageSet(
            self.images[index],
            self.condition[index],
            self.volume_fraction[index],
            tuple(self.split[i] for i in index),
            self.field_of_view,
            self.features,
            None if self.effective_radius is None else self.effective_radius[index],
            None if self.surface_to_volume is None else self.surface_to_volume[index],
            self.protocol,
        )
