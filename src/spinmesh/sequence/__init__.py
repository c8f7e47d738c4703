"""Gradient sequences and acquisitions."""

from spinmesh.sequence.acquisition import Acquisition
from spinmesh.sequence.pgse import PGSE

__all__ = ["PGSE", "Acquisition"]
