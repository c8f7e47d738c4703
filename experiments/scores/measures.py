"""Measures of images and of points that only the comparison of score models needs."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.images.synthesis import Images, rings

# Directions of the sliced distance; its own error falls as their root, 9 % here.
PROJECTIONS = 128
# Side of the patches it compares: about one axon. Whole images hide everything but their variance,
# since a random direction of a thousand pixels averages over all of them.
PATCH = 8
# Divisions of the images that a p-value counts; the smallest it can be is one over one more.
PERMUTATIONS = 499


def two_point_error(a: Images, b: Images) -> float:
    """Mean over distances of the difference of the two-point functions."""
    return float((two_point(a) - two_point(b)).abs().mean())


def two_point(images: Images) -> Float[Tensor, " distance"]:
    """Probability that two points 0, 1, ... pixels apart both lie inside axons.

    Averaged over positions, directions and images; grey counts as a share. At 0 that is the mean
    square of the shares, a little below the volume fraction; up to half a field of view.
    """
    n = images.shape[-1]
    power = torch.fft.fft2(0.5 * (images.double() + 1)).abs().square().mean(0) / n**2
    correlation, distance = torch.fft.ifft2(power).real, rings(n)
    return torch.stack([correlation[distance == r].mean() for r in range(n // 2 + 1)])


def mmd(a: Images, b: Images, seed: int, permutations: int = PERMUTATIONS) -> tuple[float, float]:
    """Maximum mean discrepancy of two sets of images, and its p-value by permutation.

    Gaussian kernel, as wide as the median distance, on what translations leave alone: mean and
    deviation of the grey levels and the logarithm of each ring's power, standardised over both
    sets (Gretton et al. 2012). p is the share of random divisions of all images that differ as
    much: small if the sets can be told apart. No image of one set may depend on the other set.
    """
    features = torch.cat([_features(a), _features(b)])
    features = (features - features.mean(0)) / features.std(0).clamp_min(1e-12)
    square = torch.cdist(features, features).square()
    kernel = torch.exp(-square / square.median())
    sign = torch.cat([torch.full((len(a),), 1 / len(a)), torch.full((len(b),), -1 / len(b))])
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(sign), generator=generator) for _ in range(permutations)]
    signs = torch.stack([sign, *(sign[order] for order in orders)]).double()
    found = ((signs @ kernel) * signs).sum(1)
    p = float((found >= found[0] - 1e-12).double().mean())
    return float(found[0].clamp_min(0).sqrt()), p


def _features(images: Images) -> Float[Tensor, "image feature"]:
    pixels = images.double()
    ring = rings(images.shape[-1])
    power = torch.fft.fft2(pixels).abs().square()
    # A ring without any power at all would be minus infinity.
    bands = torch.stack([power[:, ring == r].mean(1) for r in range(1, images.shape[-1] // 2 + 1)])
    flat = pixels.flatten(1)
    return torch.cat([flat.mean(1)[:, None], flat.std(1)[:, None], (bands.T + 1e-9).log()], 1)


def sliced_w2(
    a: Float[Tensor, "_ d"], b: Float[Tensor, "_ d"], seed: int, projections: int = PROJECTIONS
) -> float:
    """2-Wasserstein distance of points, root mean square over random unit directions."""
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(a.shape[1], projections, generator=generator, dtype=torch.float64)
    direction = direction / direction.norm(dim=0)
    levels = (torch.arange(1024, dtype=torch.float64) + 0.5) / 1024
    x, y = ((points.double() @ direction).sort(0).values for points in (a, b))
    gap = x[(levels * len(x)).long()] - y[(levels * len(y)).long()]
    return float(gap.square().mean().sqrt())


def patches(images: Images) -> Float[Tensor, "patch pixel"]:
    """The images cut into adjoining patches."""
    cut = images.double().unfold(1, PATCH, PATCH).unfold(2, PATCH, PATCH)
    return cut.reshape(-1, PATCH**2)
