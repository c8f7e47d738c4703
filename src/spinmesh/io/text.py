"""Plain text files of numbers, and BIDS sidecars with the timing of a diffusion series."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from spinmesh.errors import SequenceError, StoreError
from spinmesh.files.reading import reading
from spinmesh.units import ms_from_s

if TYPE_CHECKING:
    import pandas as pd  # slow to import, so where it is used

UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# What Windows programs write for nan; a minus sign that a text editor made longer.
_NAN = re.compile(r"\b1\.#\w+|\bnan\(\w*\)", re.IGNORECASE)
_MINUS = str.maketrans({"\u2212": "-", "\u2013": "-"})


def text_of(path: str | Path, what: str = "file") -> str:
    """The file's text in UTF-8, UTF-16 or Latin-1, without a byte-order mark.

    Raises StoreError if there is none, or if it is not text.
    """
    with reading(path, what):
        data = Path(path).read_bytes()
        if data[:2] in UTF16:
            text = data.decode("utf-16")
        elif b"\0" in data[:2]:
            text = data.decode("utf-16-le" if data[1:2] == b"\0" else "utf-16-be")
        else:
            try:
                text = data.decode("utf-8-sig")
            except UnicodeDecodeError:
                text = data.decode("latin-1")
    if "\0" in text:
        raise StoreError(f"{path}: holds zero bytes, so it is no text. Is it the right file?")
    return text


def numbers_of(path: str | Path, lines: list[str] | None = None) -> np.ndarray:
    """The table of numbers in a file, or in `lines` of it; # or % starts a comment.

    Blanks, commas or semicolons separate them.
    """
    lines = text_of(path).splitlines() if lines is None else lines
    try:
        rows = [row for row in map(_row, lines) if row]
        if not rows:
            raise SequenceError(f"{path}: holds no numbers. Is it the right file?")
        return np.array(rows)
    except ValueError as error:
        raise SequenceError(
            f"{path}: not a table of numbers ({error}). Every line needs the same count of numbers."
        ) from error


def csv_of(path: str | Path, what: str, **how: Any) -> pd.DataFrame:
    """A csv table in any encoding; # starts a comment."""
    import pandas as pd

    text = text_of(path, what)
    with reading(path, what, "It needs a line of names, and rows."):
        return pd.read_csv(StringIO(text), comment="#", skipinitialspace=True, **how)


def cells_of(path: str | Path, table: pd.DataFrame, columns: Sequence[str]) -> ndarray:
    """The numbers in some columns of a csv table; an empty cell is NaN."""
    with reading(path, "csv table", f"Every cell of {', '.join(columns)} is a number."):
        return table[list(columns)].to_numpy(dtype=np.float64, copy=True)


def column_of(path: str | Path) -> np.ndarray:
    """The numbers of a file that has one row or one column of them."""
    table = numbers_of(path)
    if min(table.shape) > 1:
        raise SequenceError(
            f"{path}: {table.shape[0]} rows of {table.shape[1]} numbers; one row or one column is "
            "needed. Is it the right file?"
        )
    return table.ravel()


def _row(line: str) -> list[float]:
    body = re.split("[#%]", _NAN.sub("nan", line.translate(_MINUS)))[0].strip().rstrip(",;")
    body = re.sub(r"\s*([,;])\s*", r"\1", body)
    marks = {" " if mark.isspace() else mark for mark in re.findall(r"[\s,;]", body)}
    if len(marks) > 1:
        raise ValueError(f"{body[:40]!r} separates by commas and otherwise; use decimal points")
    words = re.split(r"[,;]|\s+", body) if body else []
    if "_" in body:  # Python takes 1_000 for a number.
        raise ValueError(f"{body[:40]!r} has underscores")
    return [float(word) for word in words]


# Names in use, for BIDS has none; all in seconds. Compared without case and signs.
NAMES = {
    name: tuple(words.split())
    for name, words in {
        "delta": "DiffusionGradientDuration DiffusionPulseDuration GradientDuration SmallDelta",
        "Delta": "DiffusionGradientSeparation DiffusionPulseSeparation GradientSeparation BigDelta "
        "LargeDelta",
        # The first that is there: BIDS has no echo time for each volume.
        "TE": "EchoTimePerVolume EchoTime",
    }.items()
}
# Pulses and echoes of a second do not exist in vivo: such a file holds ms.
MOST_SECONDS = 1.0


def read_sidecar(path: str | Path) -> dict[str, Float[ndarray, " time"]]:
    """delta, Delta and TE (ms) as far as the file names them: one value, or one per measurement.

    Raises SequenceError for a value that is no number of seconds, or for two that differ.
    """
    with reading(path, "BIDS sidecar (JSON)"):
        content = json.loads(text_of(path))
    if not isinstance(content, dict):
        raise SequenceError(f"{path}: no JSON object. Give the sidecar of the diffusion series.")
    values = {re.sub("[^a-z]", "", key.lower()): value for key, value in content.items()}
    timings = {}
    for name, keys in NAMES.items():
        given = {
            key: _seconds(path, key, values[key.lower()]) for key in keys if key.lower() in values
        }
        if name != "TE" and len(set(map(tuple, given.values()))) > 1:
            raise SequenceError(f"{path}: {', '.join(given)} differ. Leave one of them.")
        if given:
            timings[name] = ms_from_s(np.array(next(iter(given.values()))))
    return timings


def _seconds(path: str | Path, key: str, value: Any) -> list[float]:
    """One time, or one for each measurement, where 0 or null stands for no pulse."""
    each = isinstance(value, list)
    times = [0.0 if each and time is None else time for time in (value if each else [value])]
    for time in times:
        number = isinstance(time, int | float) and not isinstance(time, bool)
        if not number or not 0 <= time < MOST_SECONDS or not (each or time > 0):
            raise SequenceError(
                f"{path}: `{key}` is {str(time)[:40]}; give seconds, between 0 and 1. Is it in ms?"
            )
    return [float(time) for time in times]
