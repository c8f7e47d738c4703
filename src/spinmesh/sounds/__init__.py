"""Sounds of lungs: how they are made, recorded, and described by features."""

from spinmesh.sounds.patients import DIAGNOSES, generate
from spinmesh.sounds.recording import (
    RATE,
    Cycle,
    Recording,
    at_rate,
    doubts,
    prepared,
    refuse_unusable,
)
