"""A small table of axons with made-up signals, and images packed from it."""

import pytest
import torch

from spinmesh.bloch_torrey import Signals
from spinmesh.bundles import ImageSet, simulate_bundles
from spinmesh.images import pack_cross_sections
from spinmesh.mesh import Substrates, SweptDisk, sample_substrates, swept_disk
from spinmesh.scores import ScoreModel, train_score
from spinmesh.sequence import Acquisition
from spinmesh.settings import BundleSettings, ImageSettings
from spinmesh.settings.synthesise import ScoreTraining


@pytest.fixture(scope="session")
def table() -> Substrates:
    """Twelve bent and beaded axons, nine of them for training."""
    ranges = {"radius": (0.8, 2.0), "bend": (0.0, 0.2), "bead_amplitude": (0.1, 0.3)}
    template = swept_disk(SweptDisk(rings=2, layers=6, radius_um=1.5, length_um=10.0))
    families = {"bend_twist": 6, "beading": 6}
    return sample_substrates(template, families, ranges, {"train": 0.75, "test": 0.25}, 3)


@pytest.fixture(scope="session")
def signals(table) -> Signals:
    """exp(-b D) of each axon, D growing with its radius; two shells of two directions."""
    b = torch.tensor([0.0, 1.0, 1.0, 2.0, 2.0], dtype=torch.float64)
    direction = torch.eye(3, dtype=torch.float64)[[0, 0, 1, 1, 2]]
    acquisition = Acquisition.pgse(b, direction, 5.0, 20.0)
    volume = 10 * torch.pi * table.parameters[:, :1] ** 2
    attenuation = torch.exp(-b * 0.3 * table.parameters[:, :1])
    complex_signal = (volume * attenuation).to(torch.complex128)
    return Signals(acquisition, complex_signal, volume.expand(-1, 5).contiguous())


@pytest.fixture(scope="session")
def image_set(table, signals):
    """Sixty images of 16 x 16 pixels."""
    settings = ImageSettings(count=60, pixels=16, field_of_view_um=12.0, held_out_fraction=0.4)
    return pack_cross_sections(table, signals, settings, seed=5)


@pytest.fixture(scope="session")
def bundle_set() -> ImageSet:
    """Twelve packings of 16 x 16 pixels, four held out, and their signals at b = 5 ms/um^2."""
    images = ImageSettings(
        count=12,
        pixels=16,
        field_of_view_um=12.0,
        volume_fraction=(0.2, 0.4),
        held_out_fraction=1 / 3,
    )
    bundles = BundleSettings(
        radius_um=(1.0, 1.5), mesh_size_um=1.5, b_s_per_mm2=(5000.0,), Delta_ms=(20.0,)
    )
    return simulate_bundles(bundles, images, seed=6)


@pytest.fixture(scope="session")
def bundle_model(bundle_set) -> ScoreModel:
    """Hardly trained: it draws grey specks, which is enough to follow what happens to them."""
    return train_score(bundle_set, ScoreTraining(width=8, iterations=5, batch=4), seed=1)
