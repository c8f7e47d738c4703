"""Pairs of image and signal: packed bundles of straight axons, simulated in their plane.

Water inside an axon has the exact signal of a cylinder; water between them that of the periodic
plane by finite elements. Nothing crosses the membranes.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from numpy.polynomial.chebyshev import chebpts1
from scipy.interpolate import BarycentricInterpolator
from torch import Tensor

from spinmesh.analytic import cylinder
from spinmesh.bundles.images import SUPERSAMPLING, ImageSet, Protocol, Z, held_out_count
from spinmesh.bundles.signal import assemble_plane, plane_attenuation
from spinmesh.errors import ConfigError
from spinmesh.mesh import Disks, gamma_radii, mesh_plane, pack_disks
from spinmesh.progress import progress
from spinmesh.settings.synthesise import BundleSettings, ImageSettings

# Radii at which the exact signal is computed; between them a polynomial, exact to 1e-8.
RADII = 32
# The widest axon is this part of the cell.
WIDEST = 0.25


def simulate_bundles(
    bundles: BundleSettings, images: ImageSettings, seed: int, shard: int = 0, shards: int = 1
) -> ImageSet:
    """Images `shard`, `shard` + `shards`, ... of the set and the logarithms of their signals.

    An image depends on seed and number alone, so the set does not depend on the number of shards,
    which `io.load_shards` puts in order. The held-out images are the last ones. Raises
    ConfigError if a cell cannot be filled in `images.attempts` attempts or a shard is empty.
    """
    numbers = range(shard, images.count, shards)
    if not 0 <= shard < shards <= images.count:
        raise ConfigError(f"bundles: shard {shard} of {shards} for {images.count} images.")
    protocol = Protocol.of(bundles)
    inside = cylinder_table(protocol, WIDEST * images.field_of_view_um)
    first_test = images.count - held_out_count(images.count, images.held_out_fraction)
    packings, signals = [], []
    for number in progress(numbers, "simulating bundles"):
        disks = packed_bundle(bundles, images, np.random.default_rng([seed, number]))
        packings.append(disks)
        signals.append(bundle_attenuation(disks, protocol, inside, seed=number))
    pictures = np.stack([rasterised(disks, images.pixels) for disks in packings])
    fraction, radius, surface = torch.tensor([disks.statistics for disks in packings]).unbind(1)
    return ImageSet(
        torch.from_numpy(pictures).float(),
        torch.stack(signals).log().float(),
        fraction,
        tuple("train" if number < first_test else "test" for number in numbers),
        images.field_of_view_um,
        radius,
        surface,
        protocol,
    )


def packed_bundle(
    bundles: BundleSettings, images: ImageSettings, rng: np.random.Generator
) -> Disks:
    """One packing: mean radius and volume fraction uniform in their ranges.

    Raises ConfigError if no attempt fills the cell, MeshError if the mean exceeds its quarter.
    """
    cell = images.field_of_view_um
    mean, fraction = rng.uniform(*bundles.radius_um), rng.uniform(*images.volume_fraction)
    for _ in range(images.attempts):
        radii = gamma_radii(mean, bundles.variation, WIDEST * cell, fraction * cell**2, rng)
        disks = pack_disks(radii, cell, bundles.gap_um, rng)
        if disks is not None:
            return disks
    raise ConfigError(
        f"bundles: no packing of {fraction:.0%} with radii of {mean:.2g} um in "
        f"{images.attempts} attempts. Lower `volume_fraction` or `gap_um`."
    )


def bundle_attenuation(
    disks: Disks, protocol: Protocol, inside: BarycentricInterpolator, seed: int
) -> Float[Tensor, " measurement"]:
    """S/S0 of all water in the cell, by area: exact in the axons, finite elements between them.

    MeshError if the disks overlap or leave too little room for triangles.
    """
    plane = assemble_plane(mesh_plane(disks, protocol.mesh_size, seed), protocol.diffusivity)
    between = (1 - disks.volume_fraction) * plane_attenuation(plane, protocol.acquisition)
    part = np.pi * disks.radii**2 / disks.cell**2
    return between + torch.from_numpy(part @ inside(disks.radii))


def cylinder_table(protocol: Protocol, largest: float) -> BarycentricInterpolator:
    """S/S0 (disk, measurement) in cylinders along z as a function of radii up to `largest` (um).

    A polynomial through the exact signals at Chebyshev's nodes.
    """
    radii = largest * (1 + chebpts1(RADII)) / 2
    rows = [
        cylinder(protocol.acquisition, float(radius), protocol.diffusivity, Z).numpy()
        for radius in radii
    ]
    return BarycentricInterpolator(radii, np.stack(rows), rng=0)


def rasterised(disks: Disks, pixels: int) -> Float[ndarray, "pixel_y pixel_x"]:
    """+1 inside axons, -1 outside, grey by area on pixels that an edge crosses.

    A fine cell sees the circle as straight: right to 1e-3 of a pixel's area on average.
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
