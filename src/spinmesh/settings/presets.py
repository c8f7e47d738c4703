"""Presets: how much effort every stage spends. A key of the configuration wins over its preset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # The defaults of the settings are those of the demonstration: minutes on two cores.
    "demo": {},
    # To see whether everything works.
    "quick": {
        "simulate": {
            "basis": {"tolerance": 1e-4},
            "target_basis": {"kind": "laplace", "modes": 60},
        },
        "reconstruct": {
            "shape_model": {"epochs": 300},
            "iterations": 8,
            "starts": 2,
            "samples": 16,
        },
        "synthesise": {"score_model": {"iterations": 200}, "samples": {"steps": 24}},
        "phantom": {"shape": (12, 12, 3), "voxel_mm": (4.0, 4.0, 4.0)},
    },
    # To publish: hours, better on a cluster (profiles/slurm).
    "careful": {
        "simulate": {
            "basis": {"tolerance": 1e-6},
            "target_basis": {"kind": "laplace", "modes": 240},
            "shards": 16,
        },
        "reconstruct": {
            "shape_model": {"epochs": 4000},
            "iterations": 40,
            "patience": 2,
            "starts": 6,
            "modes": 2,
            "samples": 256,
            "moves": 3,
        },
        "synthesise": {
            "bundles": {"mesh_size_um": 0.5, "shards": 16},
            "score_model": {"iterations": 10_000},
            "samples": {"steps": 192},
        },
        "phantom": {"field": {"samples": 8}},
    },
}


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`under` with the values of `over` in their place, section by section."""
    values = dict(under)
    for key, value in over.items():
        below = values.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            value = merged(below, value)
        values[key] = value
    return values
