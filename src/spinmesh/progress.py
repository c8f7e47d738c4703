"""Progress of long loops: a bar for a person at a terminal, log lines for a scheduler."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from operator import length_hint
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

LOGGER = logging.getLogger("spinmesh")
# Seconds between two log lines of one loop; a shorter loop than QUIET says nothing at all.
INTERVAL = 10.0
QUIET = 1.0


def progress(
    iterable: Iterable[Item],
    label: str,
    total: int | None = None,
    note: Callable[[], str] | None = None,
) -> Iterator[Item]:
    """Yield from `iterable` while reporting how far it is and how long it will take.

    `total` is needed only where the iterable has no length; `note()` is asked for a few words, such
    as the loss, at each report. A terminal gets a bar; otherwise the logger "spinmesh" gets a line
    about every 10 s and one at the end. The environment variable SPINMESH_PROGRESS=lines asks for
    lines on a terminal too, as where several jobs share it.
    """
    if total is None:
        total = length_hint(iterable, -1)
        total = None if total < 0 else total
    if sys.stderr.isatty() and os.environ.get("SPINMESH_PROGRESS") != "lines":
        return _bar(iterable, label, total, note)
    return _lines(iterable, label, total, note)


def log_to(path: str | Path) -> None:
    """Write the log lines of this process to a file; its folder is made if need be."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    _listen(logging.FileHandler(path, mode="w"))


def _listen(handler: logging.Handler) -> None:
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)


def _bar(
    iterable: Iterable[Item], label: str, total: int | None, note: Callable[[], str] | None
) -> Iterator[Item]:
    with tqdm(total=total, desc=label, dynamic_ncols=True, file=sys.stderr) as bar:
        for item in iterable:
            yield item
            if note is not None:
                bar.set_postfix_str(note(), refresh=False)
            bar.update()


def _lines(
    iterable: Iterable[Item], label: str, total: int | None, note: Callable[[], str] | None
) -> Iterator[Item]:
    if not LOGGER.hasHandlers():
        # Nobody configured logging: speak on stderr rather than not at all.
        _listen(logging.StreamHandler())
    start = last = time.monotonic()
    done = 0
    for item in iterable:
        yield item
        done += 1
        now = time.monotonic()
        if now - last >= INTERVAL and done != total:
            LOGGER.info(_line(label, done, total, now - start, note))
            last = now
    if time.monotonic() - start >= QUIET:
        LOGGER.info(_line(label, done, done, time.monotonic() - start, note))


def _line(
    label: str, done: int, total: int | None, elapsed: float, note: Callable[[], str] | None
) -> str:
    """For instance `training: 30 of 200, 12 s, about 68 s to go, loss 0.1`."""
    words = [f"{label}: {done}" + ("" if total is None else f" of {total}"), f"{elapsed:.0f} s"]
    if total is not None and 0 < done < total:
        words.append(f"about {elapsed / done * (total - done):.0f} s to go")
    if note is not None:
        words.append(note())
    return ", ".join(words)
