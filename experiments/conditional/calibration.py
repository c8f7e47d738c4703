"""Is the posterior of images right? Held-out signals, and what is known of their tissue."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from experiments.conditional.settings import Conditional
from spinmesh.bundles import image_statistics, resimulate
from spinmesh.bundles.images import ImageSet, Protocol
from spinmesh.errors import ConfigError
from spinmesh.images.posterior import LEVELS, UNITS, central_interval, known_protocol
from spinmesh.mesh import STATISTICS
from spinmesh.scores import ScoreModel, draw, quick_sampler
from spinmesh.settings.synthesise import Sampling
from spinmesh.stored import quantity, store

MODEL, ABC, PRIOR = "model", "nearest-signal ABC", "prior"
METHODS = (MODEL, ABC, PRIOR)
TRUE_IMAGES = "true images"
# Held-out images shown beside samples, and samples shown of each.
SHOWN, BESIDE = 5, 6


@store("spinmesh/calibration", version=2, stage="conditional")
@dataclass(frozen=True, eq=False)
class Calibration:
    """Statistics of held-out tissues, and of the samples that each method has for their signals.

    `truth` are the exact statistics of the packings, `of_images` those read off their images: what
    the way from image to statistics costs. `misfit` holds chi^2 per measurement: of the model's
    samples and the `TRUE_IMAGES`, simulated again (NaN where an image is no packing), and of the
    packings that the other methods chose. `gallery` holds a true image and samples for its signal
    in each row.
    """

    truth: Float[Tensor, "signal statistic"] = quantity(UNITS)
    of_images: Float[Tensor, "signal statistic"] = quantity(UNITS)
    samples: dict[str, Float[Tensor, "signal sample statistic"]] = quantity(UNITS)
    misfit: dict[str, Float[Tensor, "signal _"]] = quantity()
    circle_error: tuple[float, float] = quantity()  # rms of coverage: samples, true images
    gallery: Float[Tensor, "row column pixel_y pixel_x"] = quantity()
    field_of_view: float = quantity("um")

    def rank(self, method: str) -> Float[Tensor, "signal statistic"]:
        """Part of the samples below the truth; uniform if the posterior is right."""
        return (self.samples[method] < self.truth[:, None]).double().mean(1)

    def coverage(self, method: str, level: float) -> Float[Tensor, " statistic"]:
        """How often the central interval of `level` holds the truth."""
        inside = []
        for number, truth in enumerate(self.truth.T):
            low, high = central_interval(self.samples[method][..., number], level)
            inside.append(((low <= truth) & (truth <= high)).double().mean())
        return torch.stack(inside)

    def crps(self, method: str) -> Float[Tensor, " statistic"]:
        """Mean continuous ranked probability score, in the statistic's unit; 0 at best."""
        return crps(self.samples[method], self.truth).mean(0)

    def rows(self) -> list[dict[str, str | float]]:
        """The table: a row for each statistic and method, and one for each kind of image."""
        table: list[dict[str, str | float]] = []
        against = self.crps(ABC)
        for number, name in enumerate(STATISTICS):
            for method in METHODS:
                score = self.crps(method)[number]
                row: dict[str, str | float] = {"quantity": name, "method": method}
                for level in LEVELS:
                    hit = self.coverage(method, level)[number]
                    row[f"coverage_{100 * level:.0f}"] = float(hit)
                row["mean_rank"] = float(self.rank(method)[:, number].mean())
                row["crps"] = float(score)
                row["crps_below_abc"] = float(1 - score / against[number])
                table.append(row)
            # One number, no distribution: its score is the error of the way through the image.
            error = (self.of_images - self.truth)[:, number].abs().mean()
            table.append({"quantity": name, "method": TRUE_IMAGES, "crps": float(error)})
        return [*table, *self._misfit_rows()]

    def _misfit_rows(self) -> list[dict[str, str | float]]:
        reference = float(self.misfit[TRUE_IMAGES].nanmedian())
        errors = dict(zip((MODEL, TRUE_IMAGES), self.circle_error, strict=True))
        table: list[dict[str, str | float]] = []
        for kind in (name for name in (TRUE_IMAGES, *METHODS) if name in self.misfit):
            values = self.misfit[kind]
            median = float(values.nanmedian())
            row: dict[str, str | float] = {"quantity": "chi2_per_measurement", "method": kind}
            row |= {"median": median, "median_over_true_images": median / reference}
            if kind in errors:
                row["no_packing"] = float(values.isnan().double().mean())
                row["circle_error"] = errors[kind]
            table.append(row)
        return table


def evaluate_conditional(
    model: ScoreModel, images: ImageSet, settings: Conditional, seed: int
) -> Calibration:
    """Draw images for each of some held-out signals and judge them.

    Beside them as many training packings whose (noisy) signals are nearest, and as many at random.
    Raises ConfigError or SequenceError, before any compute, if model and images are not
    of one protocol and cell, or there are too few images.
    """
    protocol = _check(model, images, settings)
    train, test = images.select("train"), images.select("test").chosen(range(settings.signals))
    observed = test.observed(seed)
    rows = torch.arange(settings.signals).repeat_interleave(settings.samples)
    how = Sampling(
        sampler=quick_sampler(model.sde),
        steps=settings.steps,
        count=len(rows),
        guidance=settings.guidance,
    )
    drawn = draw(model, how, seed, observed[rows])
    statistics = image_statistics(drawn, model.field_of_view)
    drawn = drawn.reshape(settings.signals, settings.samples, model.pixels, model.pixels)
    training = _statistics(train)
    generator = torch.Generator().manual_seed(seed)
    random = torch.randint(len(train), (settings.signals, settings.samples), generator=generator)
    nearest = nearest_signals(observed, train.observed(seed + 1), settings.samples)
    chosen = torch.cat([test.images, drawn[:, : settings.simulated].flatten(0, 1)])
    again, error = resimulate(chosen, model.field_of_view, protocol, seed)
    attenuation, clean = observed.double().exp(), train.condition.double().exp()
    pictures = {TRUE_IMAGES: again[: len(test)], MODEL: again[len(test) :]}
    simulated = {kind: signal.unflatten(0, (len(test), -1)) for kind, signal in pictures.items()}
    simulated |= {ABC: clean[nearest], PRIOR: clean[random]}
    gallery = torch.cat([test.images[:, None], drawn], 1)[:SHOWN, : BESIDE + 1]
    return Calibration(
        _statistics(test),
        image_statistics(test.images, model.field_of_view),
        {
            MODEL: statistics.reshape(settings.signals, settings.samples, -1),
            ABC: training[nearest],
            PRIOR: training[random],
        },
        {
            kind: protocol.misfit(attenuation[:, None].expand_as(signal), signal)
            for kind, signal in simulated.items()
        },
        (float(error[len(test) :].nanmean()), float(error[: len(test)].nanmean())),
        gallery,
        model.field_of_view,
    )


def _check(model: ScoreModel, images: ImageSet, settings: Conditional) -> Protocol:
    if images.protocol is None or images.effective_radius is None:
        raise ConfigError(
            "conditional: these images have no measurable signals. Set `synthesise.source: "
            "bundles`."
        )
    protocol = known_protocol(model)
    protocol.refuse_other(images.protocol.acquisition)
    learnt = (model.pixels, model.field_of_view)
    given = (images.images.shape[2], images.field_of_view)
    if learnt != given or protocol.snr != images.protocol.snr:
        raise ConfigError(
            f"conditional: the model was trained on {learnt[0]} pixels of {learnt[1]:g} um at SNR "
            f"{protocol.snr:g}, the images have {given[0]} of {given[1]:g} um at "
            f"{images.protocol.snr:g}. Train the model on these images."
        )
    held_out, train = images.split.count("test"), images.split.count("train")
    if held_out < settings.signals or train < settings.samples:
        raise ConfigError(
            f"conditional: {held_out} held-out and {train} training images for {settings.signals} "
            f"signals and {settings.samples} samples. Raise `images.count` or lower these."
        )
    return protocol


def nearest_signals(
    observed: Float[Tensor, "signal feature"], training: Float[Tensor, "image feature"], count: int
) -> Tensor:
    """Numbers of the `count` training signals nearest to each: rejection ABC at a fixed rate.

    Distance in attenuation, where the noise of every measurement is the same.
    """
    distance = torch.cdist(observed.double().exp(), training.double().exp())
    return distance.topk(count, largest=False).indices


def crps(
    samples: Float[Tensor, "signal sample statistic"], truth: Float[Tensor, "signal statistic"]
) -> Float[Tensor, "signal statistic"]:
    """E|X - y| - E|X - X'|/2, with X' never the same sample as X: unbiased in their number.

    Source: Gneiting & Raftery (2007); Ferro (2014) for the fair form.
    """
    count = samples.shape[1]
    ordered = samples.sort(1).values
    place = (2 * torch.arange(1, count + 1, dtype=samples.dtype) - count - 1)[:, None]
    spread = 2 * (place * ordered).sum(1) / (count * (count - 1))
    return (samples - truth[:, None]).abs().mean(1) - 0.5 * spread


def _statistics(images: ImageSet) -> Float[Tensor, "image statistic"]:
    """The exact ones, known of packings."""
    columns = [getattr(images, name) for name in STATISTICS]
    return torch.stack(columns, 1).double()
