"""The training loop: any network, any regression, resumable to the bit."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from spinmesh.errors import ConfigError, ReductionError
from spinmesh.learning.checkpoint import Checkpoint, fingerprint
from spinmesh.progress import progress

Batch = tuple[Tensor, ...]
Row = Sequence[float]


class Problem(ABC):
    """What a network learns."""

    @abstractmethod
    def draw(self, generator: torch.Generator) -> Batch:
        """One batch, with all its random numbers."""

    @abstractmethod
    def loss(self, network: Callable[..., Tensor], batch: Batch) -> Tensor:
        """The number that training lowers."""

    @abstractmethod
    def state(self) -> Any:
        """What the next batches depend on besides the generator: tensors, numbers, lists."""

    @abstractmethod
    def restore(self, state: Any) -> None:
        """Go on from `state()`."""


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


@dataclass(frozen=True)
class Runtime:
    """Where a training runs and what it leaves behind; apart from rounding, not what it finds.

    `checkpoint`: a file to save to every `save_every` iterations and to go on from; one of another
    training is refused or, with `restart`, replaced. `bf16` and `compile_network` are for CUDA
    devices.
    """

    device: str = "cpu"
    checkpoint: str | Path | None = None
    restart: bool = False
    save_every: int = 100
    bf16: bool = False
    compile_network: bool = False

    def __post_init__(self) -> None:
        on_gpu = torch.device(self.device).type == "cuda"
        if on_gpu and not torch.cuda.is_available():
            raise ConfigError(f"training: no GPU for device {self.device!r}. Use device 'cpu'.")
        if (self.bf16 or self.compile_network) and not on_gpu:
            raise ConfigError(
                f"training: bf16 and compile_network are for GPUs, not for {self.device!r}. Leave "
                "them off or set device to 'cuda'."
            )


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
    report: Callable[[nn.Module, int], Row | None] | None = None,
    runtime: Runtime | None = None,
    identity: str = "",
) -> Fitted:
    """Train `network` on batches of `problem`; the result depends on the arguments alone.

    `report(network, done)` gives a row of numbers or None, without gradients: it is asked once
    before every iteration and once after the last. `identity` tells this training from others
    (data, seed, settings) and goes into the checkpoint: a killed run goes on from it to exactly the
    same result. Raises StoreError for a checkpoint of another training and ReductionError if the
    loss is not finite.
    """
    runtime = runtime or Runtime()
    path = None if runtime.checkpoint is None else Path(runtime.checkpoint)
    owner = fingerprint(identity, recipe.iterations, torch.__version__)
    checkpoint = Checkpoint(path, owner, runtime.restart)
    run = _Run(network, problem, recipe, generator, runtime)
    saved = checkpoint.read(runtime.device)
    if saved is not None:
        run.restore(saved)
    left = range(len(run.losses), recipe.iterations)
    for iteration in progress(left, label, note=run.note):
        run.report(report, iteration)
        run.step(iteration)
        if (iteration + 1) % runtime.save_every == 0:
            checkpoint.write(run.state())
    run.report(report, recipe.iterations)
    return Fitted(
        copied(run.weights, "cpu"),
        torch.tensor(run.losses, dtype=torch.float64),
        run.rows,
        run.seconds,
    )


def copied(weights: Mapping[str, Tensor], device: str | None = None) -> dict[str, Tensor]:
    """The same numbers in new tensors."""
    return {k: v.detach().to(device, copy=True) for k, v in weights.items()}


class _Run:
    """All that changes while training."""

    def __init__(
        self,
        network: nn.Module,
        problem: Problem,
        recipe: Recipe,
        generator: torch.Generator,
        runtime: Runtime,
    ) -> None:
        self.network, self.problem, self.recipe = network.to(runtime.device), problem, recipe
        self.generator, self.bf16 = generator, runtime.bf16
        compiled = torch.compile(self.network) if runtime.compile_network else self.network
        self.forward: Callable[..., Tensor] = compiled
        self.optimisers = list(recipe.optimisers(self.network))
        self.schedules = [recipe.schedule(o, recipe.iterations) for o in self.optimisers]
        self.weights = self.network.state_dict()  # the last ones; a copy if others are returned
        if recipe.best or recipe.half_life is not None:
            self.weights = copied(self.weights)
        self.losses: list[float] = []
        self.rows: list[list[float]] = []
        self.seconds = 0.0

    def note(self) -> str:
        recent = self.losses[-50:]
        return f"loss {sum(recent) / len(recent):.4g}"

    def step(self, iteration: int) -> None:
        begun = time.process_time()
        batch = self.problem.draw(self.generator)
        with torch.autocast("cuda", torch.bfloat16, enabled=self.bf16):
            loss = self.problem.loss(self.forward, batch)
        if not bool(torch.isfinite(loss)):
            raise ReductionError(
                f"training: the loss is {loss.item()} at iteration {iteration}. Lower the "
                "`learning_rate`."
            )
        self.network.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        for optimiser, schedule in zip(self.optimisers, self.schedules, strict=True):
            optimiser.step()
            schedule.step()
        self.losses.append(loss.item())
        if self.recipe.half_life is not None:
            # The average looks back less while the run is young.
            span = self.recipe.half_life * min(self.recipe.iterations, 5 * (iteration + 1))
            for name, value in self.network.state_dict().items():
                self.weights[name].lerp_(value, 1 - 0.5 ** (1 / span))
        self.seconds += time.process_time() - begun

    @torch.no_grad()
    def report(self, report: Callable[[nn.Module, int], Row | None] | None, done: int) -> None:
        row = report(self.network, done) if report is not None else None
        if row is None:
            return
        if self.recipe.best and row[-1] < min((r[-1] for r in self.rows), default=math.inf):
            self.weights = copied(self.network.state_dict())
        self.rows.append([float(number) for number in row])

    def state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "weights": self.weights,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "schedules": [schedule.state_dict() for schedule in self.schedules],
            "generator": self.generator.get_state(),
            "problem": self.problem.state(),
            "losses": self.losses,
            "rows": self.rows,
            "seconds": self.seconds,
        }

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        for name, value in self.weights.items():
            value.copy_(state["weights"][name])
        for name in ("optimisers", "schedules"):
            for part, saved in zip(getattr(self, name), state[name], strict=True):
                part.load_state_dict(saved)
        self.generator.set_state(state["generator"].cpu())
        self.problem.restore(state["problem"])
        self.losses, self.rows, self.seconds = state["losses"], state["rows"], state["seconds"]
