"""Training of the model that keeps to the shapes it has seen: a variational autoencoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from spinmesh.learning import Batch, Problem, Recipe, fit, perceptron
from spinmesh.settings import ShapeTraining
from spinmesh.shapes.models import squeezed

# RMS error (um per point) that the decoder is asked for at first and at last; in between it is
# lowered, because a sharp decoder from the start finds no order among the shapes.
FIRST_ERROR, LAST_ERROR = 0.3, 0.008
# Fraction of the epochs over which it is lowered.
LOWERING = 0.6
BATCH = 512
# Shapes whose hidden units are in memory at a time where no gradient is needed.
TOGETHER = 16384
# The encoder's logarithmic variances start here, so that latents begin nearly without noise.
LOG_VARIANCE = -3.0
REPORT_EVERY = 5
# Muon's steps have unit spectral norm, AdamW's unit entries: its rate is this much larger.
MUON_RATE = 10.0
WARM_UP = 0.05
# Mean information (nats) below which a latent is not in use; those in use carry more than that
# three times over.
IDLE = 0.25

Networks = tuple[dict[str, Tensor], dict[str, Tensor], Tensor, Tensor]


class Autoencoder(nn.Module):
    """Two hidden layers in the encoder, three in the decoder; small last layers. Float32."""

    centre: Tensor
    spread: Tensor

    def __init__(
        self, x: Float[Tensor, "shape score"], latent: int, width: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        spread, scores = x.std(0), x.shape[1]
        self.register_buffer("centre", x.mean(0))
        self.register_buffer("spread", spread.clamp_min(1e-3 * float(spread.max())))
        self.encoder = perceptron((scores, width, width, 2 * latent), (2.0, 2.0, 0.1), generator)
        sizes = (latent, width, width, width, scores)
        self.decoder = perceptron(sizes, (2.0, 2.0, 2.0, 0.1), generator)

    def law(self, x: Float[Tensor, "batch score"]) -> tuple[Tensor, Tensor]:
        """Mean and logarithmic variance of the latents."""
        mean, log_variance = self.encoder(squeezed(x, self.spread)).chunk(2, -1)
        return mean, log_variance + LOG_VARIANCE

    def decoded(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch score"]:
        """Scores over the unit."""
        return self.centre + self.decoder(z)

    def forward(self, x: Tensor, noise: Tensor, error: Tensor) -> Tensor:
        """|x - D(z)|^2 / 2 + s^2 KL(q(z|x) | N(0, 1)): the usual loss times s^2, s the error."""
        mean, log_variance = self.law(x)
        z = mean + noise * (log_variance / 2).exp()
        square = (self.decoded(z) - x).square().sum(1).mean()
        return square / 2 + error.square() * divergence(mean, log_variance).sum(1).mean()


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence (nats) of normal laws from the standard one."""
    return (mean.square() + log_variance.exp() - 1 - log_variance) / 2


@dataclass
class _Shapes(Problem):
    """Batches of an order that is drawn anew every epoch, and the error asked for."""

    x: Float[Tensor, "shape score"]
    latent: int
    epochs: int

    def draw(self, generator: torch.Generator, done: int) -> list[Batch]:
        where: Any = {"generator": generator, "device": generator.device}
        batches = self.x[torch.randperm(len(self.x), **where)].split(BATCH)
        epoch = done // len(batches)
        ratio = (LAST_ERROR / FIRST_ERROR) ** min(1.0, epoch / (LOWERING * self.epochs))
        error = torch.tensor(FIRST_ERROR * ratio)
        return [(x, torch.randn((len(x), self.latent), **where), error) for x in batches]

    def loss(self, network: Callable[..., Tensor], batch: Batch) -> Tensor:
        return network(*batch)


def fit_variational(
    fitted: Float[Tensor, "shape score"],
    choosing: Float[Tensor, "chooser score"],
    settings: ShapeTraining,
    generator: torch.Generator,
) -> tuple[Networks, Float[Tensor, "report 3"]]:
    """Weights of encoder and decoder, centre and spread (float64), and the history.

    The latents that the shapes do not need fall back to the prior, where the decoder ignores them:
    they are removed. Scores are in um RMS; the history has epoch, training and validation error as
    fractions of the variance.
    """
    x, validation = (scores.float().to(generator.device) for scores in (fitted, choosing))
    network = Autoencoder(x, settings.latent, settings.width, generator)
    batches = -(-len(x) // BATCH)
    variance = float((validation - x.mean(0)).square().sum(1).mean())

    def report(network: nn.Module, done: int) -> tuple[float, ...] | None:
        epoch, rest = divmod(done, batches)
        if rest or (epoch % REPORT_EVERY and epoch != settings.epochs):
            return None
        assert isinstance(network, Autoencoder)
        errors = [
            torch.cat([network.decoded(network.law(some)[0]) - some for some in y.split(TOGETHER)])
            for y in (x, validation)
        ]
        return (float(epoch), *(float(e.square().sum(1).mean()) / variance for e in errors))

    iterations, rate = settings.epochs * batches, settings.learning_rate
    recipe = Recipe(iterations, lambda network: _optimisers(network, rate), _schedule, clip=1.0)
    shapes = _Shapes(x, settings.latent, settings.epochs)
    label = "training the variational autoencoder"
    result = fit(network, shapes, recipe, generator, label, report=report)
    network.load_state_dict(result.state)
    history = torch.tensor(result.rows, dtype=torch.float64)
    return _without_idle_latents(network.cpu(), x.cpu()), history


def _optimisers(network: nn.Module, learning_rate: float) -> list[Optimizer]:
    """Muon (Jordan et al. 2024) for the square middle of the networks, AdamW for the rest.

    Orthogonalised steps halve the error of AdamW alone at equal time (docs/decisions/0007).
    """
    middle: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, weight in network.named_parameters():
        # The latents' own weights are few and differ in scale.
        square = weight.ndim == 2 and name != "decoder.0.weight"
        (middle if square else rest).append(weight)
    return [
        torch.optim.Muon(middle, lr=MUON_RATE * learning_rate, weight_decay=0.0),
        torch.optim.AdamW(rest, lr=learning_rate, weight_decay=1e-5),
    ]


def _schedule(optimiser: Optimizer, steps: int) -> LambdaLR:
    """Up for the first WARM_UP of the steps, then down to zero, linearly."""
    return LambdaLR(
        optimiser,
        lambda step: min(1.0, step / (WARM_UP * steps)) * max(0.0, 1 - step / steps),
    )


@torch.no_grad()
def _without_idle_latents(network: Autoencoder, x: Float[Tensor, "shape score"]) -> Networks:
    """The networks in float64 with only the latents that carry more than IDLE nats per shape."""
    information = torch.cat([divergence(*network.law(y)) for y in x.split(TOGETHER)]).mean(0)
    live = (information > IDLE).nonzero()[:, 0]
    if len(live) == 0:
        live = information.argmax()[None]
    network = network.double()
    encoder, decoder = network.encoder.state_dict(), network.decoder.state_dict()
    both, last = torch.cat([live, live + len(information)]), len(network.encoder) - 1
    for name in (f"{last}.weight", f"{last}.bias"):
        encoder[name] = encoder[name][both]
    decoder["0.weight"] = decoder["0.weight"][:, live]
    copies = [{name: w.detach().clone() for name, w in part.items()} for part in (encoder, decoder)]
    return copies[0], copies[1], network.centre, network.spread
