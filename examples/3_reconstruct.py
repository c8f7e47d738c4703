"""Stage 3: a shape found again from its noisy signal.

python examples/3_reconstruct.py [folder for store and figure]
"""

import sys
from pathlib import Path

import torch

import spinmesh
from spinmesh.report.reconstruction import plot_reconstruction


def main(folder: str | Path = ".") -> float:
    """Reconstruct a bent axon; return how many times better than the mean shape its radius is."""
    # Learn what axons look like: 5 numbers describe a shape, a decoder makes it a mesh.
    size = {"radius_um": 2.0, "length_um": 12.0}
    template = spinmesh.swept_disk(spinmesh.SweptDisk(rings=1, layers=6, **size))
    ranges = {"radius": (1.2, 2.8), "bend": (0.0, 0.3), "bend_direction": (0.0, 6.28)}
    ranges |= {"bead_amplitude": (0.0, 0.3), "bead_phase": (0.0, 6.28)}
    table = spinmesh.sample_substrates(
        template, {"combined": 240}, ranges, {"train": 0.8, "validation": 0.2}, seed=1
    )
    training = spinmesh.ShapeTraining(latent=5, modes=120, scores=20, width=32, epochs=200)
    model = spinmesh.train_shape_model(table, training, seed=1)

    # Measure an axon of no table, meshed twice as finely and simulated in another basis, SNR 50.
    b = torch.tensor([0.0, *[2.0] * 15, *[8.0] * 15])
    generator = torch.Generator().manual_seed(1)
    direction = torch.nn.functional.normalize(torch.randn((31, 3), generator=generator).double())
    acquisition = spinmesh.Acquisition.pgse(b, direction, delta=8.0, Delta=19.0)
    finer = spinmesh.swept_disk(spinmesh.SweptDisk(rings=2, layers=12, **size))
    truth = spinmesh.single_substrate(finer, {"radius": 1.5, "bend": 0.22})
    water, modes = (
        spinmesh.Tissue.uniform(diffusivity=2.0),
        spinmesh.Basis(kind="laplace", modes=60),
    )
    target = spinmesh.simulate_target(truth.mesh(0), water, acquisition, modes, snr=50.0, seed=1)

    # Gauss-Newton in the latent space, from the signal alone.
    how = spinmesh.Reconstruct(iterations=8, starts=1)
    result = spinmesh.reconstruct(target, model, water, how, seed=1)
    spinmesh.save(result, Path(folder) / "reconstruction.zarr")
    plot_reconstruction(result, Path(folder) / "3_reconstruct.png", model, truth)

    # Judge it by the truth, which the reconstruction never sees.
    mean = template.with_points(model.mean_points)
    error, of_mean = (spinmesh.shape_errors(mesh, truth.mesh(0)) for mesh in (result.mesh, mean))
    return of_mean["radius"] / error["radius"]


if __name__ == "__main__":
    print(f"radius {main(*sys.argv[1:]):.1f} times closer than that of the mean training shape")
