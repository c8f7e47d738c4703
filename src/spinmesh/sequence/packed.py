"""An acquisition as a few arrays, which is how it is stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from spinmesh.errors import StoreError
from spinmesh.sequence.acquisition import Acquisition, Reference
from spinmesh.sequence.free_waveform import FreeWaveform
from spinmesh.sequence.multiple_pgse import MultiplePGSE
from spinmesh.sequence.ogse import CosineOGSE, SineOGSE, TrapezoidalOGSE
from spinmesh.sequence.pgse import PGSE
from spinmesh.sequence.waveform import Sequence
from spinmesh.stored import quantity

KINDS: dict[str, type[Sequence]] = {
    kind.__name__: kind
    for kind in (PGSE, CosineOGSE, SineOGSE, TrapezoidalOGSE, MultiplePGSE, FreeWaveform)
}
PER_MEASUREMENT = ("gradient", "timing", "b_value", "b_tensor", "frame", "reference")
NUMBERS = ("delta", "Delta", "ramp", "TE", "periods", "mixing")


@dataclass(frozen=True, eq=False)
class PackedAcquisition:
    """The numbers of a sequence are NaN where it has none, or takes its kind's default.

    `sequence_rows` counts the rows of `sequence_durations` and `sequence_levels` (directions of a
    MultiplePGSE, steps of a FreeWaveform) that belong to each sequence, in order. `b_value` and
    `b_tensor` follow from the rest; they are there for other readers.
    """

    gradient: Float[Tensor, "measurement 3"] = quantity("mT/m")
    timing: Int[Tensor, " measurement"] = quantity()
    b_value: Float[Tensor, " measurement"] = quantity("ms/um^2")
    b_tensor: Float[Tensor, "measurement 3 3"] = quantity("ms/um^2")
    frame: Float[Tensor, "measurement 3 3"] | None = quantity()
    reference: Reference | None = quantity()
    delta: Float[np.ndarray, " sequence"] = quantity("ms")
    Delta: Float[np.ndarray, " sequence"] = quantity("ms")
    ramp: Float[np.ndarray, " sequence"] = quantity("ms")
    TE: Float[np.ndarray, " sequence"] = quantity("ms")
    periods: Float[np.ndarray, " sequence"] = quantity()
    mixing: Float[np.ndarray, " sequence"] = quantity("ms")
    sequence_kind: tuple[str, ...] = quantity(axis="sequence")
    sequence_rows: Int[np.ndarray, " sequence"] = quantity()
    sequence_durations: Float[np.ndarray, " row"] = quantity("ms")
    sequence_levels: Float[np.ndarray, "row 3"] = quantity()

    @classmethod
    def of(cls, acquisition: Acquisition) -> PackedAcquisition:
        """The arrays of an acquisition."""
        sequences = acquisition.sequences
        rows = [_rows(sequence) for sequence in sequences]
        table = np.concatenate([np.zeros((0, 4)), *rows])
        values: dict[str, Any] = {n: getattr(acquisition, n) for n in PER_MEASUREMENT}
        numbers: dict[str, Any] = {
            name: np.array([_number(s, name) for s in sequences]) for name in NUMBERS
        }
        return cls(
            **values,
            **numbers,
            sequence_kind=tuple(type(sequence).__name__ for sequence in sequences),
            sequence_rows=np.array([len(row) for row in rows]),
            sequence_durations=table[:, 0],
            sequence_levels=table[:, 1:],
        )

    def unpacked(self) -> Acquisition:
        """The acquisition; StoreError for a kind of sequence that is not known here."""
        ends = np.cumsum(self.sequence_rows)[:-1]
        parts = (np.split(table, ends) for table in (self.sequence_durations, self.sequence_levels))
        sequences = (
            self._sequence(index, durations, levels)
            for index, (durations, levels) in enumerate(zip(*parts, strict=True))
        )
        return Acquisition(
            tuple(sequences), self.timing, self.gradient, self.frame, reference=self.reference
        )

    def _sequence(self, index: int, durations: np.ndarray, levels: np.ndarray) -> Sequence:
        kind = self.sequence_kind[index]
        if kind not in KINDS:
            raise StoreError(f"store: unknown sequence {kind!r}. Known: {', '.join(KINDS)}.")
        if kind == "FreeWaveform":
            return FreeWaveform(durations.copy(), levels.copy())
        values = {name: float(getattr(self, name)[index]) for name in NUMBERS}
        given: dict[str, Any] = {
            name: value for name, value in values.items() if not np.isnan(value)
        }
        if "periods" in given:
            given["periods"] = int(given["periods"])
        if kind == "MultiplePGSE":
            given["directions"] = tuple(tuple(row) for row in levels.tolist())
        return KINDS[kind](**given)


def _number(sequence: Sequence, name: str) -> float:
    value = getattr(sequence, name, None)
    return float("nan") if value is None else float(value)


def _rows(sequence: Sequence) -> np.ndarray:
    """Duration and three levels per row; a direction has no duration."""
    if isinstance(sequence, FreeWaveform):
        return np.column_stack([sequence.durations, sequence.levels])
    if isinstance(sequence, MultiplePGSE):
        return np.column_stack([np.full(len(sequence.directions), np.nan), sequence.directions])
    return np.zeros((0, 4))
