"""Acquisition files: FSL bval/bvec with delta and Delta, Camino schemes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from spinmesh.errors import SequenceError, StoreError
from spinmesh.sequence import Acquisition
from spinmesh.units import b_from_s_per_mm2, ms_from_s, mt_per_m_from_t_per_m


def read_acquisition(
    *,
    bvals: str | None = None,
    bvecs: str | None = None,
    delta_ms: float | str | None = None,
    Delta_ms: float | str | None = None,
    scheme: str | None = None,
) -> Acquisition:
    """The acquisition in the order of its files: FSL files with timings, or one Camino scheme.

    `delta_ms` and `Delta_ms` are numbers, or paths of text files with one value per measurement.
    Raises SequenceError or StoreError if the files are wrong.
    """
    if scheme is not None:
        return read_camino_scheme(scheme)
    if bvals is None or bvecs is None or delta_ms is None or Delta_ms is None:
        raise SequenceError(
            "acquisition: give bvals, bvecs, delta_ms and Delta_ms together, or a scheme."
        )
    return read_fsl(bvals, bvecs, delta_ms, Delta_ms)


def read_fsl(
    bvals: str | Path, bvecs: str | Path, delta_ms: float | str | Path, Delta_ms: float | str | Path
) -> Acquisition:
    """FSL text files: b-values in s/mm^2, unit directions in three rows (or three columns)."""
    b = _numbers(bvals).ravel()
    direction = np.atleast_2d(_numbers(bvecs))
    if direction.shape[0] == 3:
        direction = direction.T
    if direction.shape != (len(b), 3):
        raise SequenceError(
            f"{bvecs}: directions of shape {direction.shape} for the {len(b)} b-values of {bvals}. "
            "An FSL bvec file has three rows with one column per b-value."
        )
    timings = [
        torch.from_numpy(_numbers(t).ravel()) if isinstance(t, str | Path) else float(t)
        for t in (delta_ms, Delta_ms)
    ]
    return Acquisition.pgse(b_from_s_per_mm2(torch.from_numpy(b)), direction, *timings)


def read_camino_scheme(path: str | Path) -> Acquisition:
    """A Camino STEJSKALTANNER scheme: gx gy gz |G| (T/m) DELTA delta TE (s) per line.

    The echo is taken at Delta + delta; a longer TE only adds T2 decay that S/S0 does not see.
    """
    path = Path(path)
    lines = _text(path).splitlines()
    header = [line for line in lines if line.strip() and not line.lstrip().startswith("#")][:1]
    if not header or "STEJSKALTANNER" not in header[0].upper().replace(" ", ""):
        raise SequenceError(
            f"{path}: first line is {header[0] if header else ''!r}, not `VERSION: STEJSKALTANNER`."
            " Other Camino schemes are not read here."
        )
    start = lines.index(header[0]) + 1
    table = np.atleast_2d(_numbers(path, skip=start))
    if table.shape[1] != 7:
        raise SequenceError(
            f"{path}: {table.shape[1]} columns; STEJSKALTANNER has 7 (gx gy gz |G| DELTA delta TE)."
        )
    return Acquisition.from_gradient(
        mt_per_m_from_t_per_m(torch.from_numpy(table[:, 3].copy())),
        torch.from_numpy(table[:, :3].copy()),
        ms_from_s(torch.from_numpy(table[:, 5].copy())),
        ms_from_s(torch.from_numpy(table[:, 4].copy())),
    )


def _text(path: str | Path) -> str:
    path = Path(path)
    if not path.is_file():
        raise StoreError(f"{path}: no such file. Check the path (from the folder of the run).")
    return path.read_text()


def _numbers(path: str | Path, skip: int = 0) -> np.ndarray:
    rows = [line.split("#")[0].split() for line in _text(path).splitlines()[skip:]]
    rows = [row for row in rows if row]
    if not rows:
        raise SequenceError(f"{path}: holds no numbers. Is it the right file?")
    try:
        return np.array([[float(word) for word in row] for row in rows])
    except ValueError as error:
        raise SequenceError(
            f"{path}: not a table of numbers ({error}). Every line needs the same count of numbers."
        ) from error
