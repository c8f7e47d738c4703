"""The training loop: any network, any regression, resumable to the bit."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from spinmesh.errors import ReductionError
from spinmesh.learning.checkpoint import Checkpoint
from spinmesh.progress import progress

Batch = tuple[Tensor, ...]
Report = Callable[[nn.Module, int], Sequence[float] | None]


class Problem(ABC):
    """What a network learns."""

    @abstractmethod
    def draw(self, generator: torch.Generator, done: int) -> list[Batch]:
        """The next batch or batches, after `done` iterations; the same for the same generator.

        Of a batch each tensor has a row for each example, but for single numbers, which have none.
        """

    @abstractmethod
    def loss(self, network: Callable[..., Tensor], batch: Batch) -> Tensor:
        """The number that training lowers: a mean over the rows of the batch."""


@dataclass(frozen=True)
class Recipe:
    """How weights move, and which are returned.

    `schedule` makes the scheduler of an optimiser for a number of iterations. Gradients longer than
    `clip` are shortened to it. The last weights are returned or, with `half_life`, their average
    over time with this half-life (a fraction of the run) or, with `best`, those whose report had
    the lowest last number.
    """

    iterations: int
    optimisers: Callable[[nn.Module], Sequence[Optimizer]]
    schedule: Callable[[Optimizer, int], LRScheduler]
    clip: float = math.inf
    half_life: float | None = None
    best: bool = False


@dataclass(frozen=True, eq=False)
class Fitted:
    """Weights of a network (on the CPU), every loss, the rows reported, and the CPU time (s)."""

    state: dict[str, Tensor]
    losses: Float[Tensor, " iteration"]
    rows: list[list[float]]
    seconds: float


def fit(
    network: nn.Module,
    problem: Problem,
    recipe: Recipe,
    generator: torch.Generator,
    label: str,
    *,
    report: Report | None = None,
    checkpoint: Checkpoint | None = None,
) -> Fitted:
    """Train `network` on the generator's device; the result depends on the arguments alone.

    `report(network, done)` gives a row of numbers or None, without gradients: it is called once
    before every iteration and once after the last. A killed run goes on from `checkpoint` to
    exactly the same result; a finished one removes it. Raises StoreError for a checkpoint of
    another training and ReductionError if the loss is not finite. Processes that `train_on` has
    started train one network: the same as one process but for the order of sums, a few units of
    the last digit at each step.
    """
    checkpoint = checkpoint or Checkpoint(None)
    run = _Run(network.to(generator.device), problem, recipe, generator)
    saved = checkpoint.read(str(generator.device))
    if saved is not None:
        run.restore(saved)
    iterations: Iterable[int] = range(len(run.losses), recipe.iterations)
    if run.processes > 1:
        run.shared = DistributedDataParallel(network)  # comes back when all have read the state
    if run.process == 0:
        iterations = progress(iterations, label, note=run.note)
    else:
        checkpoint = Checkpoint(None)
    for iteration in iterations:
        run.report(report, iteration)
        run.step(iteration)
        if (iteration + 1) % checkpoint.SAVE_EVERY == 0:
            checkpoint.write(run.state())
    run.report(report, recipe.iterations)
    checkpoint.remove()
    losses = torch.tensor(run.losses, dtype=torch.float64)
    return Fitted(copied(run.weights, "cpu"), losses, run.rows, run.seconds)


def copied(weights: Mapping[str, Tensor], device: str | None = None) -> dict[str, Tensor]:
    """The same numbers in new tensors."""
    return {k: v.detach().to(device, copy=True) for k, v in weights.items()}


class _Run:
    """All that changes while training."""

    def __init__(
        self, network: nn.Module, problem: Problem, recipe: Recipe, generator: torch.Generator
    ) -> None:
        self.network, self.problem, self.recipe = network, problem, recipe
        self.shared: Callable[..., Tensor] = network
        several = distributed.is_initialized()
        self.process = distributed.get_rank() if several else 0
        self.processes = distributed.get_world_size() if several else 1
        self.generator = generator
        optimisers = recipe.optimisers(network)
        schedules = [recipe.schedule(o, recipe.iterations) for o in optimisers]
        self.parts: list[Any] = [*optimisers, *schedules]
        self.weights = network.state_dict()  # the last ones; a copy if others are returned
        if recipe.best or recipe.half_life is not None:
            self.weights = copied(self.weights)
        self.waiting: list[Batch] = []
        self.losses: list[float] = []
        self.rows: list[list[float]] = []
        self.seconds = 0.0

    def note(self) -> str:
        recent = self.losses[-50:]
        return f"loss {sum(recent) / len(recent):.4g}"

    def step(self, iteration: int) -> None:
        begun = time.process_time()
        self.waiting = self.waiting or self.problem.draw(self.generator, iteration)
        loss, value = self.loss(self.waiting.pop(0))
        if not math.isfinite(value):
            raise ReductionError(
                f"training: the loss is {value} at iteration {iteration}. Lower the "
                "`learning_rate`."
            )
        self.network.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        for part in self.parts:
            part.step()
        self.losses.append(value)
        if self.recipe.half_life is not None:
            # The average looks back less while the run is young.
            span = self.recipe.half_life * min(self.recipe.iterations, 5 * (iteration + 1))
            for name, value in self.network.state_dict().items():
                self.weights[name].lerp_(value, 1 - 0.5 ** (1 / span))
        self.seconds += time.process_time() - begun

    def loss(self, batch: Batch) -> tuple[Tensor, float]:
        """What this process differentiates, and the loss of the batch.

        Of several processes each has every so many-th row. Gradients are averaged over processes,
        so that a part counts by its rows, and one without rows not at all.
        """
        if self.processes == 1:
            loss = self.problem.loss(self.network, batch)
            return loss, loss.item()
        rows = max(len(each) for each in batch if each.ndim)
        part = slice(self.process % rows, None, self.processes)
        share = len(range(self.process, rows, self.processes)) / rows
        mine = tuple(each[part] if each.ndim else each for each in batch)
        loss = self.problem.loss(self.shared, mine) * share
        whole = loss.detach().clone()
        distributed.all_reduce(whole)
        return loss * self.processes, whole.item()

    @torch.no_grad()
    def report(self, report: Report | None, done: int) -> None:
        row = report(self.network, done) if report is not None else None
        if row is None:
            return
        if self.recipe.best and row[-1] < min((r[-1] for r in self.rows), default=math.inf):
            self.weights = copied(self.network.state_dict())
        self.rows.append([float(number) for number in row])

    def state(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in ("waiting", "losses", "rows", "seconds")}
        return plain | {
            "network": self.network.state_dict(),
            "weights": self.weights,
            "parts": [part.state_dict() for part in self.parts],
            "generator": self.generator.get_state(),
        }

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        for name, value in self.weights.items():
            value.copy_(state["weights"][name])
        for part, saved in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(saved)
        self.generator.set_state(state["generator"].cpu())
        for name in ("waiting", "losses", "rows", "seconds"):
            setattr(self, name, state[name])
