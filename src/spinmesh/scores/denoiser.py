"""Between a network and a score: scalings that keep its input and output near one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.errors import ReductionError
from spinmesh.scores.equations import ChainEquation
from spinmesh.scores.features import ImageMean

Network = Callable[..., Tensor]
# Training sees more paths than the pilots, some of them farther out.
BEYOND = 1.25
# Halvings that find the shift of an image to a millionth.
BISECTIONS = 24


class Denoiser:
    """(noisy data, sigma) -> clean data: a network between the scalings of Karras et al. (2022).

    They keep the network's input and target at unit variance for data of mean `mean` and standard
    deviation `std`. With an `image_mean` the mean of each row is left to that law: a network learns
    one component of a thousand last, and its errors there add up along a sampler's path.
    """

    def __init__(
        self, network: Network, mean: float, std: float, image_mean: ImageMean | None = None
    ) -> None:
        self.network, self.mean, self.std, self.image_mean = network, mean, std, image_mean

    def __call__(
        self, x: Float[Tensor, "batch ..."], sigma: Float[Tensor, " batch"], *context: Tensor
    ) -> Float[Tensor, "batch ..."]:
        """Estimate of E[clean | x]; `context` goes to the network as it is."""
        level = per_row(sigma, x)
        c_in = 1 / (level**2 + self.std**2).sqrt()
        c_skip = self.std**2 / (level**2 + self.std**2)
        c_out = level * self.std * c_in
        c_noise = sigma.log() / 4
        F = self.network(c_in * (x - self.mean), c_noise, *context)
        if self.image_mean is None:
            return self.mean + c_skip * (x - self.mean) + c_out * F
        mean = row_mean(x)
        texture = c_skip * (x - per_row(mean, x)) + c_out * (F - per_row(row_mean(F), F))
        noise = sigma * x[0].numel() ** -0.5
        return texture + per_row(self.image_mean.denoised(mean, noise, *context), x)


@dataclass(frozen=True, eq=False)
class Scalings:
    """Of each chain time: how to centre and scale X, and the linear regression of the target on it.

    With u = (x - centre) / spread the target is offset + slope u + residual F, where F is left to
    the network; the scalings of Karras et al. (2022) follow from the same rule. Beyond `reach`, a
    little more than the largest |u| of the pilots, the regression is held and the base score alone
    grows: what a network says where it saw nothing may drive samples away.
    """

    time: Float[Tensor, " time"]
    centre: Float[Tensor, " time"]
    spread: Float[Tensor, " time"]
    offset: Float[Tensor, " time"]
    slope: Float[Tensor, " time"]
    residual: Float[Tensor, " time"]
    reach: Float[Tensor, " time"]

    def at(self, t: Float[Tensor, " batch"], like: Tensor) -> list[Tensor]:
        """The six numbers at `t`, linear in log t, shaped to act on the rows of `like`."""
        time, *columns = (getattr(self, field.name).cpu().numpy() for field in fields(self))
        place, places = t.log().cpu().numpy(), np.log(time)
        values = (torch.from_numpy(np.interp(place, places, column)) for column in columns)
        return [per_row(value.to(like), like) for value in values]


def pilot_scalings(
    sde: ChainEquation, pairs: Iterable[tuple[Tensor, Tensor]], times: Float[Tensor, " time"]
) -> Scalings:
    """Scalings from pilot pairs (X_t, delta) at `times`; the target is delta + base score.

    Of a weight, E[delta] = 0 and Cov(delta, X) = 1 whatever the equation, by integration by parts
    with the test functions 1 and X: its regression on X needs no estimate.
    """
    rows = []
    for (x, delta), t in zip(pairs, times.tolist(), strict=True):
        base = sde.base_score(x, x.new_tensor(t))
        centre, spread, offset = x.mean(), x.std(), base.mean()
        u = (x - centre) / spread
        slope = 1 / spread + (u * base).mean()
        rest = (delta + base - offset - slope * u).std()
        rows.append([centre, spread, offset, slope, rest, BEYOND * u.abs().max()])
    columns = torch.tensor(rows, dtype=torch.float64).T
    if not bool(torch.isfinite(columns).all()):
        raise ReductionError(
            "score: pilot paths are not finite. Take more chain steps or a smaller noise."
        )
    return Scalings(times.double(), *columns)


class MeanWeight:
    """(X_t, t) -> E[delta | X_t]: a network between pilot scalings, added to the base score."""

    def __init__(self, network: Network, sde: ChainEquation, scalings: Scalings) -> None:
        self.network, self.sde, self.scalings = network, sde, scalings

    def score(
        self, x: Float[Tensor, "batch ..."], t: Float[Tensor, " batch"], *context: Tensor
    ) -> Float[Tensor, "batch ..."]:
        """Estimate of grad log p_t(x)."""
        u, offset, slope, residual = self._scaled(x, t)
        weight = offset + slope * u + residual * self.network(u, t.log() / 4, *context)
        return self.sde.base_score(x, per_row(t, x)) - weight

    def loss(self, x: Tensor, delta: Tensor, t: Tensor, *context: Tensor) -> Tensor:
        """Mean square error of the network, which is 1 before training at every t."""
        u, offset, slope, residual = self._scaled(x, t)
        target = delta + self.sde.base_score(x, per_row(t, x)) - offset - slope * u
        return ((self.network(u, t.log() / 4, *context) - target / residual) ** 2).mean()

    def _scaled(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        centre, spread, offset, slope, residual, reach = self.scalings.at(t, x)
        u = torch.minimum(torch.maximum((x - centre) / spread, -reach), reach)
        return u, offset, slope, residual


def row_mean(x: Float[Tensor, "batch ..."]) -> Float[Tensor, " batch"]:
    """The mean of each row."""
    return x.flatten(1).mean(1)


def within_range(images: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
    """The nearest images with pixels in [-1, 1] and the same means.

    The projection is clamp(image + shift) with a shift per image. Without it, clamped pixels move
    the mean: background outnumbers axons, so that every step of a sampler would add to them.
    """
    rows = images.flatten(1)
    mean = rows.mean(1, keepdim=True).clamp(-1, 1)
    low = -1 - rows.amax(1, keepdim=True)
    high = 1 - rows.amin(1, keepdim=True)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        too_dark = (rows + middle).clamp(-1, 1).mean(1, keepdim=True) < mean
        low, high = torch.where(too_dark, middle, low), torch.where(too_dark, high, middle)
    return (rows + (low + high) / 2).clamp(-1, 1).reshape(images.shape)


def per_row(values: Float[Tensor, " batch"], like: Float[Tensor, "batch ..."]) -> Tensor:
    """One number per row of `like`, with axes to broadcast over the others."""
    return values.reshape(-1, *[1] * (like.ndim - 1))
