"""Gradient sequences and acquisitions."""

from spinmesh.sequence.acquisition import Acquisition, turned_to
from spinmesh.sequence.free_waveform import FreeWaveform
from spinmesh.sequence.multiple_pgse import MultiplePGSE
from spinmesh.sequence.ogse import CosineOGSE, SineOGSE, TrapezoidalOGSE
from spinmesh.sequence.pgse import PGSE
from spinmesh.sequence.protocol import difference
from spinmesh.sequence.waveform import Sequence

__all__ = [
    "PGSE",
    "Acquisition",
    "CosineOGSE",
    "FreeWaveform",
    "MultiplePGSE",
    "Sequence",
    "SineOGSE",
    "TrapezoidalOGSE",
    "difference",
    "turned_to",
]
