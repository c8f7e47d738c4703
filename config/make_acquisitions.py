"""Write the acquisition files of the demo and test configurations.

Run from anywhere: `python config/make_acquisitions.py`. The files are committed; this script
says where their numbers come from (sources in README.md beside it) and writes the same bytes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from dipy.core.sphere import HemiSphere, disperse_charges

HERE = Path(__file__).parent

# s/mm^2 at each Delta (ms): Connectome Diffusion Microstructure Dataset.
TIAN_2022 = {
    19: (50, 350, 800, 1500, 2400, 3450, 4750, 6000),
    49: (200, 950, 2300, 4250, 6750, 9850, 13500, 17800),
}


def spread_directions(count: int, seed: int) -> np.ndarray:
    """Unit vectors (direction, 3) on the half sphere that repel each other, antipodes included."""
    random = np.random.default_rng(seed).standard_normal((count, 3))
    start = HemiSphere(xyz=random / np.linalg.norm(random, axis=1, keepdims=True))
    sphere, _ = disperse_charges(start, iters=5000)
    return np.asarray(sphere.vertices)


def write(stem: Path, b: Sequence[float], bvecs: np.ndarray, delta_ms: Sequence[float]) -> None:
    """FSL bval (one row) and bvec (three rows), and Delta as one row."""
    stem.parent.mkdir(exist_ok=True)
    stem.with_suffix(".bval").write_text(" ".join(f"{x:g}" for x in b) + "\n")
    stem.with_suffix(".Delta").write_text(" ".join(f"{x:g}" for x in delta_ms) + "\n")
    # Adding zero turns -0.000000 into 0.000000.
    rows = [" ".join(f"{x:.6f}" for x in np.round(row, 6) + 0.0) for row in bvecs.T]
    stem.with_suffix(".bvec").write_text("\n".join(rows) + "\n")


def shells(
    stem: Path, b_of_delta: Mapping[int, tuple[int, ...]], directions: np.ndarray, zeros: bool
) -> None:
    """For each Delta: one b = 0 if `zeros`, then every b along every direction."""
    b, bvecs, durations = [], [], []
    for duration, values in b_of_delta.items():
        if zeros:
            b.append(0)
            bvecs.append(np.zeros((1, 3)))
            durations.append(duration)
        for value in values:
            b += [value] * len(directions)
            bvecs.append(directions)
            durations += [duration] * len(directions)
    write(stem, b, np.concatenate(bvecs), durations)


if __name__ == "__main__":
    shells(HERE / "demo/tian2022", TIAN_2022, spread_directions(12, seed=2022), zeros=True)
    two_times = {19: (800, 4750), 49: (2300, 13500)}
    shells(HERE / "test/tiny", two_times, spread_directions(6, seed=6), zeros=True)
    clinical = spread_directions(24, seed=24)
    still, moving = np.zeros((3, 3)), np.concatenate([clinical, clinical])
    b = [0] * 3 + [1000] * 24 + [2000] * 24
    write(HERE / "demo/phantom", b, np.concatenate([still, moving]), [30] * len(b))
    sphere, strong = (
        spread_directions(30, seed=30),
        {19: (1000, 3000, 6000), 49: (2300, 6750, 17800)},
    )
    for_maps = [(0, 19)] * 3 + [(0, 49)] * 3
    for_maps += [(b, Delta) for Delta, values in strong.items() for b in values for _ in sphere]
    turned = np.concatenate([np.zeros((6, 3)), *[sphere] * 6])
    write(HERE / "demo/maps", [b for b, _ in for_maps], turned, [Delta for _, Delta in for_maps])
