"""Camino schemes and csv tables of free gradient waveforms (docs/methods/sequences.md, part 5)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from numpy import ndarray

from spinmesh.errors import SequenceError
from spinmesh.io.text import cells_of, csv_of, numbers_of, text_of
from spinmesh.sequence import Acquisition, FreeWaveform
from spinmesh.units import ms_from_s, mt_per_m_from_t_per_m
from spinmesh.writing import complete_or_absent

HEADER = re.compile(r"VERSION\s*:\s*(\w+)", re.IGNORECASE)
COLUMNS = ("measurement", "duration_ms", "gx_mT_per_m", "gy_mT_per_m", "gz_mT_per_m")


def read_camino_scheme(path: str | Path) -> Acquisition:
    """A Camino scheme, by its header: STEJSKALTANNER (also called 1) or GRADIENT_WAVEFORM.

    SI units: s and T/m. STEJSKALTANNER, one measurement per line: gx gy gz |G| DELTA delta TE, the
    pulses in the middle of TE; a direction 0 0 0 has no gradient, and TE = 0 means the pulses' end.
    Seven columns without a header are taken for it. GRADIENT_WAVEFORM: K dt G1x G1y G1z ... GKx GKy
    GKz, each vector held for dt; the signs after a refocusing pulse are turned already.

    Source: Camino's DW_Scheme, RectGradSteTanScheme and GradientWaveform_Scheme (package imaging),
    whose b-value is gamma^2 times the integral of |int G|^2; camino.m's ProtocolToScheme writes the
    same. MC/DC's waveform files have the same first line and another layout: they are refused.
    """
    lines = [line for line in text_of(path).splitlines() if line.strip()]
    header = [line for line in lines if line.lstrip()[0] not in "#%"][:1]
    version = HEADER.fullmatch(header[0].strip()) if header else None
    kind = version[1].upper() if version else None
    if kind is None and header and len(header[0].split()) == 7:
        kind = "1"
    body = lines[lines.index(header[0]) + bool(version) :] if header else []
    if kind in ("1", "STEJSKALTANNER"):
        return _stejskal_tanner(path, body)
    if kind == "GRADIENT_WAVEFORM":
        return _gradient_waveform(path, body)
    raise SequenceError(
        f"{path}: first line is {(header[0] if header else '')[:60]!r}, not `VERSION: "
        "STEJSKALTANNER` or `VERSION: GRADIENT_WAVEFORM`. Write the first above seven columns gx "
        "gy gz |G| DELTA delta TE (T/m, s); other schemes, and MC/DC's configurations of the same "
        "name, are not read here."
    )


def read_waveforms(path: str | Path) -> Acquisition:
    """A csv of free waveforms: rows of `COLUMNS` in time's order, measurements from 0 on."""
    table = csv_of(path, "file of waveforms")
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise SequenceError(
            f"{path}: no column {', '.join(missing)}; it needs {','.join(COLUMNS)}."
        )
    values = cells_of(path, table, COLUMNS)
    number = values[:, 0]
    starts = np.flatnonzero(np.diff(number, prepend=-1))
    if len(number) == 0 or number[starts].tolist() != list(range(len(starts))):
        raise SequenceError(f"{path}: measurements must be 0, 1, 2, ... without gap, in order.")
    rows = np.split(values[:, 1:], starts[1:])
    return _free((row[:, 0], row[:, 1:]) for row in rows)


def write_waveforms(acquisition: Acquisition, path: str | Path) -> None:
    """Every measurement's steps as a csv; exact for piecewise-constant sequences."""
    import pandas as pd

    parts = []
    for index in range(len(acquisition)):
        durations, levels = acquisition.sequences[int(acquisition.timing[index])].steps()
        gradient = levels @ acquisition.vectors(torch.tensor([index]))[0].numpy().T
        row = np.column_stack([np.full(len(durations), index), durations, gradient])
        parts.append(pd.DataFrame(row, columns=list(COLUMNS)).astype({"measurement": int}))
    with complete_or_absent(Path(path)) as partial:
        pd.concat(parts).to_csv(partial, index=False, float_format="%.17g")


def _stejskal_tanner(path: str | Path, body: list[str]) -> Acquisition:
    table = np.atleast_2d(numbers_of(path, body))
    if table.shape[1] != 7:
        raise SequenceError(
            f"{path}: {table.shape[1]} columns; STEJSKALTANNER has 7 (gx gy gz |G| DELTA delta TE)."
        )
    column = torch.from_numpy(table.T.copy())
    # Camino multiplies |G| with the direction, and writes unweighted measurements as 0 0 0.
    pointing = (column[:3] != 0).any(0)
    return Acquisition.from_gradient(
        torch.where(pointing, mt_per_m_from_t_per_m(column[3]), 0.0),
        column[:3].T,
        ms_from_s(column[5]),
        ms_from_s(column[4]),
        TE=ms_from_s(column[6]),
    )


def _gradient_waveform(path: str | Path, body: list[str]) -> Acquisition:
    waveforms: list[tuple[float, ndarray]] = []
    for line in body:
        if line.lstrip()[0] in "#%":
            continue
        row = numbers_of(path, [line])[0]
        if len(row) < 5 or len(row) != 2 + 3 * row[0]:
            raise SequenceError(
                f"{path}: measurement {len(waveforms)} has {len(row)} numbers, its first is "
                f"{row[0]:g}; a line is K, dt (s) and 3 K values (T/m). A file of MC/DC has the "
                "same first line but another layout: write it as csv or Camino's."
            )
        waveforms.append((ms_from_s(row[1]), mt_per_m_from_t_per_m(row[2:].reshape(-1, 3))))
    return _free(waveforms)


def _free(waveforms) -> Acquisition:
    """One free waveform per measurement; z of the profile is z of the scanner."""
    parts = [FreeWaveform.of(durations, gradient) for durations, gradient in waveforms]
    gradient = torch.tensor([[0.0, 0.0, peak] for _, peak in parts], dtype=torch.float64)
    timing = torch.arange(len(parts))
    return Acquisition(tuple(waveform for waveform, _ in parts), timing, gradient.reshape(-1, 3))
