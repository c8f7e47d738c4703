"""One training on several devices of a machine: a process for each, gradients averaged."""

from __future__ import annotations

import pickle
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch
from torch import distributed
from torch.multiprocessing import start_processes
from torch.multiprocessing.spawn import ProcessException

from spinmesh.errors import MachineError, SpinmeshError

Result = TypeVar("Result")


def train_on(devices: Sequence[str], train: Callable[..., Result], *arguments: Any) -> Result:
    """`train(*arguments, device=...)`, on one device here, on several by a process for each.

    They prepare and draw the same; in `fit` each computes a part of every batch. The answer is that
    of the first. Processes are forked, so no GPU may be in use before. An error in one ends all and
    is raised here; MachineError if one is killed from outside.
    """
    if len(devices) == 1:
        return train(*arguments, device=devices[0])
    with TemporaryDirectory() as folder:
        shared = (devices, train, arguments, Path(folder))
        together = start_processes(_take_part, shared, len(devices), False, start_method="fork")
        try:
            while not together.join():
                pass
        except ProcessException:
            for refusal in Path(folder).glob("error-*"):
                raise pickle.loads(refusal.read_bytes()) from None
            if any(process.exitcode == -signal.SIGKILL for process in together.processes):
                raise MachineError(
                    f"one of {len(devices)} processes that train together was killed, most likely "
                    "for lack of memory. Give fewer `gpus`, or more memory."
                ) from None
            raise
        answer: Result = pickle.loads(Path(folder, "answer").read_bytes())
    return answer


def _take_part(
    number: int, devices: Sequence[str], train: Callable[..., Any], arguments: Any, folder: Path
) -> None:
    """One process of several."""
    # torch has it sent when the parent ends: a process that waits for another one must end too.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    torch.set_num_threads(1)
    if devices[number].startswith("cuda"):
        torch.cuda.set_device(devices[number])
    distributed.init_process_group(
        "nccl" if devices[number].startswith("cuda") else "gloo",
        init_method=f"file://{folder}/meeting",
        rank=number,
        world_size=len(devices),
    )
    try:
        answer = train(*arguments, device=devices[number])
    except SpinmeshError as error:
        (folder / f"error-{number}").write_bytes(pickle.dumps(error))
        raise
    if number == 0:
        (folder / "answer").write_bytes(pickle.dumps(answer))
    distributed.destroy_process_group()
