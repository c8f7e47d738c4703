"""A shape of each published family comes back from its signal."""

import pytest
import torch

from spinmesh.bloch_torrey import simulate_mesh
from spinmesh.inversion import (
    ReconstructionSpec,
    ShapeModel,
    ShapeModelSpec,
    Target,
    modified_chamfer_distance,
    reconstruct,
    train_shape_model,
)
from spinmesh.mesh import Substrates, SweptDisk, deform, sample_substrates, swept_disk
from spinmesh.sequence import Acquisition
from spinmesh.tissue import Tissue

pytestmark = pytest.mark.slow

TISSUE = Tissue.uniform(2.0)
FAMILIES = ("bend_twist", "beading", "fanning")
RANGES = {
    "radius": (1.5, 2.5),
    "ellipticity": (0.2, 0.4),  # without which twist has no shape
    "bend": (0.0, 0.25),
    "bend_direction": (0.0, 6.28),
    "twist": (0.0, 1.5),
    "bead_amplitude": (0.1, 0.3),
    "bead_count": (1.0, 2.0),
    "bead_phase": (0.0, 6.28),
    "fan_angle": (0.1, 0.6),
    "fan_direction": (0.0, 6.28),
}


@pytest.fixture(scope="module")
def table() -> Substrates:
    """Seventy shapes of each family on 247 points, a tenth of them held out."""
    template = swept_disk(SweptDisk(rings=1, layers=6, radius_um=2.0, length_um=10.0))
    return sample_substrates(
        template, dict.fromkeys(FAMILIES, 70), RANGES, {"train": 0.9, "test": 0.1}, 3
    )


@pytest.fixture(scope="module")
def pca(table: Substrates) -> ShapeModel:
    """One linear model of all families; 18 numbers leave 0.02 um on held-out shapes."""
    spec = ShapeModelSpec(kind="pca", latent=18, modes=160, scores=18, width=8, epochs=1)
    return train_shape_model(table, spec, seed=0)


@pytest.fixture(scope="module")
def protocol() -> Acquisition:
    """b = 0, then 2 and 8 ms/um^2 along 24 directions at two diffusion times: 97 measurements."""
    generator = torch.Generator().manual_seed(3)
    direction = torch.randn((24, 3), generator=generator, dtype=torch.float64)
    direction = direction / direction.norm(dim=1, keepdim=True)
    shells = [
        Acquisition.pgse(torch.full((24,), b), direction, 5.0, Delta)
        for Delta in (10.0, 40.0)
        for b in (2.0, 8.0)
    ]
    return Acquisition.joined([Acquisition.pgse([0.0], direction[:1], 5.0, 10.0), *shells])


@pytest.mark.parametrize("family", FAMILIES)
def test_held_out_shape_of_each_family_is_recovered(
    table: Substrates, pca: ShapeModel, protocol: Acquisition, family: str
) -> None:
    """The family's first held-out shape, its signal from a finer mesh, in the published metric."""
    held_out = table.select("test")
    index = held_out.family.index(family)
    fine = swept_disk(SweptDisk(rings=2, layers=12, radius_um=2.0, length_um=10.0))
    cell = fine.with_points(deform(fine, held_out.parameters[index]))
    target = Target(protocol, simulate_mesh(cell, TISSUE, protocol).attenuation[0])
    spec = ReconstructionSpec(starts=1, iterations=6, samples=0, noise_floor=3e-4)
    found = reconstruct(target, pca, TISSUE, spec, seed=0)
    truth, mean = held_out.mesh(index), table.template.with_points(pca.mean_points)
    error, of_mean = (modified_chamfer_distance(mesh, truth) for mesh in (found.mesh, mean))
    # After six of the some 12 iterations 0.14 to 0.26 of the mean shape's 0.4 to 0.8 um (converged,
    # 0.10 to 0.15); twice that for another platform's path. A search that stays scores 1.
    assert error < 0.5 * of_mean
