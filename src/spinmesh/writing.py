"""Files and folders that appear complete or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path


@contextmanager
def complete_or_absent(path: Path) -> Iterator[Path]:
    """Yield a fresh path beside `path`; rename it to `path` on success, else remove it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear(
        p for end in ("partial", "old") for p in path.parent.glob(f".{escape(path.name)}.*.{end}")
    )
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        yield partial
        if path.is_dir():
            old = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.old")
            path.rename(old)
            partial.rename(path)
            shutil.rmtree(old)
        else:
            os.replace(partial, path)
    finally:
        _clear([partial])


def write_text(text: str, path: str | Path) -> None:
    """Write a text file (UTF-8), complete or not at all."""
    with complete_or_absent(Path(path)) as partial:
        partial.write_text(text, encoding="utf-8")


def _clear(paths: Iterable[Path]) -> None:
    """Remove files and folders; what a killed writer left behind is found by its name."""
    for path in list(paths):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
