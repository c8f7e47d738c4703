"""Stage 2: the signal of a ball, beside the exact one.

python examples/2_simulate.py [folder for store and figure]
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import spinmesh
from spinmesh import analytic


def main(folder: str | Path = ".") -> float:
    """Simulate a sphere; return the largest error of its attenuation."""
    # Water in a ball of radius 5 um, D = 2 um^2/ms, no relaxation.
    ball = spinmesh.ball(radius=5.0, refinements=2)
    water = spinmesh.Tissue.uniform(diffusivity=2.0)

    # PGSE with delta 10 and Delta 40 ms; b in ms/um^2, so 1 is 1000 s/mm^2. One direction for each.
    b = torch.linspace(0.0, 8.0, 17, dtype=torch.float64)
    along_x = torch.tensor([1.0, 0.0, 0.0]).expand(len(b), 3)
    acquisition = spinmesh.Acquisition.pgse(b, along_x, delta=10.0, Delta=40.0)

    # Complex signals (um^3 times spin density), one row per substrate; here there is one.
    signals = spinmesh.simulate(ball, water, acquisition)
    spinmesh.save(signals, Path(folder) / "signals.zarr")

    # The exact solution knows nothing of meshes.
    exact = analytic.sphere(acquisition, radius=5.0, diffusivity=2.0)
    figure, axes = plt.subplots(layout="constrained")
    axes.plot(b, exact, color="0.5", label="exact")
    axes.plot(b, signals.attenuation[0], "o", label=f"{len(ball.tets)} curved tets")
    axes.set(xlabel="b (ms/um$^2$)", ylabel="attenuation", title="Sphere, r = 5 um")
    axes.legend()
    figure.savefig(Path(folder) / "2_simulate.png")
    return float((signals.attenuation[0] - exact).abs().max())


if __name__ == "__main__":
    print(f"largest error of the attenuation: {main(*sys.argv[1:]):.1e}")
