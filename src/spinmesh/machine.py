"""What the machine has: memory, and processes for work that is independent."""

from __future__ import annotations

import errno
import itertools
import os
import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_all_start_methods, get_context
from pathlib import Path
from tempfile import TemporaryFile
from typing import TypeVar, cast

import torch
from threadpoolctl import threadpool_limits

from spinmesh.errors import ConfigError, MachineError
from spinmesh.files.places import ObjectPath

Result = TypeVar("Result")

# What a container may take, and has taken.
LIMIT, USED = "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"
# Set by Slurm in a job that was given GPUs.
GIVEN = ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "CUDA_VISIBLE_DEVICES")
# Cards that this process uses, and for each a socket whose name says so to others.
_CARDS: dict[int, socket.socket] = {}
# What a process of its own does with a number; it was there when the process was forked.
_WORK: list[Callable[[int], object]] = []


def available_memory() -> int:
    """Bytes a process may still take: what the machine has free, or the container if that is less.

    Files held in memory for speed count as free, as the kernel gives them back.
    """
    meminfo = Path("/proc/meminfo")
    lines = meminfo.read_text().splitlines() if meminfo.is_file() else []
    free = [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    free = free or [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    limit = Path(LIMIT).read_text().strip() if Path(LIMIT).is_file() else "max"
    if limit != "max":
        free.append(int(limit) - int(Path(USED).read_text()))
    return max(min(free), 0)


def device_named(device: str, key: str = "device") -> str:
    """The torch device, `auto` being cuda where there is one; ConfigError if torch lacks it.

    In a job of Slurm `auto` is cuda only if the job was given a GPU: where Slurm does not fence
    them off, torch sees those of other jobs too. Of several cards it is the one that fewest jobs
    use.
    """
    return devices_named(device, 1, key)[0]


def devices_named(device: str, count: int, key: str = "device") -> list[str]:
    """As many torch devices, each another card if they are GPUs; errors as `device_named`."""
    if device == "auto":
        ungiven = "SLURM_JOB_ID" in os.environ and not any(map(os.environ.get, GIVEN))
        device = "cuda" if torch.cuda.is_available() and not ungiven else "cpu"
    if device.split(":")[0] not in ("cpu", "cuda"):
        raise ConfigError(f"{key}: {device!r} is unknown. Give auto, cpu or cuda.")
    if device.startswith("cuda"):
        check_gpus(count, key)
    return [f"cuda:{card}" for card in _cards(count)] if device == "cuda" else [device] * count


def check_gpus(count: int, key: str = "device") -> None:
    """ConfigError if torch sees fewer GPUs.

    They are counted without a start of CUDA, so that the process can still be forked.
    """
    present = torch.cuda.device_count()
    if present == 0:
        raise ConfigError(f"{key}: cuda is asked for, but torch sees no GPU. Give cpu.")
    if present < count:
        raise ConfigError(
            f"{key}: {count} GPUs are asked for, but torch sees {present}. Give fewer `gpus`."
        )


def _cards(count: int) -> list[int]:
    """Numbers of the cards of this process: of those that there are, those that fewest jobs use.

    For each a socket has a name, which the kernel frees when the process ends, however it ends.
    (Names that begin with a null are no files, and only Linux has them.)
    """
    present = range(torch.cuda.device_count())
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = given.split(",") if given else [str(card) for card in present]
    whose = os.environ.get("SLURM_JOB_ID", "")  # each of its jobs may count its own from 0
    places = ((users, card) for users in itertools.count() for card in present)
    while len(_CARDS) < count:
        users, card = next(places)
        if card not in _CARDS:
            sign = socket.socket(socket.AF_UNIX)
            try:
                sign.bind(f"\0spinmesh {whose}: GPU {names[card]}, user {users}")
                _CARDS[card] = sign
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
    return [*_CARDS][:count]


def check_writable(folder: Path) -> None:
    """MachineError if no file can be made in a folder, or where the folder will be made.

    StoreError of an object store that refuses.
    """
    if isinstance(folder, ObjectPath):
        return folder.check_writable()
    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    try:
        with TemporaryFile(dir=there) as file:
            file.write(bytes(4096))
    except OSError as error:
        raise MachineError(
            f"{there}: cannot be written ({error.strerror}). Make room, or give a folder that can "
            "be written to: a link of this name may lead to it."
        ) from error


def check_partitions(names: Iterable[str], file: Path) -> None:
    """ConfigError if a cluster lacks one of the partitions that a file names.

    MachineError where Slurm does not say which it has.
    """
    try:
        words = ["sinfo", "--noheader", "--format", "%R"]
        answer = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        raise MachineError(
            f"Slurm does not answer: {error}. Start on a machine of the cluster (`sinfo` works)."
        ) from error
    present = answer.stdout.split()
    if unknown := [name for name in names if name not in present]:
        raise ConfigError(
            f"{file}: partition {', '.join(unknown)} is not of this cluster, which has "
            f"{', '.join(present)}. Correct the file."
        )


def side_by_side(work: Callable[[int], Result], count: int) -> Iterator[Result]:
    """`work(0)`, `work(1)`, ... in this order, each on one thread of a process of its own.

    With one thread, one number, or where processes cannot be forked: one after the other, here. The
    work must not use a GPU. Results are sent between processes; what the work holds is not. Raises
    MachineError if a process is killed from outside.
    """
    processes = min(torch.get_num_threads(), count)
    if processes < 2 or "fork" not in get_all_start_methods():
        yield from map(work, range(count))
        return
    with ProcessPoolExecutor(processes, get_context("fork"), _start, (work,)) as pool:
        try:
            yield from cast(Iterator[Result], pool.map(_number, range(count)))
        except BrokenProcessPool as error:
            raise MachineError(
                f"one of {processes} processes was killed, most likely for lack of memory: "
                f"{available_memory() / 1e9:.2g} GB are free. Give fewer threads, or more memory."
            ) from error


def _start(work: Callable[[int], object]) -> None:
    torch.set_num_threads(1)
    threadpool_limits(1)
    _WORK[:] = [work]


def _number(number: int) -> object:
    return _WORK[0](number)
