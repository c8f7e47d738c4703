"""The score of images: what to train, the trained model, and the training itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spinmesh.bundles.images import ImageSet
from spinmesh.bundles.protocol import Protocol
from spinmesh.errors import ConfigError
from spinmesh.learning import Batch, Runtime, fingerprint, fit
from spinmesh.synthesis.features import Features, learn_features
from spinmesh.synthesis.image_mean import ImageMean, learn_image_mean
from spinmesh.synthesis.network import UNet, seeded_unet
from spinmesh.synthesis.nonlinear import make_sde
from spinmesh.synthesis.scalings import Denoiser, MeanWeight, Scalings, within_range
from spinmesh.synthesis.sde import CLOSED, DENOISER, ChainSDE, LinearSDE
from spinmesh.synthesis.targets import (
    Supply,
    WeightRegression,
    check_target,
    problem,
    recipe,
)

# Networks are float32; every cast into and out of them uses this name.
NETWORK_DTYPE = torch.float32
Pictures = Float[Tensor, "batch pixel_y pixel_x"]


@dataclass(frozen=True)
class ScoreSpec:
    """How to train. `noise`: mean and deviation of log(sigma), for the target `denoiser`."""

    sde: str = "ve"  # a key of nonlinear.SDES
    sde_parameters: Mapping[str, float] = field(default_factory=dict)
    target: str = DENOISER  # one of the equation's `targets`
    iterations: int = 1200
    batch: int = 32
    learning_rate: float = 2e-3
    width: int = 32
    condition_dropout: float = 0.1
    noise: tuple[float, float] = (-0.3, 1.3)

    def __post_init__(self) -> None:
        check_target(make_sde(self.sde, self.sde_parameters), self.target)
        if min(self.iterations, self.batch) < 1 or not self.learning_rate > 0:
            raise ConfigError(
                f"score: iterations {self.iterations}, batch {self.batch}, learning_rate "
                f"{self.learning_rate}; all must be positive."
            )
        if self.width < 8 or self.width % 8:
            raise ConfigError(f"score: width is {self.width}; give a multiple of 8.")
        if not 0 <= self.condition_dropout <= 1 or not self.noise[1] > 0:
            raise ConfigError(
                f"score: condition_dropout {self.condition_dropout}, noise {self.noise}; give a "
                "fraction, and a positive standard deviation."
            )


@dataclass(frozen=True, eq=False)
class ScoreModel:
    """A trained score: averaged weights and the scalings they were trained with.

    `features` is what the network is told of a signal; `field_of_view` (um) and `pixels` are those
    of the images it learnt from. `scalings` are there if the target was the weight of a chain,
    `image_mean` if not; `seconds` is the CPU time of its training.
    """

    spec: ScoreSpec
    state: dict[str, Tensor]
    loss_history: Float[Tensor, " iteration"]
    features: Features
    field_of_view: float
    pixels: int
    pixel_mean: float
    pixel_std: float
    scalings: Scalings | None = None
    image_mean: ImageMean | None = None
    seconds: float = 0.0

    @property
    def protocol(self) -> Protocol | None:
        """Of the signals it takes; None if they are no measurable ones."""
        return self.features.protocol

    @cached_property
    def sde(self) -> ChainSDE:
        """The forward equation whose score this is."""
        return make_sde(self.spec.sde, self.spec.sde_parameters)

    @property
    def linear(self) -> LinearSDE:
        """The forward equation, if it is linear; ConfigError if not."""
        if not isinstance(self.sde, LinearSDE):
            raise ConfigError(
                f"score: {self.spec.sde} is nonlinear, so its score is no denoiser. Use `score`, "
                "and the sampler `splitting` or `euler_maruyama`."
            )
        return self.sde

    @cached_property
    def network(self) -> UNet:
        """The network with the averaged weights."""
        with torch.device("meta"):
            network = UNet(self.spec.width, self.features.count)
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

        Held to [-1, 1], where every mean of images lies, without a change of its own mean. For
        linear equations alone.
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
        """Features of the condition, and whether it is known."""
        known = x.new_full((len(x),), float(condition is not None), dtype=NETWORK_DTYPE)
        if condition is None:
            return x.new_zeros((len(x), self.features.count), dtype=NETWORK_DTYPE), known
        return self.features(condition.to(x.device)).to(NETWORK_DTYPE), known


def train_score(
    images: ImageSet, spec: ScoreSpec, seed: int, runtime: Runtime | None = None
) -> ScoreModel:
    """Train on the train images; the result depends on images, spec and seed alone.

    Of images with a protocol each draw of a condition has new noise.
    `runtime` says where, and where to keep a checkpoint: see `learning.fit` for what is raised.
    """
    runtime = runtime or Runtime()
    train = images.select("train")
    pixels = train.images.to(NETWORK_DTYPE)
    mean, std = float(pixels.mean()), float(pixels.std())
    if not std > 0:
        raise ConfigError("score: all pixels of the train images are equal. Check the images.")
    condition = train.condition.to(NETWORK_DTYPE)
    broken = ~(pixels.flatten(1).isfinite().all(1) & condition.isfinite().all(1))
    if bool(broken.any()):
        raise ConfigError(
            f"score: train image {int(broken.nonzero()[0])} or its signal is not finite. Check how "
            "it was made."
        )
    features = learn_features(condition, train.protocol, seed)
    generator = torch.Generator(runtime.device).manual_seed(seed)
    network = seeded_unet(spec.width, features.count, generator)
    supply = image_supply(
        pixels.to(runtime.device),
        condition.to(runtime.device),
        features,
        spec.condition_dropout,
    )
    sde = make_sde(spec.sde, spec.sde_parameters)
    moments = (mean, std)
    own = learn_image_mean(supply, len(pixels), generator) if spec.target in CLOSED else None
    task = problem(sde, spec.target, supply, spec.batch, moments, spec.noise, generator, own)
    fitted = fit(
        network,
        task,
        recipe(spec.iterations, spec.learning_rate),
        generator,
        "training the score",
        runtime=runtime,
        identity=fingerprint(pixels, condition, features, spec, seed),
    )
    scalings = task.scalings if isinstance(task, WeightRegression) else None
    return ScoreModel(
        spec,
        fitted.state,
        fitted.losses,
        features,
        images.field_of_view,
        pixels.shape[-1],
        mean,
        std,
        scalings,
        own,
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
    moves = Symmetry.of(features.protocol, condition.shape[1])

    def supply(n: int, generator: torch.Generator) -> tuple[Tensor, Batch]:
        where: dict[str, Any] = {"generator": generator, "device": generator.device}
        index = torch.randint(len(images), (n,), **where)
        x0, order = moves.moved(images[index], generator)
        signal = condition[index][:, order.to(condition.device)]
        if features.protocol is not None:
            signal = features.protocol.observed(signal, generator)
        known = (torch.rand(n, **where) >= dropout).to(images.dtype)
        return x0, (features(signal), known)

    return supply


@dataclass(frozen=True, eq=False)
class Symmetry:
    """Which features of an image are which of the mirrored (y) and of the transposed one.

    None where a symmetry of the torus is none of the acquisition: that one is not used.
    """

    features: int
    mirrored: Int[Tensor, " feature"] | None
    transposed: Int[Tensor, " feature"] | None

    @classmethod
    def of(cls, protocol: Protocol | None, features: int) -> Symmetry:
        """Of averages over directions, without a protocol, nothing changes."""
        if protocol is None:
            return cls(features, torch.arange(features), torch.arange(features))
        return cls(features, protocol.mirrored(), protocol.transposed())

    def moved(self, images: Pictures, generator: torch.Generator) -> tuple[Pictures, Tensor]:
        """One random move of all images of a batch, and the order of their features after it."""
        ny, nx = images.shape[1:]
        four = torch.randint(ny * nx, (4,), generator=generator, device=generator.device)
        dy, dx, flip, turn = four.tolist()
        images = images.roll((dy % ny, dx % nx), (1, 2))
        order = torch.arange(self.features)
        if flip % 2 and self.mirrored is not None:
            images, order = images.flip(1), self.mirrored
        if turn % 2 and self.transposed is not None:
            images, order = images.transpose(1, 2).contiguous(), order[self.transposed]
        return images, order
