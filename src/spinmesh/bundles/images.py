"""Images of bundles, the signals that go with them, and how these were measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spinmesh.errors import ConfigError, SequenceError
from spinmesh.noise import MagnitudeNoise, add_rician
from spinmesh.sequence import Acquisition, difference
from spinmesh.settings.synthesise import BundleSettings
from spinmesh.stored import quantity, store
from spinmesh.units import b_from_s_per_mm2

# Fine cells along one pixel: axons are kept apart, and averaged into grey levels, on these.
SUPERSAMPLING = 4
# Grey levels may leave [-1, 1] by rounding only.
OUT_OF_RANGE = 1e-5
# A user's noise may differ from the model's by this factor before the posterior is called wrong.
NOISE_FACTOR = 1.25
# Of the largest b: below it two b-tensors are one.
SAME_B = 1e-6
# Two directions across the axons, and along them.
DIRECTIONS = X, Y, Z = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@dataclass(frozen=True, eq=False)
class Protocol:
    """Acquisition, noise and tissue behind the signals of packed bundles.

    `snr` is that of the unweighted signal, `mesh_size` that of the triangles between axons.
    """

    acquisition: Acquisition
    snr: float
    diffusivity: float = quantity("um^2/ms")
    mesh_size: float = quantity("um")

    @classmethod
    def of(cls, bundles: BundleSettings) -> Protocol:
        """That of a set of bundles: every b at every Delta, along x and y across and z along."""
        b = [b_from_s_per_mm2(value) for value in bundles.b_s_per_mm2 for _ in DIRECTIONS]
        directions = DIRECTIONS * len(bundles.b_s_per_mm2)
        acquisition = Acquisition.joined(
            Acquisition.pgse(b, directions, bundles.delta_ms, Delta) for Delta in bundles.Delta_ms
        )
        return cls(acquisition, bundles.snr, bundles.diffusivity_um2_per_ms, bundles.mesh_size_um)

    def observed(
        self, condition: Float[Tensor, "batch feature"], generator: torch.Generator
    ) -> Float[Tensor, "batch feature"]:
        """Logarithms of attenuations as they would be measured: with new Rician noise."""
        return add_rician(condition.exp(), self.snr, generator).log()

    def scaled(self, condition: Float[Tensor, "batch feature"]) -> Float[Tensor, "batch feature"]:
        """log hypot(S, 1/snr): as the logarithm, but flat where there is nothing but noise."""
        return torch.hypot(condition.exp(), condition.new_tensor(1 / self.snr)).log()

    def refuse_other(self, acquisition: Acquisition) -> None:
        """SequenceError if a signal measured with `acquisition` is of another protocol."""
        first = difference(self.acquisition, acquisition)
        if first is not None:
            raise SequenceError(
                f"synthesise: the signal belongs to another protocol than the model: {first} "
                "(model against signal). Train a model for this protocol, or give the signal of "
                "the model's."
            )

    def doubt(self, sigma: float) -> str | None:
        """What to tell a user whose noise (in attenuation) is not the model's; None if it is."""
        if 1 / NOISE_FACTOR <= sigma * self.snr <= NOISE_FACTOR:
            return None
        consequence = "narrow" if sigma * self.snr > 1 else "wide"
        return (
            f"the signal's SNR is {1 / sigma if sigma > 0 else float('inf'):.3g}, but the model "
            f"was trained for {self.snr:.3g}: intervals are too {consequence}. Train a model for "
            "this SNR."
        )

    def misfit(
        self,
        measured: Float[Tensor, "*batch measurement"],
        simulated: Float[Tensor, "*batch measurement"],
    ) -> Float[Tensor, "*batch"]:
        """chi^2 per measurement of attenuations: 1 for the truth, on average; NaN where one is."""
        noise = MagnitudeNoise(1 / self.snr, 0.0)
        residual = noise.residual(measured.flatten(), simulated.flatten())
        return residual.reshape(measured.shape).square().mean(-1)

    def symmetries(self) -> list[Int[Tensor, " measurement"] | None]:
        """Which measurement of a tissue is each one of its image mirrored in y, and transposed.

        None where the acquisition is not symmetric: then that image has no known signal.
        """
        unit = torch.eye(3, dtype=torch.float64)
        return [
            self._partners(turn) for turn in (unit * unit.new_tensor([1, -1, 1]), unit[[1, 0, 2]])
        ]

    def _partners(self, turn: Tensor) -> Tensor | None:
        b = self.acquisition.b_tensor
        apart = (turn @ b @ turn.T - b[:, None]).abs().amax((2, 3))
        # Equal sequences may stand there under several numbers.
        sequences = self.acquisition.sequences
        first = torch.tensor([sequences.index(sequence) for sequence in sequences])
        timing = first[self.acquisition.timing]
        same = (apart <= SAME_B * b.abs().max()) & (timing == timing[:, None])
        return same.to(torch.uint8).argmax(0) if bool(same.any(0).all()) else None


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
        broken = ~self.condition.isfinite().all(1)
        if bool(broken.any()):
            raise ConfigError(
                f"image set: the signal of image {int(broken.nonzero()[0])} is not finite."
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
