"""Acquisitions the analytic tests share, and the oracles."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from spinmesh.sequence import PGSE, Acquisition
from spinmesh.units import GAMMA

ORACLES = Path(__file__).parents[1] / "oracles"
DIRECTIONS = {
    "x": (1, 0, 0),
    "perp": (1, 0, 0),
    "z": (0, 0, 1),
    "111": (3**-0.5, 3**-0.5, 3**-0.5),
}


@pytest.fixture
def pgse():
    """b (ms/um^2) along one direction, 10/40 ms unless told."""

    def build(b, direction=(1.0, 0.0, 0.0), delta=10.0, Delta=40.0):
        direction = np.asarray(direction, dtype=float)
        direction = direction / np.linalg.norm(direction)
        return Acquisition.pgse(b, np.tile(direction, (len(b), 1)), delta, Delta)

    return build


@pytest.fixture
def strength():
    """One measurement along x of gradient strength gamma g (rad/(um ms))."""

    def build(gamma_g, delta, Delta):
        gradient = torch.tensor([[gamma_g / GAMMA, 0.0, 0.0]], dtype=torch.float64)
        return Acquisition((PGSE(delta, Delta),), torch.tensor([0]), gradient)

    return build


@pytest.fixture(params=["sphere", "cylinder"])
def exact(request):
    """Geometry, acquisition and signals (measurement,) of tests/oracles/analytic.json."""
    everything = json.loads((ORACLES / "analytic.json").read_text())["signals"]
    rows = [row for row in everything if row["geometry"] == request.param]
    direction = np.array([DIRECTIONS[row["direction"]] for row in rows])
    gradient = direction * np.array([[row["gammaG_rad_per_um_ms"] / GAMMA] for row in rows])
    timing = torch.zeros(len(rows), dtype=torch.long)
    acquisition = Acquisition((PGSE(10.0, 40.0),), timing, torch.from_numpy(gradient))
    return request.param, acquisition, np.array([row["signal"] for row in rows])


@pytest.fixture
def spindoctor():
    """Acquisition and S/S0 (measurement,) of a SpinDoctor case, and its rates (1/ms)."""

    def read(case):
        with open(ORACLES / f"spindoctor_{case}_signals.csv", newline="") as file:
            rows = [row for row in csv.DictReader(file) if float(row["length_scale_um"]) == 0]

        def column(name, scale=1.0):
            return scale * np.array([float(row[name]) for row in rows])

        direction = np.stack([column(name) for name in ("dirx", "diry", "dirz")], 1)
        times = column("delta_us", 1e-3), column("Delta_us", 1e-3)
        acquisition = Acquisition.pgse(column("b_s_mm2", 1e-3), direction, *times)
        mesh = np.load(ORACLES / f"spindoctor_{case}_mesh.npz")
        rates = np.sort(mesh["laplace_eigenvalues_per_us"]) * 1e3
        return acquisition, column("S_over_S0"), rates

    return read
