"""Stores of the images and points that compared models drew."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import xarray as xr

from spinmesh.io.store import Codec, load
from spinmesh.synthesis import Drawn, PointDraws

Noun = TypeVar("Noun")


def load_all(noun: type[Noun], paths: Sequence[str | Path]) -> list[Noun]:
    """The contents of several stores of one kind."""
    return [load(noun, path) for path in paths]


def _encode_drawn(drawn: Drawn) -> xr.Dataset:
    pixels = ("image", "pixel_y", "pixel_x")
    samples = xr.Variable(pixels, drawn.samples.numpy(), {"units": "1"})
    attributes = {
        "model": drawn.model,
        "trained_from": drawn.seed,  # The attribute "seed" is the run's.
        "train_seconds": drawn.train_seconds,
        "draw_seconds": drawn.draw_seconds,
    }
    return xr.Dataset({"samples": samples}, attrs=attributes)


def _decode_drawn(dataset: xr.Dataset) -> Drawn:
    keys = ("train_seconds", "draw_seconds")
    return Drawn(
        dataset.attrs["model"],
        int(dataset.attrs["trained_from"]),
        torch.from_numpy(np.array(dataset["samples"])),
        *(float(dataset.attrs[key]) for key in keys),
    )


_POINTS = {"train": ("seed", "point", "axis"), "drawn": ("seed", "model", "draw", "axis")}


def _encode_points(draws: PointDraws) -> xr.Dataset:
    variables = {
        key: xr.Variable(axes, getattr(draws, key).numpy(), {"units": "1"})
        for key, axes in _POINTS.items()
    }
    seconds = xr.Variable(("seed", "model"), draws.seconds.numpy(), {"units": "s"})
    attributes = {
        "set": draws.name,
        "models": list(draws.models),
        "seeds": list(draws.seeds),
    }
    return xr.Dataset(variables | {"seconds": seconds}, attrs=attributes)


def _decode_points(dataset: xr.Dataset) -> PointDraws:
    values = {key: torch.from_numpy(np.array(dataset[key])) for key in (*_POINTS, "seconds")}
    return PointDraws(
        dataset.attrs["set"],
        tuple(dataset.attrs["models"]),
        tuple(int(seed) for seed in dataset.attrs["seeds"]),
        **values,
    )


CODECS = (
    Codec(Drawn, "spinmesh/drawn", 1, "evaluate_scores", _encode_drawn, _decode_drawn),
    Codec(PointDraws, "spinmesh/points", 1, "evaluate_scores", _encode_points, _decode_points),
)
