"""Progress of long loops: a bar for a person at a terminal, log lines for a scheduler."""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from operator import length_hint
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

LOGGER = logging.getLogger("spinmesh")
# Seconds between two log lines of one loop; a shorter loop says nothing.
INTERVAL = 5.0
# Last line of the log of a job that was refused its input: the workflow tries it no other time.
REFUSED = "refused: another attempt would end in the same way"
LINE = "{desc}: {n} of {total}, {elapsed}, about {remaining} to go{postfix}"
LINE_WITHOUT_TOTAL = "{desc}: {n}, {elapsed}{postfix}"


def progress(
    iterable: Iterable[Item],
    label: str,
    note: Callable[[], str] | None = None,
    total: int | None = None,
) -> Iterator[Item]:
    """Yield from `iterable` while reporting how far it is and how long it will take.

    `note()` is asked for a few words, such as the loss, at each step; `total` is how many items
    come, where the iterable cannot tell. A terminal gets a bar;
    otherwise the logger "spinmesh" gets a line at most every 5 s. The environment variable
    SPINMESH_PROGRESS=lines asks for lines on a terminal too, as where several jobs share it.
    """
    total = total or length_hint(iterable) or None
    options: dict[str, Any] = {"dynamic_ncols": True}
    if not sys.stderr.isatty() or os.environ.get("SPINMESH_PROGRESS") == "lines":
        if not LOGGER.hasHandlers():
            # Nobody configured logging: speak on stderr rather than not at all.
            _listen(logging.StreamHandler())
        # The delay only keeps the bar from being drawn before the first step.
        options = {"file": _Log(), "mininterval": INTERVAL, "miniters": 1, "delay": 1e-3}
        options["bar_format"] = LINE if total else LINE_WITHOUT_TOTAL
    with tqdm(total=total, desc=label, **options) as bar:
        for item in iterable:
            yield item
            if note is not None:
                bar.set_postfix_str(note(), refresh=False)
            bar.update()


class _Log(io.StringIO):
    """Where tqdm draws a bar again and again, the log gets a line each time it has changed."""

    line = ""

    def write(self, text: str) -> int:
        if text.strip() not in ("", self.line):
            self.line = text.strip()
            LOGGER.info(self.line)
        return len(text)


def log_to(path: str | Path) -> None:
    """Write the log lines of this process to a file; its folder is made if need be.

    An error that ends the process goes there with its traceback, and to the console as one line;
    warnings go there alone.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    _listen(logging.FileHandler(path, mode="w"))

    def told(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if kind is KeyboardInterrupt:
            LOGGER.error("stopped by Ctrl-C")
            return
        LOGGER.error("%s: %s", kind.__name__, error, exc_info=(kind, error, trace))
        print(f"{kind.__name__}: {error} (log: {path})", file=sys.stderr)
        if getattr(error, "refused", False):
            LOGGER.error(REFUSED)

    sys.excepthook = told
    warnings.showwarning = lambda message, category, *_: LOGGER.warning(
        "%s: %s", category.__name__, message
    )


def was_refused(logs: Iterable[str | Path]) -> bool:
    """Whether one of a job's logs ends by saying that its input was refused."""
    files = [Path(log) for log in logs if Path(log).is_file()]
    return any(file.read_text().rstrip().endswith(REFUSED) for file in files)


def _listen(handler: logging.Handler) -> None:
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
