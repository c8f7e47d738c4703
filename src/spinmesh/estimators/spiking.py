"""Recurrent networks of leaky integrate-and-fire neurons, with weights and states at few levels.

After SQUAT (arXiv 2404.19668), whose abstract alone could be read. `PlainNetwork` has as many
weights and no spikes: the baseline at equal bits.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spinmesh.errors import ConfigError
from spinmesh.estimators.classifier import Classification, Classifier, one_cycle
from spinmesh.estimators.examples import Examples
from spinmesh.estimators.quantisers import (
    nearest,
    quantised_weights,
    threshold_levels,
    uniform_levels,
)
from spinmesh.learning import Checkpoint, fingerprint, fit
from spinmesh.settings.respiratory import Spiking
from spinmesh.stored import quantity, store

# Membrane potentials are measured in thresholds.
THRESHOLD = 1.0
# What a class gains in log probability if its neuron fires at every step instead of never.
GAIN = 10.0
# Deviation of the first weights between neurons, as part of what would keep the size of activity.
RECURRENT = 0.3
UNIFORM, CENTRED = "uniform", "threshold-centred"
LEVELS = {UNIFORM: uniform_levels, CENTRED: threshold_levels}
# Examples that are classified at once, which bounds memory.
CHUNK = 1024


@dataclass(frozen=True)
class Precision:
    """Bits of the weights and of the states, 1 to 8; None: float32.

    States of spiking neurons have `levels` between -(1 + lower) and 1 + upper thresholds;
    activations of neurons without spikes have even ones between 0 and 1 + upper.
    """

    weight_bits: int | None = None
    state_bits: int | None = None
    levels: str = CENTRED
    lower: float = 0.0
    upper: float = 1.0

    def __post_init__(self) -> None:
        for bits in (self.weight_bits, self.state_bits):
            if bits is not None and not 1 <= bits <= 8:
                raise ConfigError(f"spiking: {bits} bits. Give 1 to 8, or none to round nothing.")
        if self.levels not in LEVELS or min(self.lower, self.upper) < 0:
            raise ConfigError(
                f"spiking: levels {self.levels!r} with limits {self.lower}, {self.upper}. Give "
                f"{' or '.join(LEVELS)}, and limits of 0 or more."
            )


class RecurrentNetwork(nn.Module, ABC):
    """A layer of neurons that hear the inputs and each other, and a neuron for each class.

    Inputs (example, step, input) become log probabilities (example, class) but for a constant.
    """

    state_levels: Tensor | None

    def __init__(
        self,
        inputs: int,
        classes: int,
        settings: Spiking,
        precision: Precision,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.decay, self.precision = settings.decay, precision
        bits, units = precision.state_bits, settings.units
        levels = None if bits is None else self.levels(bits).float()
        self.register_buffer("state_levels", levels, persistent=False)

        def normal(rows: int, columns: int, gain: float) -> nn.Parameter:
            weight = torch.randn((rows, columns), generator=generator, device=generator.device)
            return nn.Parameter(weight * gain / columns**0.5)

        self.inward = normal(units, inputs, 2**0.5)
        self.recurrent = normal(units, units, RECURRENT)
        self.outward = normal(classes, units, 2.0)
        self.bias = nn.Parameter(self.inward.new_zeros(units))
        self.outward_bias = nn.Parameter(self.inward.new_zeros(classes))

    def forward(self, sequence: Float[Tensor, "example step input"]) -> Tensor:
        """Log probabilities of the classes (example, class), but for a constant."""
        bits = self.precision.weight_bits
        weights: list[Tensor] = [self.inward, self.recurrent, self.outward]
        if bits is not None:
            weights = [quantised_weights(each, bits) for each in weights]
        inward, recurrent, outward = (each.T for each in weights)
        return self.respond(sequence @ inward + self.bias, recurrent, outward)

    @abstractmethod
    def respond(self, currents: Tensor, recurrent: Tensor, outward: Tensor) -> Tensor:
        """The same, from the currents (example, step, unit) that the inputs cause."""

    def rounded(self, state: Tensor) -> Tensor:
        """At the levels of the precision."""
        return state if self.state_levels is None else nearest(state, self.state_levels)

    @abstractmethod
    def levels(self, bits: int) -> Float[Tensor, " level"]:
        """Of the states."""


class SpikingNetwork(RecurrentNetwork):
    """Leaky integrate-and-fire neurons; the class whose neuron fires most often is the answer.

    Neurons of the classes hear what the others fired a step before, as these do among each other.
    """

    def respond(self, currents: Tensor, recurrent: Tensor, outward: Tensor) -> Tensor:
        """GAIN times the rate at which each class's neuron fires."""
        units, classes = outward.shape
        # One population: first the units, then a neuron for each class, which none of them hears.
        weights = nn.functional.pad(torch.cat([recurrent, outward], 1), (0, 0, 0, classes))
        bias = self.outward_bias.expand(*currents.shape[:2], classes)
        steps = torch.cat([currents, bias], 2).unbind(1)
        potential = spikes = count = torch.zeros_like(steps[0])
        for current in steps:
            potential, spikes = integrate_and_fire(
                potential, spikes, current + spikes @ weights, self.decay, self.rounded
            )
            count = count + spikes
        return GAIN * count[:, units:] / len(steps)

    def levels(self, bits: int) -> Float[Tensor, " level"]:
        """Of membrane potentials."""
        how = self.precision
        return LEVELS[how.levels](bits, THRESHOLD, how.lower, how.upper)


class PlainNetwork(RecurrentNetwork):
    """Neurons that pass on a number instead of spikes: clipped below at 0 and above; no leak."""

    def respond(self, currents: Tensor, recurrent: Tensor, outward: Tensor) -> Tensor:
        """Mean over the steps of a linear function of the activations."""
        state = total = torch.zeros_like(currents[:, 0])
        for current in currents.unbind(1):
            current = current + state @ recurrent
            state = self.rounded(current.clamp(0, 1 + self.precision.upper))
            total = total + state
        return total / currents.shape[1] @ outward + self.outward_bias

    def levels(self, bits: int) -> Float[Tensor, " level"]:
        """Of activations."""
        return torch.linspace(0, 1 + self.precision.upper, 2**bits)


NETWORKS: dict[bool, type[RecurrentNetwork]] = {True: SpikingNetwork, False: PlainNetwork}


def integrate_and_fire(
    potential: Float[Tensor, "example neuron"],
    spikes: Float[Tensor, "example neuron"],
    current: Float[Tensor, "example neuron"],
    decay: float,
    rounded: Callable[[Tensor], Tensor] = lambda potential: potential,
) -> tuple[Float[Tensor, "example neuron"], Float[Tensor, "example neuron"]]:
    """Potential and spikes after a step: u = Q(decay u + I - threshold s), s = 1 if u > threshold.

    What fired at the step before is reset by subtraction. Q rounds the state before it may fire.
    """
    potential = rounded(decay * potential + current - THRESHOLD * spikes)
    return potential, fire(potential - THRESHOLD)


def fire(above: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
    """1 where positive, else 0; its gradient is that of arctan(pi x) / pi (Fang et al. 2021)."""
    spikes: Tensor = _Fire.apply(above)
    return spikes


class _Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, above: Tensor) -> Tensor:
        ctx.save_for_backward(above)
        return (above > 0).to(above)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (above,) = ctx.saved_tensors
        return gradient / (1 + (math.pi * above).square())


@store("spinmesh/spiking_model", version=1, stage="respiratory")
@dataclass(frozen=True, eq=False)
class SpikingModel(Classifier):
    """A trained recurrent network, spiking or not, with the precision at which it answers."""

    settings: Spiking
    precision: Precision
    spiking: bool
    inputs: int
    classes: tuple[str, ...]
    state: dict[str, Tensor]
    losses: Float[Tensor, " iteration"] = quantity("nat")
    seconds: float = quantity("s")

    @cached_property
    def network(self) -> RecurrentNetwork:
        """The network with the trained weights."""
        network = NETWORKS[self.spiking](
            self.inputs, len(self.classes), self.settings, self.precision, torch.Generator()
        )
        network.load_state_dict(self.state)
        return network

    @torch.no_grad()
    def probabilities(self, examples: Examples) -> Float[Tensor, "example class"]:
        """Of each class. Raises ConfigError if the sequences have other inputs than at training."""
        sequence, inputs = _sequence(examples), self.inputs
        if sequence.shape[2] != inputs:
            raise ConfigError(
                f"spiking: sequences of {sequence.shape[2]} inputs; the model has {inputs}. "
                "Make them with the settings it was trained with."
            )
        answers = [self.network(part).softmax(1) for part in sequence.split(CHUNK)]
        return torch.cat(answers) if answers else sequence.new_zeros((0, len(self.classes)))


def train_spiking(
    training: Examples,
    settings: Spiking,
    precision: Precision,
    seed: int,
    *,
    spiking: bool = True,
    start: SpikingModel | None = None,
    checkpoint: str | Path | None = None,
    device: str = "cpu",
) -> SpikingModel:
    """Train a network whose numbers are rounded from the start; cross-entropy, Adam, one cycle.

    With `start` its weights are tuned: fewer epochs, a lower learning rate. The result depends on
    examples, settings, precision, seed and start alone. Raises ConfigError for examples without
    sequences or labels; see `learning.fit` for checkpoints.
    """
    if training.label is None or len(training) == 0:
        raise ConfigError("spiking: no examples, or examples without labels. Training needs both.")
    sequence, classes, batch = _sequence(training), training.names.classes, settings.batch
    inputs, epochs, rate = sequence.shape[2], settings.epochs, settings.learning_rate
    generator = torch.Generator(device).manual_seed(seed)
    network = NETWORKS[spiking](inputs, len(classes), settings, precision, generator)
    if start is not None:
        network.load_state_dict(start.state)
        epochs, rate = settings.tuning_epochs, settings.tuning_learning_rate
    iterations = epochs * max(len(sequence) // batch, 1)
    task = Classification(sequence.to(device), training.label.to(device), len(classes), batch)
    recipe = replace(one_cycle(iterations, rate, 0.0), half_life=None)
    weights = None if start is None else start.state
    run = fingerprint(training, settings, precision, spiking, seed, weights, torch.__version__)
    state = Checkpoint(None if checkpoint is None else Path(checkpoint), run)
    fitted = fit(network, task, recipe, generator, "training a network", checkpoint=state)
    return SpikingModel(
        settings, precision, spiking, inputs, classes, fitted.state, fitted.losses, fitted.seconds
    )


def _sequence(examples: Examples) -> Float[Tensor, "example step input"]:
    if examples.sequence is None or examples.sequence.shape[1] == 0:
        raise ConfigError("spiking: examples without sequences. Give some of several steps.")
    return examples.sequence.float()
