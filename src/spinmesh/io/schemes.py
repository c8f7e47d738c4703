"""Camino schemes, Pulseq files, and csv tables of free waveforms (docs/methods/sequences.md, 5)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy import ndarray

from spinmesh.errors import ConfigError, SequenceError
from spinmesh.files.reading import reading
from spinmesh.files.writing import complete_or_absent
from spinmesh.io.text import cells_of, csv_of, numbers_of, text_of
from spinmesh.sequence import Acquisition, FreeWaveform
from spinmesh.units import ms_from_s, mt_per_m_from_hz_per_m, mt_per_m_from_t_per_m

# Of a Pulseq file, s: steps of slopes, which is the raster of gradients; times nearer are the same.
RASTER, SHORTEST = 1e-5, 1e-9
# Of gradients and moments there, relative to the largest: its numbers have six digits.
ROUNDING = 1e-6
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


def read_pulseq(path: str | Path) -> Acquisition:
    """A Pulseq .seq file: a free waveform for each excitation after which data are read.

    It begins in the middle of the excitation and ends at the echo: of the samples until the next
    excitation that at which the gradients have cancelled best, of several the middle one. After
    each refocusing pulse the signs are turned. All gradients count, those for imaging too; x, y, z
    are the scanner's. Slopes become steps of at most 10 us that have the slope's area. Excitations
    without data are left out.

    Raises ConfigError without pypulseq (extra `pulseq`), StoreError for what it cannot read, and
    SequenceError if no excitation has data. Source: Layton et al., Magn. Reson. Med. 77 (2017).
    """
    try:
        import pypulseq
    except ImportError as error:
        remedy = "Install it: pip install 'spinmesh[pulseq]'."
        raise ConfigError(f"{path}: reading Pulseq files takes pypulseq. {remedy}") from error
    with reading(path, "Pulseq file"):
        sequence = pypulseq.Sequence()
        sequence.read(str(path))
        waves, excited, refocused, samples, _ = sequence.waveforms_and_times()
    shots = []
    for start, end in pairwise([*excited[0], np.inf]):
        read = samples[(samples > start) & (samples < end)]
        if len(read):
            turns = refocused[0][(refocused[0] > start) & (refocused[0] < read[-1])]
            shots.append(_until_echo(waves[:3], start, turns, read))
    if not shots:
        raise SequenceError(
            f"{path}: no data are read after any of its {excited.shape[1]} excitations. Give a "
            "sequence with ADC events."
        )
    return _free(shots)


def _until_echo(
    waves: Sequence[ndarray], start: float, turns: ndarray, samples: ndarray
) -> tuple[ndarray, ndarray]:
    """Durations (ms) and gradients (mT/m, step 3) from an excitation to its echo; times in s."""
    edges = np.unique(np.concatenate([[start], turns, samples]))
    moment = (np.diff(_areas(waves, edges), axis=0) * _signs(edges, turns)).cumsum(0)
    distance = np.linalg.norm(moment, axis=1)[np.searchsorted(edges, samples) - 1]
    best = distance <= distance.min() + ROUNDING * np.linalg.norm(moment, axis=1).max()
    echo = samples[best][best.sum() // 2]
    knots = np.concatenate([wave[0] for wave in waves])
    inside = [each[(each > start) & (each < echo)] for each in (knots, turns)]
    edges = np.unique(np.concatenate([[start, echo], *inside]))
    edges = edges[np.diff(edges, prepend=-1.0) > SHORTEST]
    fine = [edges[:1]]
    for one, other in pairwise(edges):
        within = np.array([0.9 * one + 0.1 * other, 0.1 * one + 0.9 * other])
        early, late = np.stack([_level(wave, within) for wave in waves], axis=1)
        level = np.abs(late - early).max() <= ROUNDING * np.abs(early).max()
        count = 1 if level else int(np.ceil((other - one) / RASTER))
        fine.append(np.linspace(one, other, count + 1)[1:])
    edges = np.concatenate(fine)
    mean = np.diff(_areas(waves, edges), axis=0) * _signs(edges, turns) / np.diff(edges)[:, None]
    return ms_from_s(np.diff(edges)), mt_per_m_from_hz_per_m(mean)


def _signs(edges: ndarray, turns: ndarray) -> ndarray:
    """Of each interval: 1, turned at every refocusing pulse before it."""
    return (1 - 2 * (np.searchsorted(turns, edges[:-1], side="right") % 2))[:, None]


def _level(wave: ndarray, t: ndarray) -> ndarray:
    """One axis at some times; `wave` has times and levels of its knots, with nothing outside."""
    return np.interp(t, wave[0], wave[1], left=0.0, right=0.0) if wave.size else 0 * t


def _areas(waves: Sequence[ndarray], t: ndarray) -> ndarray:
    """Integrals until some times, (time, 3), exact: the axes are linear between their knots."""
    columns = []
    for wave in waves:
        knots = np.unique(np.concatenate([t, wave[0]]))
        level = _level(wave, knots)
        area = np.concatenate([[0.0], ((level[1:] + level[:-1]) / 2 * np.diff(knots)).cumsum()])
        columns.append(area[np.searchsorted(knots, t)])
    return np.stack(columns, axis=1)


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
