"""Acquisition files: FSL bval/bvec, MRtrix tables, Camino schemes, waveforms, sidecars."""

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
from spinmesh.io.schemes import read_camino_scheme, read_pulseq, read_waveforms
from spinmesh.io.text import column_of, numbers_of, read_sidecar
from spinmesh.sequence import Acquisition
from spinmesh.sequence.acquisition import UNIT_TOLERANCE
from spinmesh.settings import AcquisitionFiles
from spinmesh.units import b_from_s_per_mm2, b_to_s_per_mm2

# Beyond these a file is in another unit: the strongest gradient coils have 3 T/m (some NMR probes
# more), b of 1e6 s/mm^2 leaves nothing to measure, and pulses take 0.1 ms to some seconds.
MOST_GRADIENT = 5e3  # mT/m
PLAUSIBLE_B = (10.0, 1e6)  # s/mm^2
PLAUSIBLE_DELTA = (0.2, 5e3)  # ms, of Delta
# Readers of free waveforms by the ending of a scheme's name.
WAVEFORMS = {".csv": read_waveforms, ".seq": read_pulseq}


def read_acquisition(**names: Any) -> Acquisition:
    """The acquisition in the order of its files; `names` are the keys of `AcquisitionFiles`.

    FSL tables (`bvals`, `bvecs`) with timings, or a `scheme`: a Camino file, a csv of free
    waveforms if its name ends in .csv, a Pulseq file if in .seq, or an MRtrix table (x y z b), to
    which timings belong as to FSL files. `delta_ms`, `Delta_ms` and the echo time `TE_ms` (by
    default the pulses' end) are numbers, or paths of text files with one value per measurement; a
    BIDS `sidecar` gives those that are not given. FSL directions are turned into world axes if an
    `image` is given whose axes they are along; all others are in world axes.

    Raises ConfigError, SequenceError or StoreError, naming the file that is wrong or missing.
    """
    files = AcquisitionFiles.checked(names, "acquisition")
    timings: dict[str, Any] = {} if files.sidecar is None else dict(read_sidecar(files.sidecar))
    given = {"delta": files.delta_ms, "Delta": files.Delta_ms, "TE": files.TE_ms}
    timings |= {name: value for name, value in given.items() if value is not None}
    threshold = files.b0_threshold_s_per_mm2
    if files.scheme is not None and not _is_mrtrix(files.scheme):
        if timings:
            raise SequenceError(
                f"{files.scheme}: the scheme has timings of its own, but {', '.join(timings)} are "
                "given. Leave them out."
            )
        read = WAVEFORMS.get(Path(files.scheme).suffix.lower(), read_camino_scheme)
        with _naming(files.scheme):
            acquisition = read(files.scheme)
    else:
        missing = [name for name in ("delta", "Delta") if name not in timings]
        if missing:
            raise SequenceError(
                f"{files.scheme or files.sidecar}: {', '.join(missing)} missing. Give delta and "
                "Delta (ms), or a sidecar that has both."
            )
        b, direction = _gradients(files, threshold)
        with _naming(files.scheme or f"{files.bvals}, {files.bvecs}"):
            acquisition = _pgse(b, direction, timings)
    _question_units(files.scheme or str(files.bvals), acquisition)
    return replace(acquisition, unweighted_below=b_from_s_per_mm2(threshold))


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Put the file's name before an error that does not say which acquisition it is about."""
    try:
        yield
    except SequenceError as error:
        text = str(error).removeprefix("acquisition: ")
        raise SequenceError(text if path in text else f"{path}: {text}") from error


def _is_mrtrix(path: str) -> bool:
    """Whether a file is called .b, or is a table of four columns, which no Camino scheme is."""
    suffix = Path(path).suffix.lower()
    try:
        return suffix == ".b" or (suffix not in WAVEFORMS and numbers_of(path).shape[1] == 4)
    except SequenceError:
        return False


def _gradients(files: AcquisitionFiles, threshold: float) -> tuple[ndarray, ndarray]:
    """b (s/mm^2), and directions in world axes, which are zero where a row needs none."""
    if files.scheme is not None:
        table = numbers_of(files.scheme)
        if table.shape[1] != 4:
            raise SequenceError(
                f"{files.scheme}: {table.shape[1]} columns; an MRtrix table has 4, x y z b."
            )
        b, layouts, bvals, bvecs = table[:, 3], [table[:, :3]], files.scheme, files.scheme
    else:
        bvals, bvecs = str(files.bvals), str(files.bvecs)
        b = column_of(bvals)
        layouts = _layouts(bvecs, bvals, len(b))
    wrong = ~np.isfinite(b) | (b < 0)
    if wrong.any():
        first = int(wrong.argmax())
        raise SequenceError(
            f"{bvals}: b-value of measurement {first} is {b[first]:g} s/mm^2. It must be finite "
            "and >= 0; repair the file."
        )
    units = [np.abs(np.linalg.norm(rows, axis=1) - 1) <= UNIT_TOLERANCE for rows in layouts]
    off = [(b > threshold) & ~unit for unit in units]
    best = int(np.argmin([each.any() for each in off]))
    if off[best].any():
        length = np.linalg.norm(layouts[best], axis=1)
        raise SequenceError(_off_unit(bvals, bvecs, b, length, off[best]))
    direction = np.where(units[best][:, None], layouts[best], 0.0)
    if files.image is not None and files.scheme is None:
        from spinmesh.io.volumes import affine_of

        direction = direction @ fsl_axes(affine_of(files.image)).T
    return b, direction


def _layouts(bvecs: str, bvals: str, count: int) -> list[ndarray]:
    """What FSL's three rows, three columns, or all numbers in one may mean, FSL's own first."""
    table = numbers_of(bvecs)
    flat = table.size == 3 * count and min(table.shape) == 1
    layouts = [table.reshape(3, count).T] if flat or table.shape == (3, count) else []
    layouts += [table.reshape(count, 3)] if flat or table.shape == (count, 3) else []
    if not layouts:
        raise SequenceError(
            f"{bvecs}: {table.shape[0]} rows of {table.shape[1]} numbers for the {count} b-values "
            f"of {bvals}. An FSL bvec file has three rows with one column per b-value."
        )
    return layouts


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


def _pgse(b: ndarray, direction: ndarray, timings: dict[str, Any]) -> Acquisition:
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
    nominal = b_from_s_per_mm2(torch.from_numpy(b.copy()))
    directed = torch.from_numpy(direction).any(1)
    acquisition = Acquisition.pgse(torch.where(directed, nominal, 0.0), direction, **durations)
    return replace(acquisition, nominal_b=nominal)


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
    Delta = acquisition.durations("Delta")[acquisition.amplitude > 0].nan_to_num(1.0)
    longest = float(Delta.max()) if len(Delta) else 1.0
    doubts = {
        f"Delta is {longest:g} ms. Are the times in s, to be multiplied by 1000": longest
        < PLAUSIBLE_DELTA[0],
        f"Delta is {longest:g} ms. Are the times in us, or in ms where s belong": longest
        > PLAUSIBLE_DELTA[1],
        f"the largest b is {b:.3g} s/mm^2. Is b in ms/um^2, to be multiplied by 1000, or are a "
        "csv's gradients in T/m or its times in s": 0 < b < PLAUSIBLE_B[0],
        f"the largest b is {b:.3g} s/mm^2. Is b in s/m^2, or a gradient in mT/m where T/m belong": b
        > PLAUSIBLE_B[1],
        f"a gradient of {gradient / 1e3:.3g} T/m is needed. Are delta and Delta in ms, b in "
        "s/mm^2, and the gradients of a scheme in T/m": gradient > MOST_GRADIENT,
    }
    for doubt, holds in doubts.items():
        if holds:
            raise SequenceError(f"{path}: {doubt}? Correct the unit.")
