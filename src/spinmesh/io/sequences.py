"""Acquisitions inside the stores that are still encoded by hand."""

from __future__ import annotations

import xarray as xr

from spinmesh.io.codec import decode, encode
from spinmesh.sequence import Acquisition


def acquisition_variables(acquisition: Acquisition) -> dict[str, xr.Variable]:
    """The variables that hold an acquisition inside any store."""
    return {str(name): variable for name, variable in encode(acquisition).variables.items()}


def acquisition_from(dataset: xr.Dataset) -> Acquisition:
    """The acquisition held by `acquisition_variables`."""
    noun: Acquisition = decode(Acquisition, dataset)
    return noun
