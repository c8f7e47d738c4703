"""Plain text files of numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spinmesh.errors import SequenceError, StoreError


def text_of(path: str | Path) -> str:
    """The file's text; StoreError if there is none."""
    path = Path(path)
    if not path.is_file():
        raise StoreError(f"{path}: no such file. Check the path (from the folder of the run).")
    return path.read_text()


def numbers_of(path: str | Path, lines: list[str] | None = None) -> np.ndarray:
    """The table of numbers in a file, or in `lines` of it; # starts a comment."""
    lines = text_of(path).splitlines() if lines is None else lines
    rows = [line.split("#")[0].split() for line in lines]
    rows = [row for row in rows if row]
    if not rows:
        raise SequenceError(f"{path}: holds no numbers. Is it the right file?")
    try:
        return np.array([[float(word) for word in row] for row in rows])
    except ValueError as error:
        raise SequenceError(
            f"{path}: not a table of numbers ({error}). Every line needs the same count of numbers."
        ) from error
