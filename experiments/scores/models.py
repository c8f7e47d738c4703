"""Models of images at equal budget: what each drew, and a table of every metric with its floor."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean

import torch
from jaxtyping import Float
from torch import Tensor

from experiments.scores.measures import mmd, patches, sliced_w2, two_point_error
from spinmesh.bundles import ImageSet
from spinmesh.errors import ConfigError
from spinmesh.images.synthesis import compare, nearest_distance
from spinmesh.scores import ScoreModel, draw
from spinmesh.settings.synthesise import Sampling
from spinmesh.stored import quantity, store

# What is no trained model: train images at random (the floor, and the prior's own draws), the train
# image of the nearest signal (approximate Bayesian computation), and white noise (the control).
FLOOR, NEAREST, NOISE = "train images", "nearest signal", "white noise"
METRICS = (
    "spectrum_log_error",
    "two_point_error",
    "pixel_w1",
    "sliced_w2",
    "mmd",
    "mmd_p",
    "memorisation",
)
Row = dict[str, str | float]


@store("spinmesh/drawn", version=2, stage="synthesis")
@dataclass(frozen=True, eq=False)
class Drawn:
    """Images that one model drew, trained from one seed; seconds are of CPU."""

    model: str
    trained_from: int
    samples: Float[Tensor, "image pixel_y pixel_x"]
    train_seconds: float = quantity("s")
    draw_seconds: float = quantity("s")


def draw_model(
    name: str, model: ScoreModel, images: ImageSet, sampling: Sampling, seed: int
) -> Drawn:
    """Images given the signals of `signal_sources(images)`, one after the other."""
    signals = signal_sources(images).condition
    rows = torch.arange(sampling.count) % len(signals)
    start = time.process_time()
    samples = draw(model, sampling, seed, signals[rows])
    return Drawn(name, seed, samples, model.seconds, time.process_time() - start)


def signal_sources(images: ImageSet) -> ImageSet:
    """The held-out images whose signals are given to models: every other one."""
    return _held_out(images, 0)


def reference(images: ImageSet) -> ImageSet:
    """The other held-out images, which models are compared with: no sample depends on them."""
    return _held_out(images, 1)


def _held_out(images: ImageSet, first: int) -> ImageSet:
    test = images.select("test")
    if len(test) < 4:
        raise ConfigError(
            f"comparison: {len(test)} held-out images; at least 4 are needed. Raise the count."
        )
    return test.chosen(range(first, len(test), 2))


def baselines(images: ImageSet, count: int, seed: int) -> list[Drawn]:
    """`count` images (as far as they go) by each method that trains nothing."""
    train, signals = images.select("train"), signal_sources(images).condition
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(train), generator=generator)[: min(count, len(train) // 2)]
    spread = train.condition.std(0, correction=0).clamp_min(1e-12)
    gap = torch.cdist((signals / spread).double(), (train.condition / spread).double())
    nearest = gap.argmin(1)[torch.arange(count) % len(signals)]
    white = torch.randn((count, *train.images.shape[1:]), generator=generator)
    found = {
        FLOOR: train.images[order],
        NEAREST: train.images[nearest],
        NOISE: train.images.mean() + train.images.std() * white,
    }
    return [Drawn(name, seed, samples, 0.0, 0.0) for name, samples in found.items()]


def score_models(drawn: Sequence[Drawn], images: ImageSet) -> list[Row]:
    """Every metric of every model and seed; of each seed the baselines come first.

    `memorisation` is the median distance to the nearest of all train images over that to the
    nearest of the reference: 0 for copies, and for new images what the floor has.
    """
    seeds = sorted({one.trained_from for one in drawn})
    count = max(len(one.samples) for one in drawn)
    entries = [base for seed in seeds for base in baselines(images, count, seed)]
    return [_row(one, images) for one in (*entries, *drawn)]


def _row(one: Drawn, images: ImageSet) -> Row:
    test, train = reference(images).images, images.select("train").images
    if one.model == FLOOR:
        # A train image is its own nearest train image; the floor is that of the others.
        order = torch.randperm(
            len(train), generator=torch.Generator().manual_seed(one.trained_from)
        )
        train = train[order[len(one.samples) :]]
    found = compare(one.samples, train, test)
    # Unlike `compare`, which lets as many train as test images compete: no copy may go unseen.
    ratio = nearest_distance(one.samples, train) / nearest_distance(one.samples, test)
    found["memorisation"] = float(ratio.median())
    distance, p = mmd(one.samples, test, one.trained_from)
    found |= {"two_point_error": two_point_error(one.samples, test), "mmd": distance, "mmd_p": p}
    found["sliced_w2"] = sliced_w2(patches(one.samples), patches(test), one.trained_from)
    row: Row = {"model": one.model, "seed": one.trained_from}
    row |= {name: found[name] for name in METRICS}
    return row | {"train_seconds": one.train_seconds, "draw_seconds": one.draw_seconds}


def summarise_models(rows: Iterable[Row]) -> list[Row]:
    """One row per model: means over seeds, and the standard deviation of the spectrum's error."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(str(row["model"]), []).append(row)
    return [_summary(model, members) for model, members in groups.items()]


def _summary(model: str, members: list[Row]) -> Row:
    row: Row = {"model": model, "seeds": len(members)}
    for name in (*METRICS, "train_seconds", "draw_seconds"):
        row[name] = mean(float(member[name]) for member in members)
    errors = [float(member["spectrum_log_error"]) for member in members]
    middle = mean(errors)
    spread = sum((error - middle) ** 2 for error in errors) / max(len(errors) - 1, 1)
    return row | {"spectrum_log_error_std": spread**0.5}
