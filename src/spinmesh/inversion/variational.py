"""A shape model that keeps to the shapes it has seen: a variational autoencoder of their scores."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import silu
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from spinmesh.progress import progress

# RMS error (um per point) that the decoder is asked for at first and at last; in between it is
# lowered, because a sharp decoder from the start finds no order among the shapes.
FIRST_ERROR, LAST_ERROR = 0.3, 0.008
# Fraction of the epochs over which it is lowered.
LOWERING = 0.6
BATCH = 512
# The encoder's logarithmic variances start here, so that latents begin nearly without noise.
LOG_VARIANCE = -3.0
# Scores are passed through asinh: the leading ones are a hundred times the last ones, which tell
# the number of beads.
SQUEEZE = 3.0
REPORT_EVERY = 5
# Muon's steps have unit spectral norm, AdamW's unit entries: its rate is this much larger.
MUON_RATE = 10.0
WARM_UP = 0.05
# Mean information (nats) below which a latent is not in use; those in use carry more than that
# three times over.
IDLE = 0.25


def encode(state: Mapping[str, Tensor], scores: Float[Tensor, "*batch score"]) -> Tensor:
    """Latent numbers: the mean that the encoder gives."""
    return _encode(state, scores / state["unit"])[0]


def decode(state: Mapping[str, Tensor], z: Float[Tensor, "*batch latent"]) -> Tensor:
    """Principal scores; smooth in z."""
    return state["unit"] * (state["centre"] + _perceptron(state, "decoder", z))


def _encode(state: Mapping[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and logarithmic variance of the latents."""
    squeezed = torch.asinh(SQUEEZE * x / state["input_spread"]) / SQUEEZE**0.5
    mean, log_variance = _perceptron(state, "encoder", squeezed).chunk(2, -1)
    return mean, log_variance + LOG_VARIANCE


def _perceptron(state: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    last = 0
    while f"{name}.{last + 1}.weight" in state:
        last += 1
    for layer in range(last + 1):
        x = x @ state[f"{name}.{layer}.weight"].T + state[f"{name}.{layer}.bias"]
        x = silu(x) if layer < last else x
    return x


def train_variational(
    scores: Float[Tensor, "shape score"],
    validation: Float[Tensor, "held score"],
    unit: float,
    latent: int,
    width: int,
    epochs: int,
    learning_rate: float,
    generator: torch.Generator,
) -> tuple[dict[str, Tensor], Float[Tensor, "report 3"]]:
    """Descend |x - D(z)|^2 / 2 s^2 + KL(q(z|x) | N(0, 1)), s lowered to LAST_ERROR.

    The latents that the shapes do not need fall back to the prior, where the decoder ignores them.
    They are removed: a search has a handful of live unknowns instead of `latent`. `unit` is the
    root of the template's volume (um^1.5): scores over it are um RMS. Returns the state (float64)
    and rows of epoch, training and validation error as a fraction of the variance. Trains in
    float32.
    """
    x, held = (scores / unit).float(), (validation / unit).float()
    state = _start(x, latent, width, generator)
    state["unit"] = torch.tensor(unit, dtype=torch.float32)
    weights = {k: v.requires_grad_() for k, v in state.items() if k.endswith(("weight", "bias"))}
    optimisers = _optimisers(weights, learning_rate)
    schedules = _schedules(optimisers, epochs * -(-len(x) // BATCH))
    history: list[list[float]] = []
    variance = float((held - x.mean(0)).square().sum(1).mean())
    for epoch in progress(range(epochs), "training the variational autoencoder"):
        ratio = (LAST_ERROR / FIRST_ERROR) ** min(1.0, epoch / (LOWERING * epochs))
        losses = []
        for batch in torch.randperm(len(x), generator=generator).split(BATCH):
            loss, square = _loss(state, x[batch], FIRST_ERROR * ratio, generator)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
            for optimiser, schedule in zip(optimisers, schedules, strict=True):
                optimiser.step()
                optimiser.zero_grad()
                schedule.step()
            losses.append(square)
        if epoch % REPORT_EVERY == 0 or epoch == epochs - 1:
            with torch.no_grad():
                again = state["centre"] + _perceptron(state, "decoder", _encode(state, held)[0])
                error = float((again - held).square().sum(1).mean())
            history.append([float(epoch), sum(losses) / len(losses) / variance, error / variance])
    with torch.no_grad():
        final = _without_idle_latents(state, x)
    return final, torch.tensor(history, dtype=torch.float64)


def _optimisers(weights: Mapping[str, Tensor], learning_rate: float) -> list[Optimizer]:
    """Muon (Jordan et al. 2024) for the square middle of the networks, AdamW for the rest.

    Orthogonalised steps halve the error of AdamW alone at equal time (docs/decisions/0007).
    """
    middle = [
        v for k, v in weights.items() if v.ndim == 2 and k != "decoder.0.weight"
    ]  # the latents' own weights are few and differ in scale
    rest = [v for v in weights.values() if all(v is not m for m in middle)]
    return [
        torch.optim.Muon(middle, lr=MUON_RATE * learning_rate, weight_decay=0.0),
        torch.optim.AdamW(rest, lr=learning_rate, weight_decay=1e-5),
    ]


def _schedules(optimisers: list[Optimizer], steps: int) -> list[LambdaLR]:
    """Up for the first WARM_UP of the steps, then down to zero, linearly."""
    return [
        LambdaLR(o, lambda step: min(1.0, step / (WARM_UP * steps)) * max(0.0, 1 - step / steps))
        for o in optimisers
    ]


def _without_idle_latents(state: Mapping[str, Tensor], x: Tensor) -> dict[str, Tensor]:
    """The networks in float64 with only the latents that carry more than IDLE nats per shape."""
    mean, log_variance = _encode(state, x)
    information = (mean.square() + log_variance.exp() - 1 - log_variance).mean(0) / 2
    live = (information > IDLE).nonzero()[:, 0]
    if len(live) == 0:
        live = information.argmax()[None]
    final = {name: value.detach().double() for name, value in state.items()}
    last = max(name for name in final if name.startswith("encoder.") and name.endswith("weight"))
    both = torch.cat([live, live + len(information)])
    bias = last.replace("weight", "bias")
    final[last], final[bias] = final[last][both], final[bias][both]
    final["decoder.0.weight"] = final["decoder.0.weight"][:, live]
    return final


def _start(x: Tensor, latent: int, width: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Two hidden layers in the encoder, three in the decoder; small last layers."""
    spread = x.std(0)
    state = {"centre": x.mean(0), "input_spread": spread.clamp_min(1e-3 * float(spread.max()))}
    shapes = {
        "encoder": (x.shape[1], width, width, 2 * latent),
        "decoder": (latent, width, width, width, x.shape[1]),
    }
    for name, sizes in shapes.items():
        for layer, (before, after) in enumerate(pairwise(sizes)):
            gain = 2.0 if layer < len(sizes) - 2 else 0.1
            start = torch.randn((after, before), generator=generator)
            state[f"{name}.{layer}.weight"] = start * (gain / before) ** 0.5
            state[f"{name}.{layer}.bias"] = torch.zeros(after)
    return state


def _loss(
    state: Mapping[str, Tensor], x: Tensor, error: float, generator: torch.Generator
) -> tuple[Tensor, float]:
    """The loss times s^2, which keeps its size while s falls, and the mean squared error."""
    mean, log_variance = _encode(state, x)
    noise = torch.randn(mean.shape, generator=generator)
    z = mean + noise * (log_variance / 2).exp()
    square = (state["centre"] + _perceptron(state, "decoder", z) - x).square().sum(1).mean()
    divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean() / 2
    return square / 2 + error**2 * divergence, float(square.detach())
