"""The shapes, the protocol and the search whose posterior is judged."""

from __future__ import annotations

import torch

import spinmesh
from experiments.calibration.calibration import Calibration, calibrate
from experiments.calibration.settings import CalibrationSettings

RANGES = {
    "radius": (1.5, 2.5),
    "length": (8.0, 12.0),
    "bend": (0.0, 0.2),
    "bend_direction": (0.0, 6.28),
    "bead_amplitude": (0.0, 0.3),
    "bead_count": (1.0, 2.0),
    "bead_phase": (0.0, 6.28),
}


def calibrate_chunk(settings: CalibrationSettings, chunk: int, chunks: int) -> Calibration:
    """Ranks of every `chunks`-th target from `chunk` on; a target's number is its seed."""
    seeds = range(settings.targets)[chunk::chunks]
    water = spinmesh.Tissue.uniform(2.0)
    spec = reconstruction(settings)
    return calibrate(shape_model(), water, protocol(), spec, settings.snr, seeds)


def shape_model() -> spinmesh.ShapeModel:
    """Bent or beaded axons of 42 points, five latent numbers."""
    template = spinmesh.swept_disk(
        spinmesh.SweptDisk(rings=1, layers=5, radius_um=2.0, length_um=10.0, order=1)
    )
    counts, split = {"bend_twist": 60, "beading": 60}, {"train": 0.9, "validation": 0.1}
    table = spinmesh.sample_substrates(template, counts, RANGES, split, seed=1)
    spec = spinmesh.ShapeTraining(kind="pca", latent=5, modes=40, scores=10, width=8, epochs=1)
    return spinmesh.train_shape_model(table, spec, seed=0)


def protocol() -> spinmesh.Acquisition:
    """24 measurements: b = 2 and 8 ms/um^2 in 12 directions, 6 and 30 ms."""
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn((12, 3), generator=generator, dtype=torch.float64)
    direction = torch.nn.functional.normalize(direction).repeat(2, 1)
    b = torch.tensor([2.0, 8.0]).repeat_interleave(12)
    return spinmesh.Acquisition.pgse(b, direction, 6.0, 30.0)


def reconstruction(settings: CalibrationSettings) -> spinmesh.Reconstruct:
    """From the prior's mean; annealed draws; a basis of fixed size shared with the target.

    A second start and the point reflection (`modes: 2`) led to the same mode and the same draws for
    every one of five targets tried, at twice the cost of the search.
    """
    return spinmesh.Reconstruct(
        starts=1,
        scouts=1,
        iterations=settings.iterations,
        noise_floor=1e-4,
        samples=settings.draws,
        moves=settings.moves,
        basis=spinmesh.Basis(blocks=1),
    )
