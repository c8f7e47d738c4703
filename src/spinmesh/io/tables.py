"""Csv tables: signals of ours, measured signals with their acquisition, and other rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.bloch_torrey import Signals
from spinmesh.errors import SequenceError
from spinmesh.files.writing import complete_or_absent, write_text
from spinmesh.io.codec import described
from spinmesh.io.store import attributes_of, load
from spinmesh.io.text import cells_of, csv_of
from spinmesh.mesh import TetMesh, sizes, tet_quality
from spinmesh.sequence import Acquisition
from spinmesh.sequence.protocol import B_TOLERANCE, TIME_TOLERANCE
from spinmesh.units import b_to_s_per_mm2

if TYPE_CHECKING:
    import pandas as pd  # slow to import, so where it is used

# Attributes of a store that say what making it took.
COST = ("cpu_seconds", "peak_gib")


def write_signal_table(
    signals: Signals, path: str | Path, compartments: Mapping[int, Signals] | None = None
) -> None:
    """A row per measurement of the first shape; signals in um^3 times relative density.

    Signals of `compartments`, by label, are columns of their own.
    """
    described(signals)  # refuses what no store would take either
    acquisition, signal = signals.acquisition, signals.signal[0].numpy()
    table = {
        "b_s_per_mm2": b_to_s_per_mm2(acquisition.b_value.numpy()),
        **dict(zip(DIRECTION, acquisition.direction.numpy().T, strict=True)),
        "delta_ms": acquisition.durations("delta").numpy(),
        "Delta_ms": acquisition.durations("Delta").numpy(),
        "signal_real": signal.real,
        "signal_imag": signal.imag,
        "attenuation": signals.attenuation[0].numpy(),
    }
    for label, each in (compartments or {}).items():
        described(each)
        table[f"signal_real_in_{label}"] = each.signal[0].real.numpy()
        table[f"signal_imag_in_{label}"] = each.signal[0].imag.numpy()
    rows = zip(*table.values(), strict=True)
    words = (",".join("" if np.isnan(x) else f"{x:.12g}" for x in row) for row in rows)
    write_text("\n".join([",".join(table), *words, ""]), path)


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """The table that `write_rows` wrote."""
    import pandas as pd

    return pd.read_csv(path).to_dict("records")  # type: ignore[return-value]


def write_rows(rows: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """A table with one row per mapping, complete or not at all."""
    import pandas as pd

    with complete_or_absent(Path(path)) as partial:
        pd.DataFrame(rows).to_csv(partial, index=False, float_format="%.6g")


def write_input_table(
    meshes: Sequence[str | Path],
    signals: Sequence[str | Path],
    files: Sequence[Sequence[str]],
    path: str | Path,
    failed: Mapping[str, str] | None = None,
) -> None:
    """A row for each store of a mesh, with the store of its signals and its files: `inputs.csv`.

    Columns with one number for each compartment have them in the order of `compartments`, with
    blanks between. CPU seconds and peak memory are those of the two jobs. With `failed`, the reason
    by the input's name, stores may be absent, whose cells stay empty.
    """
    rows = [_input_row(*row) for row in zip(meshes, signals, files, strict=True)]
    if failed is not None:
        rows = [row | {"failed": failed[row["name"]]} for row in rows]
    write_rows(rows, path)


def _input_row(store: str | Path, signals: str | Path, files: Sequence[str]) -> dict[str, Any]:
    row: dict[str, Any] = {"name": Path(store).stem, "files": " ".join(files)}
    if Path(store).exists():
        mesh, about = load(TetMesh, store), attributes_of(store)
        volume, area = sizes(mesh).T
        each = {"volume_um3": volume, "area_um2": area, "fraction": volume / volume.sum()}
        row |= {
            "compartments": " ".join(map(str, mesh.labels)),
            **{key: " ".join(f"{value:.6g}" for value in values) for key, values in each.items()},
            "nodes": len(mesh.points),
            "tets": len(mesh.tets),
            "worst_quality": float(tet_quality(mesh).min()),
            "notes": len(about["notes"]) - len(mesh.labels),
            **{f"mesh_{key}": about[key] for key in COST},
        }
        # Without the mesh they are those of an earlier one.
        if Path(signals).exists():
            row |= {f"simulate_{key}": attributes_of(signals)[key] for key in COST}
    return row


# Columns that hold the signal, the first one that is there being taken; true: relative to S0.
SIGNAL_COLUMNS = {"attenuation": True, "signal": False, "magnitude": False}
DIRECTION = ["gx", "gy", "gz"]
# 1 - cosine of the angle between directions: 2.6 degrees, the roundings of both files.
ANGLE_TOLERANCE = 1e-3


def read_signal_table(
    path: str | Path, acquisition: Acquisition
) -> tuple[Float[Tensor, " measurement"], bool]:
    """Magnitudes, and whether they are relative to S0 already.

    Raises SequenceError if the table has no column of signals, or columns of an acquisition (as
    `spinmesh simulate` writes) that differ from `acquisition`; StoreError if it is missing.
    """
    import pandas as pd

    table = csv_of(path, "signal file")
    name = pd.to_numeric(pd.Series(table.columns[:1], dtype=str), errors="coerce")
    if len(table.columns) == 1 and bool(name.notna().all()):
        table = csv_of(path, "signal file", header=None, names=["magnitude"])
    for column, relative in SIGNAL_COLUMNS.items():
        if column in table:
            if len(table) == len(acquisition):
                _compare(path, table, acquisition)
            return torch.from_numpy(cells_of(path, table, [column])[:, 0]), relative
    raise SequenceError(
        f"{path}: columns are {list(table.columns)}; one must be `attenuation` or `signal` (or "
        "give one column of magnitudes without a name)."
    )


def _compare(path: str | Path, table: pd.DataFrame, acquisition: Acquisition) -> None:
    """Refuse a table whose own b-values, timings or directions are not those of `acquisition`."""
    b = b_to_s_per_mm2(acquisition.b_value).numpy()
    for column, expected, tolerance in (
        ("b_s_per_mm2", b, B_TOLERANCE * b.max() + 1e-6),
        ("delta_ms", acquisition.durations("delta").numpy(), TIME_TOLERANCE),
        ("Delta_ms", acquisition.durations("Delta").numpy(), TIME_TOLERANCE),
    ):
        if column in table:
            stated = cells_of(path, table, [column])[:, 0]
            # An empty cell is right where the sequence has no such time, and nowhere else.
            same = np.isclose(stated, expected, rtol=0, atol=tolerance, equal_nan=True)
            _refuse(path, column, ~same, stated, expected)
    if set(DIRECTION) <= set(table.columns):
        stated, expected = cells_of(path, table, DIRECTION), acquisition.direction.numpy()
        # |S| does not know a gradient from its opposite.
        apart = ~(np.abs(1 - np.abs((stated * expected).sum(1))) <= ANGLE_TOLERANCE)
        strong = b > B_TOLERANCE * b.max()
        _refuse(path, "direction", apart & strong, stated, expected)


def _refuse(
    path: str | Path, what: str, wrong: np.ndarray, stated: np.ndarray, expected: np.ndarray
) -> None:
    if wrong.any():
        row = int(np.argmax(wrong))
        raise SequenceError(
            f"{path}: {what} of measurement {row} is {np.round(stated[row], 4)}, but the "
            f"acquisition says {np.round(expected[row], 4)}. Give the acquisition this signal was "
            "measured with."
        )
