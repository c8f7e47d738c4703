"""Pairs of image and signal: packed bundles of straight axons, simulated in their plane.

Water inside an axon has the exact signal of a cylinder; water between them that of the periodic
plane by finite elements. Nothing crosses the membranes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from spinmesh.analytic import cylinder
from spinmesh.bundles.fem import assemble_plane
from spinmesh.bundles.images import SUPERSAMPLING, ImageSet, ImageSpec
from spinmesh.bundles.mesh import mesh_plane
from spinmesh.bundles.packing import Disks, gamma_radii, pack_disks
from spinmesh.bundles.protocol import Protocol
from spinmesh.bundles.signal import plane_attenuation
from spinmesh.errors import ConfigError
from spinmesh.progress import progress
from spinmesh.sequence import Acquisition

# Radii at which the exact signal is computed; between them a polynomial, exact to 1e-8.
RADII = 32
# The widest axon is this part of the cell.
WIDEST = 0.25
# Two directions across the axons, and along them.
DIRECTIONS = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}


@dataclass(frozen=True)
class BundleSpec:
    """Which bundles to pack and how to measure them; sizes, counts and fractions from `images`.

    The mean radius of each image is drawn from `radius` (um); `variation` is the standard deviation
    over the mean. `mesh_size` (um) is that of triangles between axons: 0.8 leaves some 2e-3 of S0
    (docs/methods/synthesis.md). `snr` is that of the unweighted signal.
    """

    images: ImageSpec = field(default_factory=ImageSpec)
    radius: tuple[float, float] = (0.8, 2.0)
    variation: float = 0.3
    gap: float = 0.1
    diffusivity: float = 2.0  # um^2/ms
    mesh_size: float = 0.8
    snr: float = 50.0

    def __post_init__(self) -> None:
        low, high = self.radius
        widest = WIDEST * self.images.field_of_view
        if not 0 < low <= high < widest:
            raise ConfigError(
                f"bundles: radius {self.radius} um in a cell of {self.images.field_of_view:g} um; "
                f"give 0 < low <= high < {widest:g}."
            )
        if not min(self.variation, self.gap, self.diffusivity, self.mesh_size, self.snr) > 0:
            raise ConfigError(
                f"bundles: variation {self.variation}, gap {self.gap} um, diffusivity "
                f"{self.diffusivity} um^2/ms, mesh_size {self.mesh_size} um, snr {self.snr}; all "
                "must be > 0."
            )


def bundle_acquisition(b: tuple[float, ...], delta: float, Delta: tuple[float, ...]) -> Acquisition:
    """Every b (ms/um^2) at every Delta (ms), along x and y across the axons and z along them."""
    return Acquisition.joined(
        Acquisition.pgse([value] * len(DIRECTIONS), list(DIRECTIONS.values()), delta, duration)
        for duration in Delta
        for value in b
    )


def simulate_bundles(
    spec: BundleSpec, acquisition: Acquisition, seed: int, shard: int = 0, shards: int = 1
) -> ImageSet:
    """Images `shard`, `shard` + `shards`, ... of the set and the logarithms of their signals.

    The signals are free of noise; the set's protocol says how much to add.

    An image depends on seed and number alone, so the set does not depend on the number of shards;
    `joined_images` puts them in order. The held-out images are the last ones. Raises ConfigError if
    a cell cannot be filled in `spec.images.attempts` attempts or a shard is empty.
    """
    count = spec.images.count
    numbers = range(shard, count, shards)
    if not 0 <= shard < shards <= count:
        raise ConfigError(f"bundles: shard {shard} of {shards} for {count} images.")
    protocol = Protocol(acquisition, spec.snr, spec.diffusivity, spec.mesh_size)
    inside = cylinder_table(protocol, WIDEST * spec.images.field_of_view)
    held_out = max(1, round(count * spec.images.held_out_fraction))
    rows = []
    for number in progress(numbers, "simulating bundles"):
        disks = packed_bundle(spec, np.random.default_rng([seed, number]))
        signal = bundle_attenuation(disks, protocol, inside, seed=number)
        rows.append((rasterised(disks, spec.images.pixels), signal, disks))
    images, signals, bundles = zip(*rows, strict=True)
    return ImageSet(
        torch.from_numpy(np.stack(images)).float(),
        torch.stack(signals).log().float(),
        torch.tensor([disks.volume_fraction for disks in bundles]),
        tuple("train" if number < count - held_out else "test" for number in numbers),
        spec.images.field_of_view,
        feature_names(acquisition),
        torch.tensor([disks.effective_radius for disks in bundles]),
        torch.tensor([disks.surface_to_volume for disks in bundles]),
        protocol,
    )


def joined_images(shards: list[ImageSet]) -> ImageSet:
    """The whole set in its order from all of its shards."""
    count = sum(len(shard) for shard in shards)
    place = torch.cat([torch.arange(i, count, len(shards)) for i in range(len(shards))])
    order = torch.argsort(place)
    split = [word for shard in shards for word in shard.split]

    def column(name: str) -> Tensor:
        return torch.cat([getattr(shard, name) for shard in shards])[order]

    return ImageSet(
        column("images"),
        column("condition"),
        column("volume_fraction"),
        tuple(split[i] for i in order.tolist()),
        shards[0].field_of_view,
        shards[0].features,
        column("effective_radius"),
        column("surface_to_volume"),
        shards[0].protocol,
    )


def packed_bundle(spec: BundleSpec, rng: np.random.Generator) -> Disks:
    """One packing: its mean radius and volume fraction uniform in their ranges."""
    cell = spec.images.field_of_view
    mean, fraction = rng.uniform(*spec.radius), rng.uniform(*spec.images.volume_fraction)
    for _ in range(spec.images.attempts):
        radii = gamma_radii(mean, spec.variation, WIDEST * cell, fraction * cell**2, rng)
        disks = pack_disks(radii, cell, spec.gap, rng)
        if disks is not None:
            return disks
    raise ConfigError(
        f"bundles: no packing of {fraction:.0%} with radii of {mean:.2g} um in "
        f"{spec.images.attempts} attempts. Lower `volume_fraction` or `gap_um`."
    )


def bundle_attenuation(
    disks: Disks, protocol: Protocol, inside: CylinderTable, seed: int
) -> Float[Tensor, " measurement"]:
    """S/S0 of all water in the cell, by area: exact in the axons, finite elements between them."""
    plane = assemble_plane(mesh_plane(disks, protocol.mesh_size, seed), protocol.diffusivity)
    between = (1 - disks.volume_fraction) * plane_attenuation(plane, protocol.acquisition)
    part = np.pi * disks.radii**2 / disks.cell**2
    return between + torch.from_numpy(part @ inside.at(disks.radii))


@dataclass(frozen=True, eq=False)
class CylinderTable:
    """S/S0 of one acquisition in cylinders along z as a Chebyshev series in the radius."""

    coefficients: Float[ndarray, "term measurement"]
    largest: float  # um

    def at(self, radii: Float[ndarray, " disk"]) -> Float[ndarray, "disk measurement"]:
        """Interpolated signals of several radii (um)."""
        x = 2 * radii / self.largest - 1
        return np.polynomial.chebyshev.chebval(x, self.coefficients, tensor=True).T


def cylinder_table(protocol: Protocol, largest: float) -> CylinderTable:
    """The exact signals at the Chebyshev nodes of all radii up to `largest` (um)."""
    x = np.cos(np.pi * (np.arange(RADII) + 0.5) / RADII)
    axis = DIRECTIONS["z"]
    rows = [
        cylinder(protocol.acquisition, float(radius), protocol.diffusivity, axis).numpy()
        for radius in largest * (1 + x) / 2
    ]
    series = np.polynomial.chebyshev.chebfit(x, np.stack(rows), RADII - 1)
    return CylinderTable(series, largest)


def rasterised(disks: Disks, pixels: int) -> Float[ndarray, "pixel_y pixel_x"]:
    """+1 inside axons, -1 outside, grey by area on pixels that an edge crosses.

    A fine cell's coverage is taken from its centre's distance to the circle, as if that were
    straight: right to 1e-3 of a pixel's area on average.
    """
    cells = pixels * SUPERSAMPLING
    pitch = disks.cell / cells
    grid = np.zeros((cells, cells))
    for centre, radius in zip(disks.centres, disks.radii, strict=True):
        first = np.floor((centre - radius) / pitch).astype(int) - 1
        index = first[:, None] + np.arange(int(2 * radius / pitch) + 5)
        x, y = (index + 0.5) * pitch - centre[:, None]
        depth = (radius - np.hypot(x, y[:, None])) / pitch
        grid[np.ix_(index[1] % cells, index[0] % cells)] += np.clip(0.5 + depth, 0, 1)
    blocks = grid.clip(0, 1).reshape(pixels, SUPERSAMPLING, pixels, SUPERSAMPLING)
    return np.asarray(2 * blocks.mean((1, 3)) - 1)


def feature_names(acquisition: Acquisition) -> tuple[str, ...]:
    """One label per measurement: b, timing and direction."""
    names = []
    for b, timing, direction in zip(
        acquisition.b_value, acquisition.timing, acquisition.direction, strict=True
    ):
        label = acquisition.sequences[int(timing)].label
        along = ", ".join(f"{x:.3g}" for x in direction.tolist())
        names.append(f"log attenuation b={float(b):g} ms/um^2 {label} along ({along})")
    return tuple(names)
