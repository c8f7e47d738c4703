"""Small templates, tables and models shared by the tests of the inversion."""

import pytest
import torch

from spinmesh.mesh import Substrates, SweptDisk, TetMesh, sample_substrates, swept_disk
from spinmesh.sequence import Acquisition
from spinmesh.settings import ShapeTraining
from spinmesh.shapes import ShapeModel, SpectralBasis, spectral_basis, train_shape_model

RANGES = {
    "radius": (1.0, 2.0),
    "length": (9.0, 14.0),
    "bend": (0.0, 0.25),
    "bend_direction": (0.0, 6.28),
    "bead_amplitude": (0.0, 0.3),
    "bead_count": (1.0, 2.0),
    "bead_phase": (0.0, 6.28),
}


@pytest.fixture(scope="session")
def template() -> TetMesh:
    """A curved cylinder of 209 points, r = 1.5 um, L = 10 um."""
    return swept_disk(SweptDisk(rings=1, layers=5, radius_um=1.5, length_um=10.0))


@pytest.fixture(scope="session")
def basis(template: TetMesh) -> SpectralBasis:
    """Every mode of the template."""
    return spectral_basis(template)


@pytest.fixture(scope="session")
def substrates(template: TetMesh) -> Substrates:
    """400 bent or beaded shapes in three splits."""
    split = {"train": 0.7, "validation": 0.15, "test": 0.15}
    return sample_substrates(template, {"bend_twist": 100, "beading": 300}, RANGES, split, seed=3)


@pytest.fixture(scope="session")
def model(substrates: Substrates) -> ShapeModel:
    """An autoencoder with 7 latent numbers."""
    spec = ShapeTraining(latent=7, modes=200, scores=24, width=64, epochs=300, learning_rate=1e-3)
    return train_shape_model(substrates, spec, seed=0)


@pytest.fixture(scope="session")
def acquisition() -> Acquisition:
    """61 measurements: b = 0, then 3 and 12 ms/um^2, 15 directions, two diffusion times."""
    generator = torch.Generator().manual_seed(5)
    direction = torch.randn((15, 3), generator=generator, dtype=torch.float64)
    direction = direction / direction.norm(dim=1, keepdim=True)
    b, Delta = torch.meshgrid(torch.tensor([3.0, 12.0]), torch.tensor([19.0, 49.0]), indexing="ij")
    b = torch.cat([torch.zeros(1), b.flatten().repeat_interleave(15)])
    Delta = torch.cat([torch.tensor([19.0]), Delta.flatten().repeat_interleave(15)])
    direction = torch.cat([torch.zeros((1, 3), dtype=torch.float64), direction.repeat(4, 1)])
    return Acquisition.pgse(b, direction, 8.0, Delta, TE=57.0)
