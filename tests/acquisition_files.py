"""Files of an acquisition as other programs write them: FSL tables and Camino schemes."""

from pathlib import Path

import numpy as np
import torch

from spinmesh.sequence import Acquisition
from spinmesh.units import b_to_s_per_mm2


def write_fsl(acquisition: Acquisition, bvals, bvecs, delta, Delta) -> None:
    """The four tables, for rectangular PGSE read out at the pulses' end; all digits."""
    for path, table in {
        bvals: b_to_s_per_mm2(acquisition.b_value)[None],
        bvecs: acquisition.direction.T,
        delta: acquisition.durations("delta")[:, None],
        Delta: acquisition.durations("Delta")[:, None],
    }.items():
        np.savetxt(path, table, fmt="%.17g")


def write_camino_scheme(acquisition: Acquisition, path, raster: float | None = None) -> None:
    """STEJSKALTANNER, or GRADIENT_WAVEFORM of cells of `raster` ms that keep q at their ends."""
    names = ("Delta", "delta", "echo_time")
    rows = [
        np.array([*direction, 1e-3 * strength, *(1e-3 * t for t in times)])
        for direction, strength, *times in zip(
            acquisition.direction.tolist(),
            acquisition.amplitude.tolist(),
            *(acquisition.durations(name).tolist() for name in names),
            strict=True,
        )
    ]
    if raster is not None:
        rows = [_on_raster(acquisition, index, raster) for index in range(len(acquisition))]
    lines = ["VERSION: " + ("STEJSKALTANNER" if raster is None else "GRADIENT_WAVEFORM")]
    lines += [" ".join(f"{x:.17g}" for x in row) for row in rows]
    Path(path).write_text("\n".join(lines) + "\n")


def _on_raster(acquisition: Acquisition, index: int, raster: float) -> np.ndarray:
    durations, levels = acquisition.sequences[int(acquisition.timing[index])].steps()
    gradient = levels @ acquisition.vectors(torch.tensor([index]))[0].numpy().T
    end = np.concatenate([[0.0], np.cumsum(durations)])
    area = np.concatenate([np.zeros((1, 3)), np.cumsum(durations[:, None] * gradient, 0)])
    grid = np.linspace(0, end[-1], round(end[-1] / raster) + 1)
    at_grid = np.stack([np.interp(grid, end, area[:, axis]) for axis in range(3)], 1)
    means = 1e-3 * np.diff(at_grid, axis=0) / raster
    return np.array([len(means), 1e-3 * raster, *means.ravel()])
