"""The score of images: what to train, the trained model, and the training itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spinmesh.bundles.images import ImageSet, Protocol
from spinmesh.errors import ConfigError
from spinmesh.learning import Batch, Checkpoint, fingerprint, fit
from spinmesh.scores.denoiser import Denoiser, MeanWeight, Scalings, within_range
from spinmesh.scores.equations import ChainEquation, LinearEquation
from spinmesh.scores.features import Features, ImageMean, Supply, learn_features, learn_image_mean
from spinmesh.scores.network import UNet, seeded_unet
from spinmesh.scores.nonlinear import equation_named
from spinmesh.scores.targets import CLOSED, Denoising, WeightRegression, recipe
from spinmesh.settings.synthesise import ScoreTraining
from spinmesh.stored import quantity, store

# Networks are float32; every cast into and out of them uses this name.
NETWORK_DTYPE = torch.float32
Pictures = Float[Tensor, "batch pixel_y pixel_x"]
Orders = list[Int[Tensor, " feature"] | None]


@store("spinmesh/score_model", version=7, stage="synthesise")
@dataclass(frozen=True, eq=False)
class ScoreModel:
    """A trained score: averaged weights and the scalings they were trained with.

    `features` is what the network is told of a signal; `field_of_view` (um) and `pixels` are those
    of the images it learnt from. `scalings` are there if the target was the weight of a chain,
    `image_mean` if not; `seconds` is the CPU time of its training.
    """

    training: ScoreTraining
    state: dict[str, Tensor]
    loss_history: Float[Tensor, " iteration"]
    features: Features
    field_of_view: float = quantity("um")
    pixels: int = quantity()
    pixel_mean: float = quantity()
    pixel_std: float = quantity()
    scalings: Scalings | None = None
    image_mean: ImageMean | None = None
    seconds: float = quantity("s", default=0.0)

    @property
    def protocol(self) -> Protocol | None:
        """Of the signals it takes; None if they are no measurable ones."""
        return self.features.protocol

    @cached_property
    def sde(self) -> ChainEquation:
        """The forward equation whose score this is."""
        return equation_named(self.training.sde, self.training.sde_parameters)

    @property
    def linear(self) -> LinearEquation:
        """The forward equation, if it is linear; ConfigError if not."""
        if not isinstance(self.sde, LinearEquation):
            raise ConfigError(
                f"score: {self.training.sde} is nonlinear, so its score is no denoiser. Use "
                "`score`, and the sampler `splitting` or `euler_maruyama`."
            )
        return self.sde

    @cached_property
    def network(self) -> UNet:
        """The network with the averaged weights."""
        with torch.device("meta"):
            network = UNet(self.training.width, self.features.count)
        network.load_state_dict(self.state, assign=True)
        return network

    @torch.no_grad()
    def denoise(
        self,
        x: Pictures,
        sigma: float | Tensor,
        condition: Float[Tensor, "batch feature"] | None = None,
    ) -> Pictures:
        """E[image | image + sigma noise = x], given the signal or (None) for the prior.

        Held to [-1, 1] without a change of its mean. For linear equations alone.
        """
        if self.scalings is not None:
            t = self.linear.time_of(torch.as_tensor(sigma, dtype=torch.float64, device=x.device))
            Y = self.linear.mean_factor(t)
            clean = x + self.linear.gamma(t) / Y * self.score(Y * x, t, condition)
        else:
            level = torch.as_tensor(sigma, dtype=NETWORK_DTYPE, device=x.device).expand(len(x))
            denoiser = Denoiser(self.network, self.pixel_mean, self.pixel_std, self.image_mean)
            clean = denoiser(x.to(NETWORK_DTYPE), level, *self._context(x, condition))
        return within_range(clean).to(x.dtype)

    @torch.no_grad()
    def score(
        self,
        x: Pictures,
        t: Tensor,
        condition: Float[Tensor, "batch feature"] | None = None,
    ) -> Pictures:
        """grad log p_t(x): minus the mean Malliavin weight, or (Y E[X_0 | x] - x) / gamma."""
        if self.scalings is None:
            Y = self.linear.mean_factor(t)
            clean = self.denoise(x / Y, self.linear.noise_level(t), condition)
            return (Y * clean - x) / self.linear.gamma(t)
        time = t.to(device=x.device, dtype=NETWORK_DTYPE).expand(len(x))
        weight = MeanWeight(self.network, self.sde, self.scalings)
        context = self._context(x, condition)
        return weight.score(x.to(NETWORK_DTYPE), time, *context).to(x.dtype)

    def _context(self, x: Tensor, condition: Tensor | None) -> Batch:
        """Features of the condition, and a flag for every row: 1 with a condition, 0 without."""
        conditioned = x.new_full((len(x),), float(condition is not None), dtype=NETWORK_DTYPE)
        if condition is None:
            return x.new_zeros((len(x), self.features.count), dtype=NETWORK_DTYPE), conditioned
        return self.features(condition.to(x.device)).to(NETWORK_DTYPE), conditioned


def train_score(
    images: ImageSet,
    training: ScoreTraining,
    seed: int,
    checkpoint: str | Path | None = None,
    device: str = "cpu",
) -> ScoreModel:
    """Train on the train images; the result depends on images, settings and seed alone.

    Of images with a protocol each draw of a condition has new noise. A killed training goes on
    from the file `checkpoint`: see `learning.fit` for what is raised. ConfigError if all pixels
    are equal.
    """
    train = images.select("train")
    pixels = train.images.to(NETWORK_DTYPE)
    mean, std = float(pixels.mean()), float(pixels.std())
    if not std > 0:
        raise ConfigError("score: all pixels of the train images are equal. Check the images.")
    condition = train.condition.to(NETWORK_DTYPE)
    features = learn_features(condition, train.protocol, seed)
    generator = torch.Generator(device).manual_seed(seed)
    network = seeded_unet(training.width, features.count, generator)
    dropout = training.condition_dropout
    supply = image_supply(pixels.to(device), condition.to(device), features, dropout)
    sde = equation_named(training.sde, training.sde_parameters)
    target, batch = training.target, training.batch
    image_mean, scalings = None, None
    task: Denoising | WeightRegression
    if isinstance(sde, LinearEquation) and target in CLOSED:
        image_mean = learn_image_mean(supply, len(pixels), generator)
        task = Denoising(sde, target, supply, batch, (mean, std), training.noise, image_mean)
    else:
        task = WeightRegression(sde, target, supply, batch, generator)
        scalings = task.scalings
    run = fingerprint(pixels, condition, features, training, seed, torch.__version__)
    state = Checkpoint(None if checkpoint is None else Path(checkpoint), run)
    budget = recipe(training.iterations, training.learning_rate)
    fitted = fit(network, task, budget, generator, "training the score", checkpoint=state)
    return ScoreModel(
        training,
        fitted.state,
        fitted.losses,
        features,
        images.field_of_view,
        pixels.shape[-1],
        mean,
        std,
        scalings,
        image_mean,
        fitted.seconds,
    )


def image_supply(
    images: Pictures,
    condition: Float[Tensor, "image feature"],
    features: Features,
    dropout: float,
) -> Supply:
    """Images in a random symmetry of the torus; features of their signals, and who is told them.

    A mirrored or transposed image has the signal of a mirrored or transposed acquisition.
    """
    protocol, unmoved = features.protocol, torch.arange(condition.shape[1])
    # Averages over directions, without a protocol, are those of the moved image as well.
    orders: Orders = protocol.symmetries() if protocol else [unmoved, unmoved]

    def supply(n: int, generator: torch.Generator) -> tuple[Tensor, Batch]:
        where: dict[str, Any] = {"generator": generator, "device": generator.device}
        index = torch.randint(len(images), (n,), **where)
        x0, signal = moved(images[index], condition[index], orders, generator)
        if protocol is not None:
            signal = protocol.observed(signal, generator)
        conditioned = (torch.rand(n, **where) >= dropout).to(images.dtype)
        return x0, (features(signal), conditioned)

    return supply


def moved(
    images: Pictures,
    condition: Float[Tensor, "batch feature"],
    orders: Orders,
    generator: torch.Generator,
) -> tuple[Pictures, Float[Tensor, "batch feature"]]:
    """One random symmetry of the torus for all images of a batch, and for their features.

    `orders`: which features of an image are which of the mirrored (y) and of the transposed one;
    None where a symmetry of the torus is none of the acquisition: that one is not used.
    """
    (mirrored, transposed), (ny, nx) = orders, images.shape[1:]
    four = torch.randint(ny * nx, (4,), generator=generator, device=generator.device)
    dy, dx, flip, turn = four.tolist()
    images = images.roll((dy % ny, dx % nx), (1, 2))
    if flip % 2 and mirrored is not None:
        images, condition = images.flip(1), condition[:, mirrored]
    if turn % 2 and transposed is not None:
        images, condition = images.transpose(1, 2).contiguous(), condition[:, transposed]
    return images, condition
