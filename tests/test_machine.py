"""Devices: which there are, and that jobs of one machine do not take the same card."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

import pytest
import torch

from spinmesh import machine
from spinmesh.errors import ConfigError
from spinmesh.machine import check_gpus, device_named, devices_named


@pytest.fixture
def three_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch counts them, with names that no other test's cards have."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(machine, "_CARDS", {})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join(f"{os.getpid()}-{k}" for k in range(3)))
    for name in ("SLURM_JOB_ID", "SLURM_JOB_GPUS", "SLURM_STEP_GPUS"):
        monkeypatch.delenv(name, raising=False)


def test_cuda_that_is_absent_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices_named("auto", 2) == ["cpu", "cpu"]
    with pytest.raises(ConfigError, match=r"device.*Give"):
        device_named("cuda")
    with pytest.raises(ConfigError, match=r"train: cuda is asked for, but torch sees no GPU"):
        check_gpus(1, "train")


@pytest.mark.usefixtures("three_cards")
def test_more_gpus_than_there_are_are_refused() -> None:
    check_gpus(3)
    with pytest.raises(ConfigError, match="4 GPUs are asked for, but torch sees 3"):
        devices_named("cuda", 4)


@pytest.mark.usefixtures("three_cards")
def test_a_job_of_slurm_takes_no_gpu_that_it_was_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a node whose GPUs are not fenced off torch sees those of all jobs; if they are, each job
    counts its own from 0."""
    with jobs(2):
        monkeypatch.setenv("SLURM_JOB_ID", str(os.getpid()))
        assert devices_named("auto", 2) == ["cuda:0", "cuda:1"]
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
        assert device_named("auto") == "cpu"
        monkeypatch.setenv("SLURM_JOB_GPUS", "0")
        assert device_named("auto") == "cuda:0"


@contextmanager
def jobs(*counts: int) -> Iterator[Callable[[int], tuple[list[str], Any]]]:
    """Processes that take cards, one after the other, and hold them until the end of the block."""
    started = []

    def job(count: int) -> tuple[list[str], Any]:
        here, there = get_context("fork").Pipe()
        process = get_context("fork").Process(target=_hold, args=(count, there))
        process.start()
        there.close()  # an end that only a job holds: one that fails is noticed
        started.append(process)
        return here.recv(), process

    try:
        for count in counts:
            job(count)
        yield job
    finally:
        for process in started:
            process.kill()
            process.join()


def _hold(count: int, pipe: Any) -> None:
    pipe.send(devices_named("cuda", count))
    signal.pause()


@pytest.mark.usefixtures("three_cards")
def test_each_job_takes_another_card_and_gives_it_back_when_it_is_killed() -> None:
    """A fourth job has to share one; the one after a killed job has a card to itself."""
    with jobs() as job:
        (first, dying), (second, _) = job(1), job(2)
        assert sorted(first + second) == ["cuda:0", "cuda:1", "cuda:2"]
        assert job(1)[0] == ["cuda:0"], "the first that has one user"
        os.kill(dying.pid, signal.SIGKILL)
        dying.join()
        assert job(2)[0] == ["cuda:0", "cuda:1"], "the killed job's place, and a second user"
        assert device_named("cuda") == device_named("cuda") == "cuda:2"
        assert device_named("cuda:0") == "cuda:0", "a card that is named is left as it is"
