"""Samples beside held-out images: every number with its floor and with a control that must lose."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spinmesh.bundles import ImageSet
from spinmesh.errors import ConfigError
from spinmesh.scores.model import ScoreModel
from spinmesh.scores.samplers import draw
from spinmesh.settings.synthesise import Sampling
from spinmesh.stored import quantity, store

# The sets need not be of one length, so their first axis has no name to be checked.
Images = Float[Tensor, "_ pixel_y pixel_x"]


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


def draw_and_compare(
    model: ScoreModel, images: ImageSet, sampling: Sampling, seed: int
) -> Synthesis:
    """Images, each drawn given the signal of one held-out image, and how they compare with these.

    With guidance 0 the signals are ignored. Raises ConfigError if there are too few images to
    compare with.
    """
    test, train = images.select("test"), images.select("train").images
    if len(test) < 2 or len(train) < 4:
        raise ConfigError(
            f"synthesise: {len(train)} train and {len(test)} test images; at least 4 and 2 are "
            "needed. Raise the image count."
        )
    rows = torch.arange(sampling.count) % len(test)
    samples = draw(model, sampling, seed, test.observed(seed)[rows])
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(train), generator=generator)
    size = min(sampling.count, len(train) // 2)
    as_samples, others = train[order[:size]], train[order[size:]]
    white = train.mean() + train.std() * torch.randn(samples.shape, generator=generator)
    control = compare(white, others, test.images)
    control["memorisation"] = compare(others[:size], others, test.images)["memorisation"]
    sets = {"samples": samples, "test": test.images, "train": as_samples, "control": white}
    cycles = torch.arange(1, model.pixels // 2 + 1)
    return Synthesis(
        samples,
        images.field_of_view,
        compare(samples, others, test.images),
        compare(as_samples, others, test.images),
        control,
        cycles / images.field_of_view,
        {name: radial_spectrum(members) for name, members in sets.items()},
    )


def compare(samples: Images, train: Images, test: Images) -> dict[str, float]:
    """All metrics of `samples` beside the held-out images `test`."""
    from scipy.stats import wasserstein_distance  # a second to import

    fraction, test_fraction = ((x.double().mean((1, 2)) + 1) / 2 for x in (samples, test))
    return {
        "spectrum_log_error": spectrum_log_error(samples, test),
        "spectrum_log_error_to_train": spectrum_log_error(samples, train),
        "pixel_w1": float(wasserstein_distance(samples.flatten(), test.flatten())),
        "volume_fraction_w1": float(wasserstein_distance(fraction, test_fraction)),
        "memorisation": memorisation(samples, train, test),
    }


def spectrum_log_error(a: Images, b: Images) -> float:
    """Mean over rings of |log of the ratio of the radial spectra|."""
    return float((radial_spectrum(a) / radial_spectrum(b)).log().abs().mean())


def radial_spectrum(images: Images) -> Float[Tensor, " ring"]:
    """Mean power at 1, 2, ... cycles per field of view, up to the Nyquist ring."""
    n = images.shape[-1]
    power = torch.fft.fft2(images.double()).abs().square().mean(0) / n**2
    ring = rings(n)
    return torch.stack([power[ring == r].mean() for r in range(1, n // 2 + 1)])


def rings(n: int) -> Int[Tensor, "pixel_y pixel_x"]:
    """Cycles per field of view of every coefficient of an n x n image, rounded."""
    k = torch.fft.fftfreq(n, 1 / n, dtype=torch.float64)
    return torch.hypot(k[:, None], k[None]).round().long()


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
