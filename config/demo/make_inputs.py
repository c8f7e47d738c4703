"""Write cell.swc, myelin.ply and axon.ply: stand-ins for what a lab has of its tissue.

Run `python config/demo/make_inputs.py`. The cell has a soma of 3 um and four processes that fork
once; the axon (1 um, one bead) lies in its myelin (g-ratio 0.6), and both have round ends.
"""

from pathlib import Path

import numpy as np
import trimesh

FOLDER = Path(__file__).parent
SECTORS, G_RATIO = 12, 0.6
LENGTH, RADIUS, BEAD = 6.0, 1.0, 0.35  # um; the bead relative to the radius


def cell() -> str:
    """Lines `number type x y z radius parent`."""
    rows = ["1 1 0 0 0 3.0 -1"]
    corners = np.array([(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)]) / np.sqrt(3)
    for process in corners:
        side = np.cross(process, [0.0, 0.0, 1.0])
        fork = _node(rows, 9.0 * process, 0.7, _node(rows, 3.0 * process, 0.9, 1))
        for sign in (-1, 1):
            _node(rows, 14.0 * process + sign * 3.0 * side, 0.5, fork)
    return "# id type x y z radius parent; um\n" + "\n".join(rows) + "\n"


def _node(rows: list[str], place: np.ndarray, radius: float, parent: int) -> int:
    x, y, z = place
    rows.append(f"{len(rows) + 1} 3 {x:.3f} {y:.3f} {z:.3f} {radius} {parent}")
    return len(rows)


def tube(radius: float, length: float) -> trimesh.Trimesh:
    """Around the z axis, thicker in the middle, with ends that are half balls."""
    step = 2 * np.pi * radius / SECTORS
    along = np.linspace(-length / 2, length / 2, round(length / step) + 1)
    around = np.linspace(0, np.pi / 2, SECTORS // 4 + 1)
    wide = radius * (1 + BEAD * np.exp(-((along / 1.5) ** 2)))
    end = radius * np.sin(around[:-1])
    beyond = length / 2 + radius * np.cos(around[:-1])
    across, up = np.r_[end, wide, end[::-1]], np.r_[-beyond, along, beyond[::-1]]
    return trimesh.creation.revolve(np.stack([across, up], 1), sections=SECTORS)


if __name__ == "__main__":
    (FOLDER / "cell.swc").write_text(cell())
    tube(RADIUS / G_RATIO, LENGTH + 1.0).export(FOLDER / "myelin.ply")
    tube(RADIUS, LENGTH).export(FOLDER / "axon.ply")
