"""Gradient sequences and acquisitions."""

from spinmesh.sequence.acquisition import Acquisition, Reference, turned_to
from spinmesh.sequence.free_waveform import FreeWaveform
from spinmesh.sequence.multiple_pgse import MultiplePGSE
from spinmesh.sequence.ogse import CosineOGSE, SineOGSE, TrapezoidalOGSE
from spinmesh.sequence.pgse import PGSE
from spinmesh.sequence.protocol import difference, same_echo, with_reference
from spinmesh.sequence.waveform import Sequence
