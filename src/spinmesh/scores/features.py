"""What a signal tells: the combinations above the noise, and the law of an image's mean."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.bundles.images import Protocol
from spinmesh.errors import ConfigError
from spinmesh.learning import Batch

# Noisy signals from which the covariance of the noise is taken, at least.
ENOUGH = 4000
# A combination is kept if the tissue's variance exceeds this part of the noise's.
LEAST_SIGNAL = 0.05
# Training pairs of features and means that the regression sees: with new noise each.
PAIRS = 8192
# Features have unit variance; what lies beyond this many deviations is held there.
FARTHEST = 4.0
# Distinct images for each term of the polynomial.
IMAGES_PER_TERM = 10
# Penalties that are tried, in units of a term's variance times their number.
PENALTIES = torch.logspace(-8, 4, 49, dtype=torch.float64)
# Images of one mean, grey levels apart by less than this, tell nothing of its spread.
LEAST_SPREAD = 1e-3
# Normal laws that make up the law of the mean about its regression.
ATOMS = 64

# n, generator -> n clean data, and what the network is told of them: features, and a flag, 1 where
# they count.
Supply = Callable[[int, torch.Generator], tuple[Tensor, Batch]]


@dataclass(frozen=True, eq=False)
class Features:
    """(log-scaled signal - mean) @ weight: numbers of unit variance, the clearest first."""

    mean: Float[Tensor, " feature"]
    weight: Float[Tensor, "feature component"]
    protocol: Protocol | None = None

    @property
    def count(self) -> int:
        """How many the network is told."""
        return self.weight.shape[1]

    def __call__(
        self, condition: Float[Tensor, "batch feature"]
    ) -> Float[Tensor, "batch component"]:
        """Of logarithms of attenuations."""
        if condition.shape[1] != len(self.mean):
            raise ConfigError(
                f"synthesise: a signal of {condition.shape[1]} features for a model of "
                f"{len(self.mean)}. Give images and signals of the model's protocol."
            )
        scaled = condition if self.protocol is None else self.protocol.scaled(condition)
        return (scaled - self.mean.to(condition)) @ self.weight.to(condition)


def learn_features(
    condition: Float[Tensor, "image feature"], protocol: Protocol | None, seed: int
) -> Features:
    """Standardised features or, with noise, combinations that maximise signal over noise.

    The latter are generalised eigenvectors of the covariances of tissue and noise (the maximum
    noise fraction of Green et al. 1988), both estimated from the training conditions.
    """
    if protocol is None or math.isinf(protocol.snr):
        mean, spread = condition.mean(0), condition.std(0, correction=0)
        # A feature that never changes tells nothing; it becomes zero instead of 0/0.
        return Features(mean, torch.where(spread > 0, 1 / spread, 0.0).diag(), protocol)
    generator = torch.Generator().manual_seed(seed)
    condition = condition.double().repeat(math.ceil(ENOUGH / len(condition)), 1)
    clean = protocol.scaled(condition)
    noisy = protocol.scaled(protocol.observed(condition, generator))
    unit, vectors = torch.linalg.eigh((noisy - clean).T.cov())
    whiten = vectors / unit.sqrt()
    ratio, turn = torch.linalg.eigh((clean @ whiten).T.cov())
    # The clearest in any case: a network is told one number at least.
    clear = (ratio > LEAST_SIGNAL) | (ratio == ratio.max())
    weight = (whiten @ turn)[:, clear] / (1 + ratio[clear]).sqrt()
    return Features(noisy.mean(0).float(), weight.flip(1).float(), protocol)


@dataclass(frozen=True, eq=False)
class ImageMean:
    """The law of an image's mean m, given its features and without them (docs/decisions/0010).

    m is a polynomial of the features and a rest that does not depend on them: a kernel estimate,
    equal normal laws about its quantiles. Seen in noise of level sigma a mean of n pixels carries
    sigma / sqrt(n) only, so E[m | noisy mean, features] is a sum in closed form. Rows (`case`) of
    `atoms` and `widths`: the rest without features, with features.
    """

    weight: Float[Tensor, " term"]  # of 1, features, and their products if there are as many
    centre: float
    atoms: Float[Tensor, "case atom"]
    widths: Float[Tensor, " case"]

    def __call__(
        self, features: Float[Tensor, "batch feature"], conditioned: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        """Expectation of m; `conditioned` is 1 where the features count, else 0."""
        expected = _terms(features, len(self.weight)) @ self.weight.to(features)
        return torch.where(conditioned > 0, expected, self.centre)

    def denoised(
        self,
        noisy: Float[Tensor, " batch"],
        noise: Float[Tensor, " batch"],
        features: Float[Tensor, "batch feature"],
        conditioned: Float[Tensor, " batch"],
    ) -> Float[Tensor, " batch"]:
        """Expectation of m given `noisy`, which is m in normal noise of that deviation."""
        row = (conditioned > 0).long()
        atoms, narrow = self.atoms.to(noisy)[row], self.widths.to(noisy)[row, None] ** 2
        expected = self(features, conditioned)[:, None]
        wide = narrow + noise[:, None] ** 2
        off = noisy[:, None] - expected - atoms
        share = torch.softmax(-(off**2) / (2 * wide), 1)
        return (share * (expected + atoms + narrow / wide * off)).sum(1)


def learn_image_mean(supply: Supply, images: int, generator: torch.Generator) -> ImageMean:
    """Ridge regression on `PAIRS` pairs of `supply`, which draws them from so many distinct images.

    The penalty has the least Bayesian information criterion (Schwarz 1978): features of a noiseless
    signal can be all but collinear, and tell nothing of m.
    """
    pictures, (features, *_) = supply(PAIRS, generator)
    means = pictures.flatten(1).mean(1).double().cpu()
    count = features.shape[1]
    lengths = ((count + 1) * (count + 2) // 2, count + 1, 1)
    length = next(n for n in lengths if n * IMAGES_PER_TERM <= images or n == 1)
    terms = _terms(features.double().cpu(), length)
    weight, freedom = _ridge(terms, means, images)
    # A repeated image is no new one: degrees of freedom are those of distinct images.
    left = (means - terms @ weight) * math.sqrt(images / max(images - freedom, 1))
    rests = [_mixture(rest, images) for rest in (means - means.mean(), left)]
    return ImageMean(
        weight.float(),
        float(means.mean()),
        torch.stack([atoms for atoms, _ in rests]).float(),
        torch.tensor([width for _, width in rests]),
    )


def _ridge(
    terms: Float[Tensor, "pair term"], means: Float[Tensor, " pair"], images: int
) -> tuple[Float[Tensor, " term"], float]:
    """Weight of each term, the first of which is 1, and the degrees of freedom that it takes."""
    middle = terms[:, 1:].mean(0)
    spread = (terms[:, 1:] - middle).square().mean(0).sqrt().clamp_min(1e-12)
    U, s, Vt = torch.linalg.svd((terms[:, 1:] - middle) / spread, full_matrices=False)
    y = means - means.mean()
    along = U.T @ y
    shrinkage = s**2 / (s**2 + len(y) * PENALTIES[:, None])
    freedom = 1 + shrinkage.sum(1)
    rest = y.square().sum() - (along**2 * shrinkage * (2 - shrinkage)).sum(1)
    score = images * (rest.clamp_min(1e-12 * y.square().sum() + 1e-300)).log()
    best = int((score + math.log(images) * freedom).argmin())
    slope = Vt.T @ (shrinkage[best] / s.clamp_min(1e-12) * along) / spread
    return torch.cat([(means.mean() - middle @ slope)[None], slope]), float(freedom[best])


def _mixture(rest: Float[Tensor, " pair"], images: int) -> tuple[Float[Tensor, " atom"], float]:
    """Atoms and width of a kernel estimate with the variance of `rest` (Silverman 1986)."""
    spread = max(float(rest.std()), LEAST_SPREAD)
    width = 0.9 * spread * images**-0.2
    level = (torch.arange(ATOMS, dtype=torch.float64) + 0.5) / ATOMS
    atoms = torch.quantile(rest, level)
    atoms = atoms - atoms.mean()
    remaining = math.sqrt(max(spread**2 - width**2, 0.0))
    return atoms * remaining / max(float(atoms.std(correction=0)), LEAST_SPREAD), width


def _terms(features: Float[Tensor, "batch feature"], length: int) -> Float[Tensor, "batch term"]:
    """1; features; products of two of them: the first `length`."""
    x = features.clamp(-FARTHEST, FARTHEST)
    one = x.new_ones(len(x), 1)
    if length == 1:
        return one
    row, column = torch.triu_indices(x.shape[1], x.shape[1], device=x.device)
    return torch.cat([one, x, x[:, row] * x[:, column]], 1)[:, :length]
