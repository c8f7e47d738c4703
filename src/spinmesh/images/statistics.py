"""Statistics of sets of images, and how far two sets are apart."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from scipy.stats import wasserstein_distance
from torch import Tensor

# The sets need not be of one length, so their first axis has no name to be checked.
Images = Float[Tensor, "_ pixel_y pixel_x"]


def compare(samples: Images, train: Images, test: Images) -> dict[str, float]:
    """All metrics of `samples` beside the held-out images `test`."""
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
