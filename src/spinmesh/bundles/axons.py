"""From an image back to its axons: circles, what they say of the tissue, and their signal."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from scipy import ndimage
from torch import Tensor

from spinmesh.bundles.images import OUT_OF_RANGE, Protocol
from spinmesh.bundles.simulation import WIDEST, bundle_attenuation, cylinder_table, rasterised
from spinmesh.errors import ConfigError, MeshError
from spinmesh.mesh import Disks
from spinmesh.progress import progress

# Fine cells along a pixel. With 3 the effective radius of true images is found to 0.006 um and
# their surface to 1 %, with 2 to 0.015 um and 2 % (docs/methods/synthesis.md).
FINE = 3
# Pixels over which the distance to the edge is smoothed: more and small neighbours merge.
SMOOTHING = 0.35
# Regions smaller than this (pixels) are specks of grey and no axons.
SPECK = 0.15
# Circles are moved apart to this distance (um), as the bundles' default.
GAP = 0.1


def find_axons(image: Float[Tensor, "pixel_y pixel_x"], field_of_view: float) -> Disks:
    """The axons of an image (+1 inside, -1 outside, grey at edges), as circles of equal area.

    They may touch or overlap. The image is thresholded at mid grey; regions are parted at their
    necks, each axon being the set of points from which the way up the (smoothed) distance to the
    edge ends on the same summit. Its area is the sum of its grey levels, so that the volume
    fraction is exact. Raises ConfigError if pixels leave [-1, 1] or nothing is inside.
    """
    if not bool((image.abs() <= 1 + OUT_OF_RANGE).all()):
        raise ConfigError(
            f"image: grey levels from {image.min():g} to {image.max():g}; -1 is outside axons, +1 "
            "inside, nothing beyond."
        )
    grey = (image.double().numpy() + 1) / 2
    inside = np.asarray(ndimage.zoom(grey, FINE, order=1, grid_mode=True, mode="grid-wrap"))
    summit, depth = _summits(inside)
    place, region = np.unique(summit, return_inverse=True)
    side = len(inside)
    area = np.bincount(region, inside.ravel())
    axon = (area > SPECK * FINE**2) & (depth.ravel()[place] > 0)
    if not axon.any():
        raise ConfigError("image: holds no axon. The model has learnt nothing; train longer.")
    # Centroids, by the shortest way around the cell from each summit.
    centroid = []
    for row, start in zip(np.divmod(np.arange(side**2), side), np.divmod(place, side), strict=True):
        way = (row - start[region] + side // 2) % side - side // 2
        moment = np.bincount(region, inside.ravel() * way)
        centroid.append(start[axon] + moment[axon] / area[axon])
    pitch = field_of_view / side
    centres = pitch * (np.stack(centroid[::-1], 1) + 0.5)
    return Disks(centres, pitch * np.sqrt(area[axon] / np.pi), field_of_view)


def _summits(inside: Float[ndarray, "y x"]) -> tuple[ndarray, ndarray]:
    """Of every cell of the torus the number of that where its way up ends; and all depths."""
    side = len(inside)
    half = side // 2
    distance = ndimage.distance_transform_edt(np.pad(inside, half, mode="wrap") > 0.5)
    depth = distance[half : half + side, half : half + side]
    # Ties, as on the ridge of a long region, are broken by the cell's number.
    number = np.arange(side**2).reshape(side, side)
    height = ndimage.gaussian_filter(depth, SMOOTHING * FINE, mode="wrap") + 1e-9 * number
    best, target = height, number
    for shift in np.ndindex(3, 3):
        move = (shift[0] - 1, shift[1] - 1)
        near = np.roll(height, move, (0, 1))
        target = np.where(near > best, np.roll(number, move, (0, 1)), target)
        best = np.maximum(near, best)
    way = target.ravel()
    while not np.array_equal(way, way[way]):
        way = way[way]
    return np.asarray(way), depth


def image_statistics(
    images: Float[Tensor, "image pixel_y pixel_x"], field_of_view: float
) -> Float[Tensor, "image statistic"]:
    """`STATISTICS` of every image's axons."""
    rows = [
        find_axons(image, field_of_view).statistics
        for image in progress(images, "looking for axons")
    ]
    return torch.tensor(rows, dtype=torch.float64)


def resimulate(
    images: Float[Tensor, "image pixel_y pixel_x"],
    field_of_view: float,
    protocol: Protocol,
    seed: int,
) -> tuple[Float[Tensor, "image measurement"], Float[Tensor, " image"]]:
    """S/S0 of every image's axons, and how far the circles are from the image (rms of coverage).

    The way the training signals were made: exact inside circles, finite elements between them. An
    image whose circles find no room has NaN for its signal.
    """
    axons = [find_axons(image, field_of_view) for image in images]
    widest = max(float(each.radii.max()) for each in axons)
    table = cylinder_table(protocol, max(widest, WIDEST * field_of_view))
    signals = torch.full((len(images), len(protocol.acquisition)), torch.nan).double()
    gaps = torch.full((len(images),), torch.nan).double()
    for number, each in enumerate(progress(axons, "simulating images again")):
        try:
            disks = each.moved_apart(GAP)
        except MeshError:
            continue
        signals[number] = bundle_attenuation(disks, protocol, table, seed + number)
        picture = torch.from_numpy(rasterised(disks, images.shape[-1]))
        gaps[number] = (picture - images[number]).square().mean().sqrt() / 2
    return signals, gaps
