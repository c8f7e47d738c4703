"""Held-out shapes of unknown pose at SNR 50, reconstructed: has a change harmed the search?

python benchmarks/reconstruction.py results/demo [count] [points.pt]

Takes the shape model and the training signals of a run. Each held-out shape is meshed twice as
finely, turned at random and simulated in another basis. One line a shape: distance to the truth
over all alignments (um), chi2 per measurement, CPU seconds; medians and means at the end. The
points found are saved, so that two versions can be compared digit by digit.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

import spinmesh
from spinmesh.bodies import simulate
from spinmesh.inversion import Target
from spinmesh.settings import load_config
from spinmesh.shapes import ShapeModel, aligned_chamfer_distance

SNR = 50.0
OTHER_BASIS = spinmesh.Basis(kind="laplace", modes=120)


def in_turns(families: tuple[str, ...]) -> list[int]:
    """Indices of the shapes, families taking turns."""
    rank = [families[:i].count(family) for i, family in enumerate(families)]
    return sorted(range(len(families)), key=lambda i: rank[i])


def main(run: str, count: str = "8", out: str | None = None) -> None:
    """Reconstruct `count` held-out shapes of the run in folder `run`."""
    folder = Path(run)
    table = spinmesh.load(spinmesh.Substrates, folder / "mesh/substrates.zarr")
    model = spinmesh.load(ShapeModel, folder / "reconstruct/shape_model.zarr")
    signals = spinmesh.load(spinmesh.Signals, folder / "simulate/signals.zarr")
    template = load_config("config/config.yaml").mesh.template
    fine, shapes = spinmesh.swept_disk(template.refined(2)), table.select("test")
    water, settings = spinmesh.Tissue.uniform(2.0), spinmesh.Reconstruct(pose="unknown", samples=0)
    rows, points = [], []
    for i in in_turns(shapes.family)[: int(count)]:
        turn = torch.from_numpy(Rotation.random(rng=np.random.default_rng(i)).as_matrix())
        cell = fine.with_points(spinmesh.deform(fine, shapes.parameters[i]) @ turn.T)
        seen = simulate(cell, water, signals.acquisition, OTHER_BASIS)
        clean = Target(signals.acquisition, seen.attenuation[0])
        target = clean.noisy(SNR, torch.Generator().manual_seed(i))
        start = time.process_time()
        result = spinmesh.reconstruct(target, model, water, settings, 1, signals)
        seconds = time.process_time() - start
        distance = aligned_chamfer_distance(result.mesh, shapes.mesh(i))
        rows.append((distance, result.fit.chi2_per_measurement, seconds))
        points.append(result.mesh.points)
        print(f"{i:4d} {shapes.family[i]:12}", *(f"{value:8.4f}" for value in rows[-1]), flush=True)
    for name, values in (("median", np.median(rows, 0)), ("mean", np.mean(rows, 0))):
        print(f"{name:17}", *(f"{value:8.4f}" for value in values))
    if out is not None:
        torch.save(points, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
