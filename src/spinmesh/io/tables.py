"""Signals and other rows as csv tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from spinmesh.bloch_torrey import Signals
from spinmesh.io.codec import encode
from spinmesh.units import b_to_s_per_mm2
from spinmesh.writing import complete_or_absent


def write_signal_table(signals: Signals, path: str | Path, substrate: int = 0) -> None:
    """One row per measurement in the scheme's order, complete or not at all.

    Signals in um^3 times relative spin density; attenuation is |signal| over the signal without
    gradient at the same timing.
    """
    encode(signals)  # refuses what no store would take either
    acquisition = signals.acquisition
    direction = acquisition.direction.numpy()
    signal = signals.signal[substrate].numpy()
    table = pd.DataFrame(
        {
            "b_s_per_mm2": b_to_s_per_mm2(acquisition.b_value.numpy()),
            "gx": direction[:, 0],
            "gy": direction[:, 1],
            "gz": direction[:, 2],
            "delta_ms": acquisition.durations("delta").numpy(),
            "Delta_ms": acquisition.durations("Delta").numpy(),
            "signal_real": signal.real,
            "signal_imag": signal.imag,
            "attenuation": signals.attenuation[substrate].numpy(),
        }
    )
    with complete_or_absent(Path(path)) as partial:
        table.to_csv(partial, index=False, float_format="%.12g")


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """The table that `write_rows` wrote."""
    return [
        {str(key): value for key, value in row.items()}
        for row in pd.read_csv(path).to_dict("records")
    ]


def write_rows(rows: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """A table with one row per mapping, complete or not at all."""
    with complete_or_absent(Path(path)) as partial:
        pd.DataFrame(rows).to_csv(partial, index=False, float_format="%.6g")
