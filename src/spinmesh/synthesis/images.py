"""Images of simulated substrates: cross-sections packed into periodic cells, and their signals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy import fft
from torch import Tensor

from spinmesh.bloch_torrey import Signals
from spinmesh.errors import ConfigError
from spinmesh.mesh import Substrates
from spinmesh.progress import progress
from spinmesh.synthesis.cross_sections import (
    Segments,
    coverage,
    enclosed_area,
    outer_faces,
    outline,
    rotated,
)
from spinmesh.synthesis.protocol import Protocol

# Fine cells along one pixel: axons are kept apart, and averaged into grey levels, on these.
SUPERSAMPLING = 4
# Cuts stay this fraction of an axon's extent away from its ends, where they would only graze it.
END_MARGIN = 0.1
# Grey levels may leave [-1, 1] by rounding only.
OUT_OF_RANGE = 1e-5
# b-values closer than this (ms/um^2) are one shell; scanners list 995 and 1005 s/mm^2 for 1000.
SHELL_WIDTH = 0.05


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


def pack_cross_sections(
    substrates: Substrates, signals: Signals, spec: ImageSpec, seed: int
) -> ImageSet:
    """Images of axons drawn from the table, each turned at random and cut at a random height.

    Train images hold train substrates only, test images only the others. Axons are placed by random
    sequential addition: each at a position uniform among those where it overlaps no other. Raises
    ConfigError if the table or a split is empty, the signals are of another table, an axon is wider
    than the cell, or a cell cannot be filled in `spec.attempts` attempts.
    """
    if len(signals) != len(substrates):
        raise ConfigError(
            f"images: {len(signals)} signals for {len(substrates)} substrates. Simulate this table."
        )
    rng = np.random.default_rng(seed)
    powder, unweighted, features = powder_average(signals)
    held_out = max(1, round(spec.count * spec.held_out_fraction))
    labels = ["train"] * (spec.count - held_out) + ["test"] * held_out
    pools = {
        "train": np.array([i for i, s in enumerate(substrates.split) if s == "train"]),
        "test": np.array([i for i, s in enumerate(substrates.split) if s != "train"]),
    }
    for label, pool in pools.items():
        if len(pool) == 0:
            raise ConfigError(f"images: no {label} substrate. Change the mesh stage's `split`.")
    cutter = _Cutter(substrates)
    images, fractions, conditions = [], [], []
    for label in progress(labels, "packing cross-sections"):
        image, fraction, members = _pack(cutter, pools[label], spec, rng)
        images.append(image)
        fractions.append(fraction)
        conditions.append(np.log(powder[members].sum(0) / unweighted[members].sum(0)))
    return ImageSet(
        torch.from_numpy(np.stack(images)).float(),
        torch.from_numpy(np.stack(conditions)).float(),
        torch.tensor(fractions, dtype=torch.float32),
        tuple(labels),
        spec.field_of_view,
        features,
    )


def powder_average(
    signals: Signals,
) -> tuple[
    Float[np.ndarray, "substrate feature"],
    Float[np.ndarray, "substrate feature"],
    tuple[str, ...],
]:
    """Magnitude and unweighted signal averaged over the directions of each shell (b > 0).

    A shell is one b and one timing. Averages do not change when an axon is turned, so the features
    of a packed image are volume-weighted sums. Raises ConfigError if nothing has b > 0.
    """
    acquisition = signals.acquisition
    rounded = torch.round(acquisition.b_value / SHELL_WIDTH).long()
    pairs = zip(acquisition.timing.tolist(), rounded.tolist(), strict=True)
    keys = sorted({(timing, b) for timing, b in pairs if b})
    if not keys:
        raise ConfigError("images: the acquisition has no b > 0, so no signal to condition on.")
    powder, unweighted, features = [], [], []
    for timing, b in keys:
        shell = (acquisition.timing == timing) & (rounded == b)
        powder.append(signals.signal[:, shell].abs().mean(1))
        unweighted.append(signals.unweighted[:, shell].mean(1))
        sequence = acquisition.sequences[timing]
        features.append(f"log attenuation b={b * SHELL_WIDTH:g} ms/um^2 {sequence.label}")
    return torch.stack(powder, 1).numpy(), torch.stack(unweighted, 1).numpy(), tuple(features)


class _Cutter:
    """Random outlines of the substrates of one table."""

    def __init__(self, substrates: Substrates) -> None:
        self.faces = outer_faces(substrates.template.tets.numpy())
        self.points = substrates.points.detach().numpy()
        z = self.points[:, np.unique(self.faces), 2]
        self.low, self.high = z.min(1), z.max(1)

    def random_outline(self, index: int, rng: np.random.Generator) -> Segments:
        fraction = rng.uniform(END_MARGIN, 1 - END_MARGIN)
        height = self.low[index] + fraction * (self.high[index] - self.low[index])
        cut = outline(self.points[index], self.faces, height)
        return rotated(cut, rng.uniform(0, 2 * np.pi))


def _pack(
    cutter: _Cutter, pool: np.ndarray, spec: ImageSpec, rng: np.random.Generator
) -> tuple[np.ndarray, float, list[int]]:
    """One image, its exact volume fraction and the substrates in it."""
    target = rng.uniform(*spec.volume_fraction)
    for _ in range(spec.attempts):
        packed = _try_to_pack(cutter, pool, spec, target, rng)
        if packed is not None:
            return packed
    raise ConfigError(
        f"images: no room for axons over {target:.0%} of a {spec.field_of_view:g} um cell in "
        f"{spec.attempts} attempts. Lower `volume_fraction` or raise `field_of_view`."
    )


def _try_to_pack(
    cutter: _Cutter, pool: np.ndarray, spec: ImageSpec, target: float, rng: np.random.Generator
) -> tuple[np.ndarray, float, list[int]] | None:
    cells = spec.pixels * SUPERSAMPLING
    grid = np.zeros((cells, cells))
    area, members = 0.0, []
    while area < target * spec.field_of_view**2:
        index = int(rng.choice(pool))
        cut = cutter.random_outline(index, rng)
        shape = coverage(cut, spec.field_of_view / cells, rng.random(2))
        if max(shape.shape) > cells:
            width = max(shape.shape) * spec.field_of_view / cells
            raise ConfigError(
                f"images: the cut of substrate {index} is {width:.3g} um wide, more than the "
                f"{spec.field_of_view:g} um cell. Raise `field_of_view`."
            )
        free = np.flatnonzero(free_positions(grid, shape))
        if len(free) == 0:
            return None
        row, column = divmod(int(rng.choice(free)), cells)
        rows, columns = (row + np.arange(shape.shape[0])), (column + np.arange(shape.shape[1]))
        grid[np.ix_(rows % cells, columns % cells)] += shape
        area += enclosed_area(cut)
        members.append(index)
    pixels = grid.reshape(spec.pixels, SUPERSAMPLING, spec.pixels, SUPERSAMPLING).mean((1, 3))
    return 2 * pixels - 1, area / spec.field_of_view**2, members


def free_positions(grid: Float[np.ndarray, "y x"], shape: Float[np.ndarray, "h w"]) -> np.ndarray:
    """True where the corner of `shape` can lie without sharing a cell with what `grid` holds.

    The number of shared cells at every shift is a periodic correlation, so one FFT answers for all.
    """
    held = (grid > 0).astype(np.float32)
    padded = np.zeros_like(held)
    padded[: shape.shape[0], : shape.shape[1]] = shape > 0
    # The counts are integers up to some thousands; single-precision FFTs round at 1e-3 of one.
    free: np.ndarray = fft.irfft2(fft.rfft2(held) * fft.rfft2(padded).conj(), s=grid.shape) < 0.5
    return free
