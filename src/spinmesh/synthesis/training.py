"""Training: one loop for every equation, target and network, resumable to the bit."""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spinmesh.errors import ConfigError, ReductionError, StoreError
from spinmesh.progress import progress
from spinmesh.synthesis.targets import Problem
from spinmesh.writing import complete_or_absent

# Iterations between two checkpoints: some 20 s of work lost at most.
CHECKPOINT_INTERVAL = 100
# Iterations between two points of a TensorBoard log.
LOG_INTERVAL = 10
# Half-life of the weight average, and the warm-up, as fractions of the run.
EMA_HALF_LIFE = 0.02
WARM_UP = 0.03


@dataclass(frozen=True)
class FitSpec:
    """How long and how fast to train; `batch` is the problem's, kept here for the record."""

    iterations: int = 1200
    batch: int = 32
    learning_rate: float = 2e-3

    def __post_init__(self) -> None:
        if min(self.iterations, self.batch) < 1 or not self.learning_rate > 0:
            raise ConfigError(
                f"score: iterations {self.iterations}, batch {self.batch}, learning_rate "
                f"{self.learning_rate}; all must be positive."
            )


@dataclass(frozen=True)
class Runtime:
    """Where a training runs and what it leaves behind; apart from rounding, not what it finds.

    `checkpoint`: a file to save to now and then and to go on from; one of another training is
    refused or, with `restart`, replaced. `logs`: a folder for TensorBoard. `bf16` and
    `compile_network` are for CUDA devices.
    """

    device: str = "cpu"
    checkpoint: str | Path | None = None
    restart: bool = False
    logs: str | Path | None = None
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

    @property
    def file(self) -> Path | None:
        """The checkpoint's path."""
        return None if self.checkpoint is None else Path(self.checkpoint)

    def precision(self) -> contextlib.AbstractContextManager[object]:
        """bfloat16 where it is asked for."""
        return torch.autocast("cuda", torch.bfloat16) if self.bf16 else contextlib.nullcontext()


@dataclass(frozen=True, eq=False)
class Fitted:
    """Averaged weights of a network, the loss of every iteration, and the CPU time of all (s)."""

    state: dict[str, Tensor]
    losses: Float[Tensor, " iteration"]
    seconds: float


def fit(
    network: nn.Module,
    problem: Problem,
    spec: FitSpec,
    generator: torch.Generator,
    runtime: Runtime | None = None,
    identity: bytes = b"",
) -> Fitted:
    """Train `network` on batches of `problem`; the result depends on the arguments alone.

    `identity` is what tells this training from others (data, seed, settings): a checkpoint keeps
    its digest. A killed run goes on from its checkpoint to exactly the same result. Raises
    StoreError for a checkpoint of another training and ReductionError if the loss is not finite.
    """
    runtime = runtime or Runtime()
    digest = hashlib.sha256(repr((spec, torch.__version__)).encode() + identity).hexdigest()
    run = _Run(network, problem, spec, generator, runtime, digest)
    run.resume()
    with _writer(runtime.logs) as write:
        todo = range(len(run.losses), spec.iterations)
        for iteration in progress(todo, "training the score", note=run.note):
            run.step(iteration)
            if iteration % LOG_INTERVAL == 0:
                write("loss", run.losses[-1], iteration)
                write("learning rate", spec.learning_rate * run.schedule(iteration), iteration)
            if (iteration + 1) % CHECKPOINT_INTERVAL == 0:
                run.save()
    state = {name: value.cpu() for name, value in run.average.items()}
    return Fitted(state, torch.tensor(run.losses, dtype=torch.float64), run.seconds)


@contextlib.contextmanager
def _writer(logs: str | Path | None) -> Any:
    """A function (name, value, iteration) that logs for TensorBoard, or does nothing."""
    if logs is None:
        yield lambda name, value, iteration: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "training: logs for TensorBoard need the package tensorboard. Install it with "
            "`pip install tensorboard`, or leave `logs` out."
        ) from error
    writer = SummaryWriter(str(logs))
    try:
        yield writer.add_scalar
    finally:
        writer.close()


class _Run:
    """All that changes while training."""

    def __init__(
        self,
        network: nn.Module,
        problem: Problem,
        spec: FitSpec,
        generator: torch.Generator,
        runtime: Runtime,
        digest: str,
    ) -> None:
        self.network, self.problem, self.spec = network.to(runtime.device), problem, spec
        self.generator, self.runtime, self.digest = generator, runtime, digest
        self.forward: Callable[..., Tensor] = self.network
        if runtime.compile_network:
            self.forward = torch.compile(self.network)
        self.optimiser = torch.optim.Adam(
            self.network.parameters(), lr=spec.learning_rate, betas=(0.9, 0.99)
        )
        self.average = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        self.losses: list[float] = []
        self.seconds = 0.0

    def note(self) -> str:
        recent = self.losses[-50:]
        return f"loss {sum(recent) / len(recent):.4f}"

    def step(self, iteration: int) -> None:
        begun = time.process_time()
        batch = self.problem.draw(self.generator)
        with self.runtime.precision():
            loss = self.problem.loss(self.forward, batch)
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
        self.seconds += time.process_time() - begun

    def schedule(self, iteration: int) -> float:
        """Linear warm-up, then half a cosine to zero."""
        done = (iteration + 1) / self.spec.iterations
        fall = 0.5 * (1 + torch.cos(torch.tensor(torch.pi * done)))
        return min(1.0, done / WARM_UP) * float(fall)

    def save(self) -> None:
        if self.runtime.file is None:
            return
        state = {
            "digest": self.digest,
            "network": self.network.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "waiting": self.problem.state(),
            "losses": self.losses,
            "seconds": self.seconds,
        }
        with complete_or_absent(self.runtime.file) as partial:
            torch.save(state, partial)

    def resume(self) -> None:
        file = self.runtime.file
        if file is None or not file.is_file():
            return
        try:
            state: dict[str, Any] = torch.load(
                file, weights_only=True, map_location=self.runtime.device
            )
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise StoreError(f"{file}: not a checkpoint ({error}). Delete it and rerun.") from error
        if state.get("digest") != self.digest:
            if self.runtime.restart:
                return
            raise StoreError(
                f"{file}: a checkpoint of another training (other settings, data, seed or torch). "
                "Delete it, give another path, or ask for a restart."
            )
        self.network.load_state_dict(state["network"])
        self.average = state["average"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"].cpu())
        self.problem.restore(state["waiting"])
        self.losses, self.seconds = state["losses"], state["seconds"]
