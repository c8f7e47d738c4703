"""Stage 4: new cross-section images with the statistics of simulated ones.

python examples/4_synthesise.py [folder for store and figure]
"""

import sys
from pathlib import Path

import torch

import spinmesh
from spinmesh.report.synthesis import plot_synthesis


def main(folder: str | Path = ".") -> float:
    """Train a small score model; return its spectrum's error over that of white noise."""
    # Axons and their signals, which the images are drawn to match.
    template = spinmesh.swept_disk(
        spinmesh.SweptDisk(rings=1, layers=6, radius_um=2.0, length_um=12.0)
    )
    ranges = {"radius": (1.0, 2.0), "bead_amplitude": (0.0, 0.3)}
    table = spinmesh.sample_substrates(
        template, {"straight": 8, "beading": 8}, ranges, {"train": 0.5, "test": 0.5}, seed=1
    )
    direction = torch.eye(3, dtype=torch.float64)[[0, 0, 1, 2]]
    acquisition = spinmesh.Acquisition.pgse([0.0, 4.0, 4.0, 4.0], direction, 8.0, 19.0)
    signals = spinmesh.simulate_substrates(table, spinmesh.Tissue.uniform(2.0), acquisition)

    # Cross-sections packed into periodic cells 12 um wide: +1 inside axons, -1 outside.
    settings = spinmesh.ImageSettings(count=240, pixels=16, field_of_view_um=12.0)
    images = spinmesh.pack_cross_sections(table, signals, settings, seed=1)

    # The score: a network that regresses the Malliavin weight of a linear SDE. Then new images,
    # each given the signal of one that training never saw.
    training = spinmesh.ScoreTraining(iterations=150, batch=32, width=16)
    model = spinmesh.train_score(images, training, seed=1)
    sampling = spinmesh.Sampling(sampler="dpm_solver_2m", steps=12, count=60)
    synthesis = spinmesh.draw_and_compare(model, images, sampling, seed=1)

    spinmesh.save(synthesis, Path(folder) / "samples.zarr")
    plot_synthesis(images, model, synthesis, Path(folder) / "4_synthesise.png")
    # Power spectra beside those of held-out images; the control is noise of the right contrast.
    error, control = (m["spectrum_log_error"] for m in (synthesis.metrics, synthesis.control))
    return error / control


if __name__ == "__main__":
    print(f"spectrum error, as a fraction of white noise's: {main(*sys.argv[1:]):.2f}")
