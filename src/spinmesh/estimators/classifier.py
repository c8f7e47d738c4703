"""What every classifier answers, how networks learn to, and the baselines of every table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from spinmesh.estimators.examples import Examples
from spinmesh.learning import Batch, Problem, Recipe, fit, perceptron

# Of the plain perceptron: units of its layer, iterations, examples of one, learning rate, decay.
UNITS, ITERATIONS, BATCH, RATE, DECAY = 64, 400, 64, 1e-3, 0.3
REPORT_EVERY = 10
# Training ends with the mean of the weights over the last part of the run: its half-life.
HALF_LIFE = 0.05


class Classifier(ABC):
    """Tells the class of examples."""

    @abstractmethod
    def probabilities(self, examples: Examples) -> Float[Tensor, "example class"]:
        """Of each class of the training data, in its order; rows sum to 1."""


class MajorityClass(Classifier):
    """The baseline that never looks: class frequencies of the training examples."""

    def __init__(self, training: Examples) -> None:
        assert training.label is not None
        counts = torch.bincount(training.label, minlength=len(training.names.classes))
        self.frequencies = counts / counts.sum()

    def probabilities(self, examples: Examples) -> Float[Tensor, "example class"]:
        """The same row for every example."""
        return self.frequencies.expand(len(examples), -1)


class PlainPerceptron(Classifier):
    """The baseline that anyone would try first: one hidden layer on the standardised table.

    Of the weights during training, those with the lowest loss on validation examples are taken.
    """

    def __init__(self, training: Examples, validation: Examples, seed: int) -> None:
        assert training.table is not None and training.label is not None
        assert validation.label is not None
        self.mean, self.deviation = training.table.mean(0), training.table.std(0).clamp_min(1e-6)
        generator = torch.Generator().manual_seed(seed)
        classes = len(training.names.classes)
        self.network = perceptron((training.table.shape[1], UNITS, classes), (2.0, 0.0), generator)
        problem = Classification(self._inputs(training), training.label, classes, BATCH)
        recipe = replace(one_cycle(ITERATIONS, RATE, DECAY), half_life=None, best=True)
        judge = self._inputs(validation), validation.label

        def report(network: nn.Module, done: int) -> list[float] | None:
            if done % REPORT_EVERY:
                return None
            return [float(nn.functional.cross_entropy(network(judge[0]), judge[1]))]

        label = "training a perceptron"
        fitted = fit(self.network, problem, recipe, generator, label, report=report)
        self.network.load_state_dict(fitted.state)

    def _inputs(self, examples: Examples) -> Tensor:
        assert examples.table is not None
        return (examples.table - self.mean) / self.deviation

    @torch.no_grad()
    def probabilities(self, examples: Examples) -> Float[Tensor, "example class"]:
        """Softmax of its outputs."""
        return self.network(self._inputs(examples)).softmax(1)


@dataclass(frozen=True, eq=False)
class Classification(Problem):
    """Cross-entropy of inputs (example first) and labels, each epoch in a new order.

    `augment` makes of a batch, with its class probabilities, a changed one.
    """

    inputs: Tensor
    label: Tensor
    classes: int
    batch: int
    augment: Callable[[Tensor, Tensor, torch.Generator], Batch] | None = None

    def draw(self, generator: torch.Generator, done: int) -> list[Batch]:
        """An epoch; examples that would make a smaller batch are left out."""
        order = torch.randperm(len(self.label), generator=generator, device=generator.device)
        size = min(self.batch, len(order))
        batches = order[: len(order) // size * size].view(-1, size)
        target = nn.functional.one_hot(self.label, self.classes).to(self.inputs)
        pairs: list[Batch] = [(self.inputs[rows], target[rows]) for rows in batches]
        return pairs if self.augment is None else [self.augment(x, y, generator) for x, y in pairs]

    def loss(self, network: Callable[..., Tensor], batch: Batch) -> Tensor:
        """Mean over the batch."""
        inputs, target = batch
        return nn.functional.cross_entropy(network(inputs), target)


def one_cycle(iterations: int, learning_rate: float, weight_decay: float) -> Recipe:
    """AdamW, its rate up for a fifth of the iterations and then down to nothing."""

    def schedule(optimiser: Optimizer, steps: int) -> OneCycleLR:
        # The cycle needs a rise, however short the run is.
        return OneCycleLR(optimiser, learning_rate, max(steps, 10), pct_start=0.2)

    return Recipe(
        iterations,
        lambda n: [torch.optim.AdamW(n.parameters(), learning_rate, weight_decay=weight_decay)],
        schedule,
        clip=1.0,
        half_life=HALF_LIFE,
    )
