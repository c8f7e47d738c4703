"""Independent pieces of work side by side, on as many processes as torch has threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_all_start_methods, get_context
from typing import TypeVar, cast

import torch
from threadpoolctl import threadpool_limits

Result = TypeVar("Result")

# What a process of its own does with a number; it was there when the process was forked.
_WORK: list[Callable[[int], object]] = []


def side_by_side(work: Callable[[int], Result], count: int) -> Iterator[Result]:
    """`work(0)`, `work(1)`, ... in this order, each on one thread of a process of its own.

    With one thread, one number, or where processes cannot be forked: one after the other, here. The
    work must not use a GPU. Results are sent between processes; what the work holds is not.
    """
    processes = min(torch.get_num_threads(), count)
    if processes == 1 or "fork" not in get_all_start_methods():
        yield from map(work, range(count))
        return
    with ProcessPoolExecutor(processes, get_context("fork"), _start, (work,)) as pool:
        yield from cast(Iterator[Result], pool.map(_number, range(count)))


def _start(work: Callable[[int], object]) -> None:
    torch.set_num_threads(1)
    threadpool_limits(1)
    _WORK[:] = [work]


def _number(number: int) -> object:
    return _WORK[0](number)
