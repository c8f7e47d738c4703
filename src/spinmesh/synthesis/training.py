"""Score training: the regression of a Malliavin weight on noisy images, resumable to the bit."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.errors import ConfigError, ReductionError, StoreError
from spinmesh.progress import progress
from spinmesh.synthesis.images import ImageSet
from spinmesh.synthesis.malliavin import linear_weight
from spinmesh.synthesis.network import Denoiser, UNet, seeded_unet
from spinmesh.synthesis.sde import LinearSDE, linear_sde
from spinmesh.writing import complete_or_absent

# Networks are float32; every cast into and out of them uses this name.
NETWORK_DTYPE = torch.float32
# Iterations between two checkpoints: some 20 s of work lost at most.
CHECKPOINT_INTERVAL = 100
# Half-life of the weight average, and the warm-up, as fractions of the run.
EMA_HALF_LIFE = 0.02
WARM_UP = 0.03


@dataclass(frozen=True)
class ScoreSpec:
    """How to train. `noise_mean` and `noise_std` are those of log(sigma) in training."""

    sde: str = "ve"  # ve, vp or sub-vp
    sde_parameters: Mapping[str, float] = field(default_factory=dict)
    iterations: int = 1200
    batch: int = 32
    learning_rate: float = 2e-3
    width: int = 32
    condition_dropout: float = 0.1
    noise: tuple[float, float] = (-0.3, 1.3)  # mean and standard deviation of log(sigma)

    def __post_init__(self) -> None:
        linear_sde(self.sde, self.sde_parameters)
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
    """A trained score: averaged weights and the scalings they were trained with."""

    spec: ScoreSpec
    state: dict[str, Tensor]
    loss_history: Float[Tensor, " iteration"]
    condition_mean: Float[Tensor, " feature"]
    condition_std: Float[Tensor, " feature"]
    pixel_mean: float
    pixel_std: float

    @cached_property
    def sde(self) -> LinearSDE:
        """The forward equation whose score this is."""
        return linear_sde(self.spec.sde, self.spec.sde_parameters)

    @cached_property
    def denoiser(self) -> Denoiser:
        """The network with its scalings."""
        with torch.device("meta"):
            network = UNet(self.spec.width, len(self.condition_mean))
        network.load_state_dict(self.state, assign=True)
        return Denoiser(network, self.pixel_mean, self.pixel_std)

    @torch.no_grad()
    def denoise(
        self,
        x: Float[Tensor, "batch pixel_y pixel_x"],
        sigma: float | Tensor,
        condition: Float[Tensor, "batch feature"] | None = None,
    ) -> Float[Tensor, "batch pixel_y pixel_x"]:
        """E[image | image + sigma noise = x], given the signal or (None) for the prior.

        Held to [-1, 1], where every mean of images lies.
        """
        known = x.new_full((len(x),), float(condition is not None), dtype=NETWORK_DTYPE)
        if condition is None:
            condition = self.condition_mean.to(x.device).expand(len(x), -1)
        scaled = (condition - self.condition_mean.to(x.device)) / self.condition_std.to(x.device)
        level = torch.as_tensor(sigma, dtype=NETWORK_DTYPE, device=x.device).expand(len(x))
        clean = self.denoiser(x.to(NETWORK_DTYPE), level, scaled.to(NETWORK_DTYPE), known)
        return clean.clamp(-1, 1).to(x.dtype)

    def score(
        self,
        x: Float[Tensor, "batch pixel_y pixel_x"],
        t: Tensor,
        condition: Float[Tensor, "batch feature"] | None = None,
    ) -> Float[Tensor, "batch pixel_y pixel_x"]:
        """grad log p_t(x) = (Y E[X_0 | x] - x) / gamma, minus the mean Malliavin weight."""
        Y = self.sde.mean_factor(t)
        clean = self.denoise(x / Y, self.sde.noise_level(t), condition)
        return (Y * clean - x) / self.sde.gamma(t)


def train_score(
    images: ImageSet, spec: ScoreSpec, seed: int, checkpoint: str | Path | None = None
) -> ScoreModel:
    """Train on the train images; the result depends on the arguments alone.

    With a `checkpoint` path the run saves itself there now and then and, if it was killed, goes on
    from there to exactly the same result. A checkpoint of other images, spec or seed is replaced.
    Raises ReductionError if the loss stops being finite.
    """
    run = _Run(images.select("train"), spec, seed)
    file = None if checkpoint is None else Path(checkpoint)
    if file is not None:
        run.resume(file)
    todo = range(len(run.losses), spec.iterations)
    for iteration in progress(todo, "training the score", note=run.note):
        run.step(iteration)
        if file is not None and (iteration + 1) % CHECKPOINT_INTERVAL == 0:
            run.save(file)
    return run.result()


class _Run:
    """All that changes while training."""

    def __init__(self, images: ImageSet, spec: ScoreSpec, seed: int) -> None:
        self.spec, self.sde = spec, linear_sde(spec.sde, spec.sde_parameters)
        self.generator = torch.Generator().manual_seed(seed)
        self.images = images.images.to(NETWORK_DTYPE)
        self.mean, self.std = float(self.images.mean()), float(self.images.std())
        if not self.std > 0:
            raise ConfigError("score: all pixels of the train images are equal. Check the images.")
        condition = images.condition.to(NETWORK_DTYPE)
        self.condition_mean, spread = condition.mean(0), condition.std(0, correction=0)
        # A feature that never changes tells nothing; it becomes zero instead of 0/0.
        self.condition_std = torch.where(spread > 0, spread, 1.0)
        self.condition = (condition - self.condition_mean) / self.condition_std
        self.network = seeded_unet(spec.width, condition.shape[1], self.generator)
        self.denoiser = Denoiser(self.network, self.mean, self.std)
        self.optimiser = torch.optim.Adam(
            self.network.parameters(), lr=spec.learning_rate, betas=(0.9, 0.99)
        )
        self.average = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        self.losses: list[float] = []
        digest = hashlib.sha256(repr((spec, seed, torch.__version__)).encode())
        digest.update(self.images.numpy().tobytes() + condition.numpy().tobytes())
        self.digest = digest.hexdigest()

    def note(self) -> str:
        recent = self.losses[-50:]
        return f"loss {sum(recent) / len(recent):.4f}"

    def step(self, iteration: int) -> None:
        loss = self.loss(*self.draw())
        if not bool(torch.isfinite(loss)):
            raise ReductionError(
                f"score: the loss is {loss.item()} at iteration {iteration}. Lower `learning_rate` "
                f"({self.spec.learning_rate})."
            )
        for group in self.optimiser.param_groups:
            group["lr"] = self.spec.learning_rate * self.schedule(iteration)
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        # The average looks back EMA_HALF_LIFE of the run, and less while the run is young.
        half_life = EMA_HALF_LIFE * min(self.spec.iterations, 5 * (iteration + 1))
        for name, value in self.network.state_dict().items():
            self.average[name].lerp_(value, 1 - 0.5 ** (1 / half_life))
        self.losses.append(loss.item())

    def schedule(self, iteration: int) -> float:
        """Linear warm-up, then half a cosine to zero."""
        done = (iteration + 1) / self.spec.iterations
        fall = 0.5 * (1 + torch.cos(torch.tensor(torch.pi * done)))
        return min(1.0, done / WARM_UP) * float(fall)

    def draw(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Images in a random symmetry of the torus, conditions, who knows them, noise, sigma."""
        n, g = self.spec.batch, self.generator
        index = torch.randint(len(self.images), (n,), generator=g)
        x0 = _moved(self.images[index], g)
        known = (torch.rand(n, generator=g) >= self.spec.condition_dropout).to(NETWORK_DTYPE)
        mean, std = self.spec.noise
        sigma = torch.exp(mean + std * torch.randn(n, generator=g, dtype=torch.float64))
        sigma = sigma.minimum(self.sde.noise_level(torch.ones((), dtype=torch.float64)))
        noise = torch.randn(x0.shape, generator=g)
        return x0, self.condition[index], known, noise, sigma

    def loss(
        self, x0: Tensor, condition: Tensor, known: Tensor, noise: Tensor, sigma: Tensor
    ) -> Tensor:
        """Mean square error of sqrt(gamma) delta, the analogue of noise prediction.

        The factor 1 + (sigma / std)^2 gives every noise level the same loss before training.
        """
        t = self.sde.time_of(sigma)[:, None, None]
        Y, root, t = (v.to(NETWORK_DTYPE) for v in (self.sde.mean_factor(t), self.sde.std(t), t))
        x, delta = linear_weight(self.sde, x0, noise, t)
        level = sigma.to(NETWORK_DTYPE)
        clean = self.denoiser(x / Y, level, condition, known)
        predicted = (x - Y * clean) / root
        weight = 1 + (level / self.std) ** 2
        return (weight[:, None, None] * (predicted - root * delta) ** 2).mean()

    def save(self, file: Path) -> None:
        state = {
            "digest": self.digest,
            "network": self.network.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "losses": self.losses,
        }
        with complete_or_absent(file) as partial:
            torch.save(state, partial)

    def resume(self, file: Path) -> None:
        if not file.is_file():
            return
        try:
            state: dict[str, Any] = torch.load(file, weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise StoreError(f"{file}: not a checkpoint ({error}). Delete it and rerun.") from error
        if state.get("digest") != self.digest:
            return
        self.network.load_state_dict(state["network"])
        self.average = state["average"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])
        self.losses = state["losses"]

    def result(self) -> ScoreModel:
        return ScoreModel(
            self.spec,
            self.average,
            torch.tensor(self.losses, dtype=torch.float64),
            self.condition_mean,
            self.condition_std,
            self.mean,
            self.std,
        )


def _moved(images: Tensor, generator: torch.Generator) -> Tensor:
    """One random translation, reflection and transposition of all images of a batch."""
    ny, nx = images.shape[1:]
    dy, dx, flip, turn = torch.randint(ny * nx, (4,), generator=generator).tolist()
    images = images.roll((dy % ny, dx % nx), (1, 2))
    images = images.flip(1) if flip % 2 else images
    return images.transpose(1, 2).contiguous() if turn % 2 else images
