"""Acquisition files: FSL bval/bvec with delta and Delta, Camino schemes, csv of waveforms."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from spinmesh.errors import SequenceError
from spinmesh.io.schemes import read_camino_scheme, read_waveforms
from spinmesh.io.store import write_text
from spinmesh.io.text import numbers_of
from spinmesh.sequence import PGSE, Acquisition
from spinmesh.units import b_from_s_per_mm2, b_to_s_per_mm2


def read_acquisition(
    *,
    bvals: str | None = None,
    bvecs: str | None = None,
    delta_ms: float | str | None = None,
    Delta_ms: float | str | None = None,
    scheme: str | None = None,
) -> Acquisition:
    """The acquisition in the order of its files: FSL files with timings, or one scheme.

    A scheme is a Camino file, or a csv of free waveforms if its name ends in .csv.
    `delta_ms` and `Delta_ms` are numbers, or paths of text files with one value per measurement.
    Raises SequenceError or StoreError, naming the file, if something is wrong or missing.
    """
    fsl = {"bvals": bvals, "bvecs": bvecs, "delta (ms)": delta_ms, "Delta (ms)": Delta_ms}
    given = [key for key, value in fsl.items() if value is not None]
    missing = [key for key in fsl if key not in given]
    if scheme is not None:
        if given:
            raise SequenceError(
                f"acquisition: scheme {scheme} excludes {', '.join(given)}. Give one or the other."
            )
        csv = Path(scheme).suffix.lower() == ".csv"
        with _about(scheme):
            return read_waveforms(scheme) if csv else read_camino_scheme(scheme)
    if bvals is None or bvecs is None or delta_ms is None or Delta_ms is None:
        raise SequenceError(
            f"acquisition: {', '.join(missing)} missing. Give bvals, bvecs, delta and Delta "
            "together, or a scheme."
        )
    with _about(bvals):
        return read_fsl(bvals, bvecs, delta_ms, Delta_ms)


@contextmanager
def _about(path: str) -> Iterator[None]:
    """Put the file's name before an error that does not say which acquisition it is about."""
    try:
        yield
    except SequenceError as error:
        text = str(error).removeprefix("acquisition: ")
        raise SequenceError(text if path in text else f"{path}: {text}") from error


def read_fsl(
    bvals: str | Path, bvecs: str | Path, delta_ms: float | str | Path, Delta_ms: float | str | Path
) -> Acquisition:
    """FSL text files: b-values in s/mm^2, unit directions in three rows (or three columns)."""
    b = numbers_of(bvals).ravel()
    direction = np.atleast_2d(numbers_of(bvecs))
    if direction.shape[0] == 3:
        direction = direction.T
    if direction.shape != (len(b), 3):
        raise SequenceError(
            f"{bvecs}: directions of shape {direction.shape} for the {len(b)} b-values of {bvals}. "
            "An FSL bvec file has three rows with one column per b-value."
        )
    timings = [
        torch.from_numpy(numbers_of(t).ravel()) if isinstance(t, str | Path) else float(t)
        for t in (delta_ms, Delta_ms)
    ]
    return Acquisition.pgse(b_from_s_per_mm2(torch.from_numpy(b)), direction, *timings)


def write_fsl(
    acquisition: Acquisition,
    bvals: str | Path,
    bvecs: str | Path,
    delta_ms: str | Path,
    Delta_ms: str | Path,
) -> None:
    """The four text files that `read_fsl` takes, for rectangular PGSE read out at their end.

    Raises SequenceError for any other sequence, whose signal the files would not determine.
    """
    for index, which in enumerate(acquisition.timing.tolist()):
        sequence = acquisition.sequences[which]
        plain = isinstance(sequence, PGSE) and sequence.ramp == 0
        if not plain or sequence.echo_time > sequence.Delta + sequence.delta + 1e-6:
            raise SequenceError(
                f"{bvals}: measurement {index} is {sequence}; FSL files cannot hold it. Write a "
                "Camino scheme or a csv of waveforms."
            )
    values = {
        bvals: b_to_s_per_mm2(acquisition.b_value)[None],
        bvecs: acquisition.direction.T,
        delta_ms: acquisition.durations("delta")[:, None],
        Delta_ms: acquisition.durations("Delta")[:, None],
    }
    for path, table in values.items():
        lines = [" ".join(f"{x:.17g}" for x in row) for row in table.tolist()]
        write_text("\n".join(lines) + "\n", path)
