"""Acquisition files: FSL bval/bvec, MRtrix tables, Camino schemes, csv of waveforms, sidecars."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy import ndarray

from spinmesh.errors import SequenceError
from spinmesh.io.schemes import read_camino_scheme, read_waveforms
from spinmesh.io.store import write_text
from spinmesh.io.text import column_of, numbers_of, read_sidecar
from spinmesh.io.volumes import affine_of
from spinmesh.sequence import PGSE, Acquisition
from spinmesh.units import b_from_s_per_mm2, b_to_s_per_mm2

# Below this b (s/mm^2) a measurement counts as unweighted and needs no direction.
B0_THRESHOLD = 50.0
# bvec files carry 4 to 6 digits; more than this off unit length is not rounding.
UNIT_TOLERANCE = 1e-2
# Beyond these a file is in another unit: the strongest gradient coils have 3 T/m (some NMR probes
# more), b of 1e6 s/mm^2 leaves nothing to measure, and pulses take 0.1 ms to some seconds.
MOST_GRADIENT = 5e3  # mT/m
PLAUSIBLE_B = (10.0, 1e6)  # s/mm^2
PLAUSIBLE_DELTA = (0.2, 5e3)  # ms, of Delta


def read_acquisition(
    *,
    bvals: str | None = None,
    bvecs: str | None = None,
    delta_ms: float | str | None = None,
    Delta_ms: float | str | None = None,
    TE_ms: float | str | None = None,
    scheme: str | None = None,
    sidecar: str | None = None,
    image: str | None = None,
    b0_threshold_s_per_mm2: float = B0_THRESHOLD,
) -> Acquisition:
    """The acquisition in the order of its files: FSL or MRtrix tables with timings, or one scheme.

    A scheme is a Camino file, a csv of free waveforms if its name ends in .csv, or an MRtrix table
    (x y z b), to which timings belong as to FSL files. `delta_ms`, `Delta_ms` and the echo time
    `TE_ms` (by default the pulses' end) are numbers, or paths of text files with one value per
    measurement; a BIDS `sidecar` gives those that are not given. FSL directions are turned into
    world axes if an `image` is given whose axes they are along; all others are in world axes.

    Raises SequenceError or StoreError, naming the file, if something is wrong or missing.
    """
    timings: dict[str, Any] = dict(read_sidecar(sidecar)) if sidecar is not None else {}
    given = {"delta": delta_ms, "Delta": Delta_ms, "TE": TE_ms}
    timings |= {name: value for name, value in given.items() if value is not None}
    tables = {"bvals": bvals, "bvecs": bvecs}
    excluded = [name for name, value in tables.items() if value is not None]
    if scheme is not None and (excluded or (timings and not _is_mrtrix(scheme))):
        excluded += [f"{name} (ms)" for name in timings]
        raise SequenceError(
            f"acquisition: scheme {scheme} excludes {', '.join(excluded)}. Give one or the other."
        )
    if scheme is not None and not _is_mrtrix(scheme):
        csv = Path(scheme).suffix.lower() == ".csv"
        with _about(scheme):
            acquisition = read_waveforms(scheme) if csv else read_camino_scheme(scheme)
    else:
        named = (tables if scheme is None else {}) | {
            f"{name} (ms)": timings.get(name) for name in ("delta", "Delta")
        }
        missing = [key for key, value in named.items() if value is None]
        if missing:
            raise SequenceError(
                f"acquisition: {', '.join(missing)} missing. Give bvals, bvecs, delta and Delta "
                "together, or a scheme."
            )
        b, direction, where = _table(bvals, bvecs, scheme, b0_threshold_s_per_mm2)
        if image is not None and scheme is None:
            direction = direction @ fsl_axes(affine_of(image)).T
        with _about(where):
            acquisition = _pgse(b, direction, timings)
    _question_units(scheme or str(bvals), acquisition)
    return replace(acquisition, unweighted_below=b_from_s_per_mm2(b0_threshold_s_per_mm2))


@contextmanager
def _about(path: str) -> Iterator[None]:
    """Put the file's name before an error that does not say which acquisition it is about."""
    try:
        yield
    except SequenceError as error:
        text = str(error).removeprefix("acquisition: ")
        raise SequenceError(text if path in text else f"{path}: {text}") from error


def _is_mrtrix(path: str) -> bool:
    """Whether a file is a table of four columns, which no scheme of Camino is."""
    try:
        return Path(path).suffix.lower() != ".csv" and numbers_of(path).shape[1] == 4
    except SequenceError:
        return False


def _table(
    bvals: str | None, bvecs: str | None, mrtrix: str | None, threshold: float
) -> tuple[torch.Tensor, ndarray, str]:
    """b (ms/um^2), directions (zero where there is none), and the files' names in an error."""
    if mrtrix is not None:
        table, where = numbers_of(mrtrix), mrtrix
        b, direction, bvals, bvecs = table[:, 3], table[:, :3], mrtrix, mrtrix
    else:
        b, where = column_of(str(bvals)), f"{bvals}, {bvecs}"
    wrong = ~np.isfinite(b) | (b < 0)
    if wrong.any():
        first = int(wrong.argmax())
        raise SequenceError(
            f"{bvals}: b-value of measurement {first} is {b[first]:g} s/mm^2. It must be finite "
            "and >= 0; repair the file."
        )
    if mrtrix is None:
        direction = _directions(str(bvecs), b, threshold, str(bvals))
    length = np.linalg.norm(direction, axis=1)
    unit = np.abs(length - 1) <= UNIT_TOLERANCE
    off = (b > threshold) & ~unit
    if off.any():
        raise SequenceError(_off_unit(str(bvals), str(bvecs), b, length, off))
    direction = np.where(unit[:, None], direction, 0.0)
    return b_from_s_per_mm2(torch.from_numpy(b.copy())), direction, where


def _directions(bvecs: str, b: ndarray, threshold: float, bvals: str) -> ndarray:
    """FSL's three rows, three columns, or all numbers in one: whichever gives unit vectors."""
    table, count = numbers_of(bvecs), len(b)
    layouts = []
    if table.shape == (3, count) or (table.size == 3 * count and min(table.shape) == 1):
        layouts.append(table.reshape(3, count).T)
    if table.shape == (count, 3) or (table.size == 3 * count and min(table.shape) == 1):
        layouts.append(table.reshape(count, 3))
    if not layouts:
        raise SequenceError(
            f"{bvecs}: {table.shape[0]} rows of {table.shape[1]} numbers for the {count} b-values "
            f"of {bvals}. An FSL bvec file has three rows with one column per b-value."
        )
    for direction in layouts:
        length = np.linalg.norm(direction[b > threshold], axis=1)
        if (np.abs(length - 1) <= UNIT_TOLERANCE).all():
            return direction
    return layouts[0]


def _off_unit(bvals: str, bvecs: str, b: ndarray, length: ndarray, off: ndarray) -> str:
    first = int(off.argmax())
    what = f"{bvecs}: {int(off.sum())} directions are not unit vectors (first: measurement {first}"
    if not np.isfinite(length[first]) or length[first] == 0:
        return (
            f"{what}, which has none, at b = {b[first]:g} s/mm^2). Repair it, or raise the "
            "threshold of unweighted measurements (b0-threshold) if it is one."
        )
    return (
        f"{what}, length {length[first]:.4g}). If lengths scale the gradient, as where several "
        f"shells have one b-value, write b |v|^2 (here {b[first] * length[first] ** 2:.4g} s/mm^2) "
        f"into {bvals} and unit vectors here; else check that the two files belong together."
    )


def _pgse(b: torch.Tensor, direction: ndarray, timings: dict[str, Any]) -> Acquisition:
    durations = {}
    for name, value in timings.items():
        times = column_of(value) if isinstance(value, str) else np.atleast_1d(value)
        if len(times) not in (1, len(b)):
            where = f"{value}: " if isinstance(value, str) else ""
            raise SequenceError(
                f"{where}{len(times)} values of {name} for {len(b)} measurements. Give one, or one "
                "for each."
            )
        durations[name] = torch.from_numpy(times.astype(np.float64))
    directed = torch.from_numpy(direction).any(1)
    acquisition = Acquisition.pgse(torch.where(directed, b, 0.0), direction, **durations)
    return replace(acquisition, nominal_b=b)


def fsl_axes(affine: ndarray) -> ndarray:
    """The rotation from FSL's axes to the world's (RAS): those of the image, x mirrored.

    x is reversed where the affine's determinant is positive, since FSL counts that axis from the
    other end. Of a sheared affine it is the nearest rotation.
    """
    left, _, right = np.linalg.svd(affine[:3, :3])
    axes = left @ right
    if np.linalg.det(axes) > 0:
        axes[:, 0] *= -1
    return np.asarray(axes)


def _question_units(path: str, acquisition: Acquisition) -> None:
    """SequenceError where numbers are impossible in their units, with the likely one."""
    gradient = float(acquisition.amplitude.max())
    b = b_to_s_per_mm2(float(acquisition.b_value.max()))
    Delta = acquisition.durations("Delta")[acquisition.amplitude > 0]
    Delta = Delta[~Delta.isnan()]
    low, high = PLAUSIBLE_B
    doubt = None
    if len(Delta) and float(Delta.max()) < PLAUSIBLE_DELTA[0]:
        doubt = f"Delta is {float(Delta.max()):g} ms. Are the times in s, to be multiplied by 1000"
    elif len(Delta) and float(Delta.max()) > PLAUSIBLE_DELTA[1]:
        doubt = f"Delta is {float(Delta.max()):g} ms. Are the times in us, or in ms where s belong"
    elif 0 < b < low:
        doubt = f"the largest b is {b:.3g} s/mm^2. Is b in ms/um^2, to be multiplied by 1000"
    elif b > high:
        doubt = f"the largest b is {b:.3g} s/mm^2. Is b in s/m^2, or a gradient in mT/m, not T/m"
    elif gradient > MOST_GRADIENT:
        doubt = (
            f"a gradient of {gradient / 1e3:.3g} T/m is needed. Are delta and Delta in ms, b in "
            "s/mm^2, and the gradients of a scheme in T/m"
        )
    if doubt is not None:
        raise SequenceError(f"{path}: {doubt}? Correct the unit.")


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
