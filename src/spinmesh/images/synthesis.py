"""Samples beside held-out images: every number with its floor and with a control that must lose."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.bundles import ImageSet
from spinmesh.errors import ConfigError
from spinmesh.images.statistics import Images, compare, radial_spectrum
from spinmesh.scores.model import ScoreModel
from spinmesh.scores.samplers import draw_images
from spinmesh.settings.synthesise import Sampling
from spinmesh.stored import quantity, store


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


def synthesise(model: ScoreModel, images: ImageSet, sampling: Sampling, seed: int) -> Synthesis:
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
    rows = torch.arange(sampling.count) % len(test)
    shape = (images.images.shape[1], images.images.shape[2])
    samples = draw_images(model, sampling, shape, seed, test.observed(seed)[rows])
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(train), generator=generator)
    size = min(sampling.count, len(train) // 2)
    as_samples, others = train[order[:size]], train[order[size:]]
    white = train.mean() + train.std() * torch.randn(samples.shape, generator=generator)
    control = compare(white, others, test.images)
    control["memorisation"] = compare(others[:size], others, test.images)["memorisation"]
    sets = {"samples": samples, "test": test.images, "train": as_samples, "control": white}
    cycles = torch.arange(1, shape[0] // 2 + 1)
    return Synthesis(
        samples,
        images.field_of_view,
        compare(samples, others, test.images),
        compare(as_samples, others, test.images),
        control,
        cycles / images.field_of_view,
        {name: radial_spectrum(members) for name, members in sets.items()},
    )
