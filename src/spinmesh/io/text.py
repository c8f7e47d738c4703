"""Plain text files of numbers."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

import numpy as np

from spinmesh.errors import SequenceError, StoreError
from spinmesh.reading import reading

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
        elif data[1:2] == b"\0" or data[:1] == b"\0":
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
        rows = [[_number(word) for word in _words(line)] for line in lines]
        rows = [row for row in rows if row]
        if not rows:
            raise SequenceError(f"{path}: holds no numbers. Is it the right file?")
        return np.array(rows)
    except ValueError as error:
        raise SequenceError(
            f"{path}: not a table of numbers ({error}). Every line needs the same count of numbers."
        ) from error


def column_of(path: str | Path) -> np.ndarray:
    """The numbers of a file that has one row or one column of them."""
    table = numbers_of(path)
    if min(table.shape) > 1:
        raise SequenceError(
            f"{path}: {table.shape[0]} rows of {table.shape[1]} numbers; one row or one column is "
            "needed. Is it the right file?"
        )
    return table.ravel()


def _words(line: str) -> list[str]:
    body = re.split("[#%]", _NAN.sub("nan", line.translate(_MINUS)))[0].strip().rstrip(",;")
    body = re.sub(r"\s*([,;])\s*", r"\1", body)
    marks = [mark for mark in ",;" if mark in body]
    if len(marks) > 1 or (marks and len(body.split()) > 1):
        raise ValueError(f"{body[:40]!r} separates by commas and otherwise; use decimal points")
    return body.split(marks[0] if marks else None)


def _number(word: str) -> float:
    if "_" in word:
        raise ValueError(f"could not convert string to float: {word!r}")
    return float(word)
