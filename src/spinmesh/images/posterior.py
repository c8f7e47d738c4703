"""Images of the tissue behind one measured signal, what they say of it, and whether they fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.bundles import Protocol, image_statistics, resimulate
from spinmesh.errors import ConfigError
from spinmesh.mesh import STATISTICS
from spinmesh.scores.model import ScoreModel
from spinmesh.scores.samplers import draw
from spinmesh.sequence.acquisition import Reference
from spinmesh.settings.synthesise import Sampling
from spinmesh.stored import quantity, store

# One unit for each statistic.
UNITS = ", ".join(f"{name}: {unit}" for name, unit in STATISTICS.items())
# Parts of the posterior inside the central intervals that are reported.
LEVELS = (0.5, 0.8, 0.95)
# Images that a small b is simulated in.
FEW = 4


@store("spinmesh/draws", version=3, stage="synthesise")
@dataclass(frozen=True, eq=False)
class Draws:
    """Synthetic images, `STATISTICS` of each and, given a signal, how well each explains it.

    `simulated` are S/S0 of the images' own axons, `circle_error` the rms of the coverage that
    circles leave out, for as many images (from the first on) as were simulated again; NaN where
    the axons had no room. `measured` is the signal they were drawn for, None for the prior.
    """

    images: Float[Tensor, "image pixel_y pixel_x"]
    field_of_view: float = quantity("um")
    statistics: Float[Tensor, "image statistic"] = quantity(UNITS)
    protocol: Protocol | None = None
    measured: Float[Tensor, " measurement"] | None = None
    simulated: Float[Tensor, "simulated measurement"] | None = None
    circle_error: Float[Tensor, " simulated"] | None = None

    @property
    def misfit(self) -> Float[Tensor, " simulated"] | None:
        """chi^2 per measurement of every image that was simulated again."""
        if self.protocol is None or self.measured is None or self.simulated is None:
            return None
        return self.protocol.misfit(self.measured.expand_as(self.simulated), self.simulated)

    def summary(self) -> dict[str, Any]:
        """Means and central intervals, and quantiles of the misfit; plain numbers."""
        statistics = {
            name: {"unit": unit} | intervals(column)
            for (name, unit), column in zip(STATISTICS.items(), self.statistics.T, strict=True)
        }
        summary: dict[str, Any] = {"images": len(self.images), "statistics": statistics}
        chi2 = self.misfit
        if chi2 is None or self.circle_error is None:
            return summary
        fits = chi2[torch.isfinite(chi2)]
        summary["resimulated"] = {
            "images": len(chi2),
            "without_room_for_their_axons": len(chi2) - len(fits),
            "chi2_per_measurement": intervals(fits) if len(fits) else None,
            "circle_error": float(self.circle_error.nanmean()) if len(fits) else None,
        }
        return summary


def intervals(values: Float[Tensor, " sample"]) -> dict[str, Any]:
    """Mean, median and the central intervals of `LEVELS`."""
    numbers: dict[str, Any] = {"mean": float(values.mean()), "median": float(values.median())}
    for level in LEVELS:
        numbers[f"interval_{100 * level:.0f}"] = central_interval(values, level).tolist()
    return numbers


def central_interval(
    samples: Float[Tensor, "*batch sample"], level: float
) -> Float[Tensor, "2 ..."]:
    """Ends that a further draw of the same law lies between with probability `level`.

    Order statistics at p (n + 1), Weibull's positions: unbiased for any law and any n.
    """
    ends = (0.5 - level / 2, 0.5 + level / 2)
    return torch.from_numpy(np.quantile(samples.double().numpy(), ends, axis=-1, method="weibull"))


def draw_posterior(
    model: ScoreModel,
    sampling: Sampling,
    seed: int,
    measured: Float[Tensor, " measurement"] | None = None,
    simulated_again: int = 0,
) -> Draws:
    """`sampling.count` images given measured attenuations, or of the prior without any.

    The first `simulated_again` of them are simulated. Raises ConfigError for a signal if the model
    knows no protocol.
    """
    condition = None
    if measured is not None:
        # A magnitude of zero counts as the hundredth part of the noise.
        positive = measured.clamp_min(0.01 / known_protocol(model).snr)
        condition = positive.log().float().expand(sampling.count, -1)
    images = draw(model, sampling, seed, condition)
    statistics = image_statistics(images, model.field_of_view)
    again: tuple[Tensor | None, Tensor | None] = (None, None)
    if model.protocol is not None and measured is not None and simulated_again > 0:
        again = resimulate(images[:simulated_again], model.field_of_view, model.protocol, seed)
    return Draws(images, model.field_of_view, statistics, model.protocol, measured, *again)


def relative_to_zero(
    model: ScoreModel,
    sampling: Sampling,
    seed: int,
    measured: Float[Tensor, " measurement"],
    reference: Reference,
) -> Float[Tensor, " measurement"]:
    """Attenuations relative to b = 0, as a model takes them, of a signal whose S0 has b > 0.

    What the small b takes off is simulated in a few images that are drawn for the signal as it is;
    it depends little on the tissue. Raises ConfigError if none of them can be simulated.
    """
    first = draw_posterior(model, sampling.replace(count=FEW), seed, measured)
    protocol = replace(known_protocol(model), acquisition=reference.acquisition)
    low, _ = resimulate(first.images, model.field_of_view, protocol, seed)
    mean = low.nanmean(0)
    if not bool(torch.isfinite(mean).all()):
        raise ConfigError(
            "synthesise: the unweighted measurements have b > 0, and what that takes off could not "
            "be simulated. Give the signal relative to b = 0."
        )
    return measured * (1 + (mean - 1) @ reference.weight.T)


def known_protocol(model: ScoreModel) -> Protocol:
    """The protocol whose signals a model takes; ConfigError if they are no measurable ones."""
    if model.protocol is None:
        raise ConfigError(
            "synthesise: this model was trained on axons' signals without the water between them, "
            "which nobody can measure. Train one with `synthesise.source: bundles`, or leave the "
            "signal out."
        )
    return model.protocol
