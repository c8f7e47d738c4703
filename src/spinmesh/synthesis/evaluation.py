"""Samples beside held-out images: every number with its floor and with a control that must lose."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spinmesh.bundles.images import ImageSet
from spinmesh.errors import ConfigError
from spinmesh.stored import quantity, store
from spinmesh.synthesis.model import ScoreModel
from spinmesh.synthesis.sampling import SampleSpec, draw_images

# The sets need not be of one length, so their first axis has no name to be checked.
Images = Float[Tensor, "_ pixel_y pixel_x"]
# Directions of the sliced distance; its own error falls as their root, 9 % here.
PROJECTIONS = 128
# Side of the patches it compares: about one axon. Whole images hide everything but their variance,
# since a random direction of a thousand pixels averages over all of them.
PATCH = 8
# Divisions of the images that a p-value counts; the smallest it can be is one over one more.
PERMUTATIONS = 499


@store("spinmesh/synthesis", version=2, stage="synthesise")
@dataclass(frozen=True, eq=False)
class Synthesis:
    """Synthetic images and how they compare with held-out ones.

    `metrics` are those of the samples, `floor` those of train images (what a perfect model of the
    train images would score), `control` those of an impostor: white noise of the right mean and
    variance and, for `memorisation`, copies of train images. All distances are 0 at best;
    `memorisation` is 1 for new images and 0 for copies.
    """

    samples: Images
    field_of_view: float = quantity("um")
    metrics: dict[str, float] = quantity()
    floor: dict[str, float] = quantity()
    control: dict[str, float] = quantity()
    frequency: Float[Tensor, " ring"] = quantity("1/um")
    spectra: dict[str, Float[Tensor, " ring"]] = quantity()


def synthesise(model: ScoreModel, images: ImageSet, spec: SampleSpec, seed: int) -> Synthesis:
    """Draw images, each given the signal of one held-out image, and judge them.

    With guidance 0 the signals are ignored. Raises ConfigError if there are too few images to
    compare with.
    """
    test, train = images.select("test"), images.select("train").images
    if len(test) < 2 or len(train) < 4:
        raise ConfigError(
            f"synthesise: {len(train)} train and {len(test)} test images; at least 4 and 2 are "
            "needed. Raise the image count."
        )
    rows = torch.arange(spec.count) % len(test)
    shape = (images.images.shape[1], images.images.shape[2])
    samples = draw_images(model, spec, shape, seed, test.observed(seed)[rows])
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(train), generator=generator)
    size = min(spec.count, len(train) // 2)
    as_samples, others = train[order[:size]], train[order[size:]]
    white = train.mean() + train.std() * torch.randn(samples.shape, generator=generator)
    control = compare(white, others, test.images, seed)
    control["memorisation"] = compare(others[:size], others, test.images, seed)["memorisation"]
    sets = {"samples": samples, "test": test.images, "train": as_samples, "control": white}
    rings = torch.arange(1, shape[0] // 2 + 1)
    return Synthesis(
        samples,
        images.field_of_view,
        compare(samples, others, test.images, seed),
        compare(as_samples, others, test.images, seed),
        control,
        rings / images.field_of_view,
        {name: radial_spectrum(members) for name, members in sets.items()},
    )


def compare(samples: Images, train: Images, test: Images, seed: int) -> dict[str, float]:
    """All metrics of `samples` beside the held-out images `test`."""
    fraction, test_fraction = ((x.double().mean((1, 2)) + 1) / 2 for x in (samples, test))
    return {
        "spectrum_log_error": spectrum_log_error(samples, test),
        "spectrum_log_error_to_train": spectrum_log_error(samples, train),
        "pixel_w1": wasserstein(samples.flatten(), test.flatten()),
        "volume_fraction_w1": wasserstein(fraction, test_fraction),
        "sliced_w2": sliced_w2(_patches(samples), _patches(test), seed),
        "memorisation": memorisation(samples, train, test),
    }


def spectrum_log_error(a: Images, b: Images) -> float:
    """Mean over rings of |log of the ratio of the radial spectra|."""
    return float((radial_spectrum(a) / radial_spectrum(b)).log().abs().mean())


def radial_spectrum(images: Images) -> Float[Tensor, " ring"]:
    """Mean power at 1, 2, ... cycles per field of view, up to the Nyquist ring."""
    n = images.shape[-1]
    power = torch.fft.fft2(images.double()).abs().square().mean(0) / n**2
    ring = _rings(n)
    return torch.stack([power[ring == r].mean() for r in range(1, n // 2 + 1)])


def _rings(n: int) -> Int[Tensor, "pixel_y pixel_x"]:
    """Cycles per field of view of every coefficient of an n x n image, rounded."""
    k = torch.fft.fftfreq(n, 1 / n, dtype=torch.float64)
    return torch.hypot(k[:, None], k[None]).round().long()


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
    correlation, distance = torch.fft.ifft2(power).real, _rings(n)
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
    ring = _rings(images.shape[-1])
    power = torch.fft.fft2(pixels).abs().square()
    # A ring without any power at all would be minus infinity.
    bands = torch.stack([power[:, ring == r].mean(1) for r in range(1, images.shape[-1] // 2 + 1)])
    flat = pixels.flatten(1)
    return torch.cat([flat.mean(1)[:, None], flat.std(1)[:, None], (bands.T + 1e-9).log()], 1)


def wasserstein(a: Float[Tensor, " a"], b: Float[Tensor, " b"], power: int = 1) -> float:
    """Wasserstein distance of order `power` between two samples of numbers, by quantiles."""
    levels = (torch.arange(1024, dtype=torch.float64) + 0.5) / 1024
    gap = _quantiles(a.double(), levels) - _quantiles(b.double(), levels)
    return float((gap.abs() ** power).mean() ** (1 / power))


def _quantiles(values: Tensor, levels: Tensor) -> Tensor:
    # torch.quantile refuses more than 2^24 values; picking from the sorted ones does not.
    ordered = values.sort().values
    return ordered[(levels * len(values)).long()]


def sliced_w2(
    a: Float[Tensor, "_ d"], b: Float[Tensor, "_ d"], seed: int, projections: int = PROJECTIONS
) -> float:
    """2-Wasserstein distance of points, root mean square over random unit directions."""
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(a.shape[1], projections, generator=generator, dtype=torch.float64)
    direction = direction / direction.norm(dim=0)
    pairs = zip((a.double() @ direction).T, (b.double() @ direction).T, strict=True)
    squares = [wasserstein(x, y, power=2) ** 2 for x, y in pairs]
    return float((sum(squares) / len(squares)) ** 0.5)


def _patches(images: Images) -> Float[Tensor, "patch pixel"]:
    """The images cut into adjoining patches."""
    cut = images.double().unfold(1, PATCH, PATCH).unfold(2, PATCH, PATCH)
    return cut.reshape(-1, PATCH**2)


def memorisation(samples: Images, train: Images, test: Images) -> float:
    """Median over samples of the distance to the nearest train over the nearest test image.

    As many train as test images compete, and distances are minimal over all periodic
    translations, so that a moved copy counts as a copy.
    """
    size = min(len(train), len(test))
    ratio = nearest_distance(samples, train[:size]) / nearest_distance(samples, test[:size])
    return float(ratio.median())


def nearest_distance(samples: Images, reference: Images) -> Float[Tensor, " _"]:
    """Root-mean-square pixel distance to the nearest of `reference`, over all translations."""
    shape = samples.shape[1:]
    spectrum = torch.fft.rfft2(reference).conj()
    square = reference.square().sum((1, 2))
    nearest = []
    for sample in samples:
        overlap = torch.fft.irfft2(torch.fft.rfft2(sample) * spectrum, s=shape).amax((1, 2))
        distance = sample.square().sum() + square - 2 * overlap
        # Rounding may leave a copy at minus 1e-4 of a distance of some hundred.
        nearest.append(distance.min().clamp_min(0))
    return (torch.stack(nearest) / shape.numel()).sqrt()
