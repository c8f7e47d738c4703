"""A training on several devices: the same numbers, one writer, and no process that outlives one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed

from spinmesh.errors import ConfigError, MachineError
from spinmesh.learning import Checkpoint, fit, perceptron, train_on
from spinmesh.learning.fit import Fitted
from tests.learning.test_learning import RECIPE, Line
from tests.learning.trainings import Training, training

__all__ = ["training"]


class UnevenLine(Line):
    """In float64, with a number that has no rows, and now and then a batch of one row."""

    def draw(self, generator: torch.Generator, done: int) -> list[Any]:
        x = torch.randn(9, 2, generator=generator, dtype=torch.float64)
        return [(x[:8], torch.ones(())), (x[8:], torch.ones(()))]

    def loss(self, network: Callable[..., torch.Tensor], batch: Any) -> torch.Tensor:
        several = distributed.is_initialized()
        assert len(batch[0]) <= (-(-8 // distributed.get_world_size()) if several else 8)
        return super().loss(network, batch[:1]) * batch[1]


def learn(problem: Line, change: dict[str, Any], checkpoint: Checkpoint | None, device: str) -> Any:
    """What was fitted, with a row of each iteration."""
    generator = torch.Generator(device).manual_seed(0)
    network = perceptron((2, 16, 1), (2.0, 1.0), generator, torch.float64)

    def report(network: torch.nn.Module, done: int) -> list[float]:
        return [float(done), float(network(torch.ones(1, 2).double()))]

    recipe = replace(RECIPE, **change)
    return fit(network, problem, recipe, generator, "a line", report=report, checkpoint=checkpoint)


def close(a: Fitted, b: Fitted) -> None:
    """A dozen sums of at most nine float64 numbers in another order."""
    one, other = ([torch.tensor(x.rows).double(), x.losses, *x.state.values()] for x in (a, b))
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("change", [{"clip": 0.5}, {"best": True, "half_life": None}])
def test_three_processes_learn_what_one_learns(change: dict[str, Any]) -> None:
    """Batches that cannot be divided evenly, one of them smaller than the processes are many."""
    alone = train_on(["cpu"], learn, UnevenLine(), change, None)
    close(alone, train_on(["cpu"] * 3, learn, UnevenLine(), change, None))


def test_two_processes_go_on_where_one_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one where two were; the state is written by one of them and removed at the end."""
    monkeypatch.setattr("spinmesh.learning.Checkpoint.SAVE_EVERY", 5)
    alone = train_on(["cpu"], learn, UnevenLine(), {}, None)
    for before, after in ((1, 2), (2, 1)):
        state = Checkpoint(tmp_path / "state", "line")
        with pytest.raises((KeyboardInterrupt, MachineError)):
            train_on(["cpu"] * before, learn, Dying(7), {}, state)
        assert [path.name for path in tmp_path.iterdir()] == ["state"]
        close(alone, train_on(["cpu"] * after, learn, UnevenLine(), {}, state))
        assert not list(tmp_path.iterdir())


class Dying(UnevenLine):
    """Its last process is killed by the system, or interrupted if it is the only one."""

    def loss(self, network: Callable[..., torch.Tensor], batch: Any) -> torch.Tensor:
        several = distributed.is_initialized()
        if several and self.steps == self.stop and distributed.get_rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if several and self.steps == self.stop:
            self.stop = None
        return super().loss(network, batch)


def test_an_error_in_one_process_ends_all_and_is_told() -> None:
    """The other would wait for it for ever."""
    with pytest.raises(ConfigError, match=r"^process 1 refuses$"):
        train_on(["cpu", "cpu"], refuse)


def refuse(device: str) -> None:
    """The second process."""
    if distributed.get_rank() == 1:
        raise ConfigError("process 1 refuses")
    distributed.barrier()


def test_processes_end_with_the_one_that_started_them() -> None:
    """It is killed while they wait for each other, as by a scheduler whose time is over."""
    reading, writing = os.pipe()
    parent = os.fork()
    if parent == 0:
        os.close(reading)
        train_on(["cpu", "cpu"], wait, writing)
    os.close(writing)
    assert os.read(reading, 1) == b"x", "both have begun to wait"
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    # The end of the file comes when the last process that could write has ended.
    assert os.read(reading, 1) == b""
    os.close(reading)


def wait(pipe: int, device: str) -> None:
    """One for the other, which never comes."""
    distributed.barrier()
    if distributed.get_rank() == 0:
        os.write(pipe, b"x")
        distributed.barrier()
    signal.pause()


@pytest.mark.slow
def test_every_training_is_the_same_on_two_processes(training: Training) -> None:
    """To float32, of which each of ten or forty steps of Adam enlarges the rounding."""
    train, arguments, learnt = training
    alone, together = (train_on(["cpu"] * count, train, *arguments) for count in (1, 2))
    torch.testing.assert_close(learnt(together), learnt(alone), rtol=1e-5, atol=1e-6)
