"""The mean of an image: what a signal says of it, as a Gaussian, before any image is seen."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

# Training pairs of features and means that the regression sees: with new noise each.
PAIRS = 8192
# Features have unit variance; what lies beyond this many deviations is held there.
FARTHEST = 4.0
# Distinct images for each term of the polynomial.
IMAGES_PER_TERM = 10
# Images of one mean, grey levels apart by less than this, tell nothing of its spread.
LEAST_SPREAD = 1e-3

# n, generator -> n images, and (their features, who is told them).
Pairs = Callable[[int, torch.Generator], tuple[Tensor, tuple[Tensor, ...]]]


@dataclass(frozen=True, eq=False)
class ImageMean:
    """The mean m of an image, normal given its features, and normal without them.

    The volume fraction is what a signal knows best, and one component of an image's thousand. Seen
    in noise of level sigma a mean of n pixels carries sigma / sqrt(n) only, so that E[m | image,
    features] is the average of the two, each weighted by its precision: exact for normal laws, and
    all but exact here. A network adds what is left.
    """

    weight: Float[Tensor, " term"]  # of 1, features, and their products if there are as many
    centre: float
    known_spread: float
    unknown_spread: float

    def __call__(
        self, features: Float[Tensor, "batch feature"], known: Float[Tensor, " batch"]
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        """Expectation and deviation of m; `known` is 1 where the features are, else 0."""
        told = _terms(features, len(self.weight)) @ self.weight.to(features)
        spread = self.unknown_spread + known * (self.known_spread - self.unknown_spread)
        return self.centre + known * (told - self.centre), spread

    def denoised(
        self, seen: Float[Tensor, " batch"], noise: Float[Tensor, " batch"], *context: Tensor
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        """Expectation and deviation of m once it is `seen` in noise of that deviation."""
        expected, spread = self(*context)
        share = spread**2 / (spread**2 + noise**2)
        return expected + share * (seen - expected), share.sqrt() * noise


def learn_image_mean(supply: Pairs, images: int, generator: torch.Generator) -> ImageMean:
    """Least squares on `PAIRS` pairs of `supply`, which draws them from so many distinct images."""
    pictures, (features, *_) = supply(PAIRS, generator)
    means = pictures.flatten(1).mean(1).double()
    count = features.shape[1]
    lengths = ((count + 1) * (count + 2) // 2, count + 1, 1)
    length = next(n for n in lengths if n * IMAGES_PER_TERM <= images or n == 1)
    terms = _terms(features.double(), length)
    weight = torch.linalg.lstsq(terms.cpu(), means.cpu()[:, None], driver="gelsd").solution[:, 0]
    # A repeated image is no new one: degrees of freedom are those of distinct images.
    freedom = math.sqrt(images / max(images - length, 1))
    left = (means.cpu() - terms.cpu() @ weight).square().mean().sqrt()
    return ImageMean(
        weight.float(),
        float(means.mean()),
        max(freedom * float(left), LEAST_SPREAD),
        max(float(means.std()), LEAST_SPREAD),
    )


def _terms(features: Float[Tensor, "batch feature"], length: int) -> Float[Tensor, "batch term"]:
    """1; features; products of two of them: the first `length`."""
    x = features.clamp(-FARTHEST, FARTHEST)
    one = x.new_ones(len(x), 1)
    if length == 1:
        return one
    row, column = torch.triu_indices(x.shape[1], x.shape[1], device=x.device)
    return torch.cat([one, x, x[:, row] * x[:, column]], 1)[:, :length]
