"""Small but real inputs: seven shapes, their signals, and results as the stages write them."""

import math

import pytest
import torch

from spinmesh.bloch_torrey import Signals
from spinmesh.bodies import simulate, simulate_substrates
from spinmesh.bundles import ImageSet
from spinmesh.images import Synthesis
from spinmesh.inversion import Fit, Gaussian, Posterior, Reconstruction, Samples, Target
from spinmesh.mesh import Substrates, SweptDisk, TetMesh, ball, sample_substrates, swept_disk
from spinmesh.noise import add_rician, rician_mean, rician_std
from spinmesh.scores import ScoreModel
from spinmesh.scores.features import Features
from spinmesh.sequence import Acquisition
from spinmesh.settings import ShapeTraining
from spinmesh.settings.synthesise import ScoreTraining
from spinmesh.shapes import ShapeModel, train_shape_model
from spinmesh.tissue import Tissue

FAMILIES = {"straight": 1, "bend_twist": 2, "beading": 2, "combined": 2}
RANGES = {"radius": (1.0, 2.0), "bend": (0.1, 0.3), "bead_amplitude": (0.1, 0.3)}


@pytest.fixture(scope="session")
def nested() -> TetMesh:
    """A ball of 5 um, curved, whose tets within 2.5 um are compartment 1."""
    whole = ball(5.0, 2)
    outside = whole.points[whole.tets[:, :4]].mean(1).norm(dim=1) > 2.5
    return TetMesh(whole.points, whole.tets, 1 + outside.long(), "nested")


@pytest.fixture(scope="session")
def substrates() -> Substrates:
    template = swept_disk(SweptDisk(rings=1, layers=4, radius_um=1.5, length_um=12.0))
    split = {"train": 0.6, "validation": 0.2, "test": 0.2}
    return sample_substrates(template, FAMILIES, RANGES, split, seed=1)


@pytest.fixture(scope="session")
def target_mesh(substrates: Substrates) -> Substrates:
    return substrates.take([6])


@pytest.fixture(scope="session")
def acquisition() -> Acquisition:
    """b = 0, 1 and 3 ms/um^2 along x, z and between, at two diffusion times."""
    direction = torch.eye(3, dtype=torch.float64)[[0, 0, 2]]
    direction = torch.cat([direction, torch.tensor([[0.6, 0.0, 0.8]], dtype=torch.float64)])
    b = torch.tensor([0.0, 1.0, 3.0, 3.0] * 2)
    Delta = torch.tensor([20.0] * 4 + [40.0] * 4)
    return Acquisition.pgse(b, direction.repeat(2, 1), 8.0, Delta)


@pytest.fixture(scope="session")
def signals(substrates: Substrates, acquisition: Acquisition) -> Signals:
    return simulate_substrates(substrates, Tissue.uniform(2.0, math.inf), acquisition)


@pytest.fixture(scope="session")
def target(target_mesh: Substrates, acquisition: Acquisition) -> Target:
    mesh = target_mesh.mesh(0)
    noise_free = simulate(mesh, Tissue.uniform(2.0, math.inf), acquisition).attenuation[0]
    noisy = add_rician(noise_free, 50.0, torch.Generator().manual_seed(1))
    return Target(acquisition, noisy, 0.02)


@pytest.fixture(scope="session")
def model(substrates: Substrates) -> ShapeModel:
    """Two principal components."""
    spec = ShapeTraining(kind="pca", latent=2, modes=20, scores=2, epochs=1)
    return train_shape_model(substrates, spec, seed=1)


@pytest.fixture(scope="session")
def reconstruction(
    target: Target, substrates: Substrates, signals: Signals, model: ShapeModel
) -> Reconstruction:
    """Substrate 5 offered as the shape of the target, with a made-up posterior."""
    predicted = signals.attenuation[5]
    misfit = target.attenuation - rician_mean(predicted, target.sigma)
    chi2 = (misfit / rician_std(predicted, target.sigma)).square()
    rows = [
        [0, 0, 90.0, 1, 0.0, 10, 1],
        [0, 1, 30.0, 1, 0.5, 10, 1],
        [1, 0, 70.0, 1, 0.0, 10, 1],
        [1, 1, 70.0, 1, 0.4, 10, 0],
        [1, 1, 9.0, 1, 0.2, 50, 1],
    ]
    eye = torch.eye(3, dtype=torch.float64)
    latent = Gaussian(model.latents[5], 0.1 * torch.eye(2, dtype=torch.float64))
    information = torch.tensor([9.0, 2.0], dtype=torch.float64)
    draws = Samples(
        model.latents[4:6],
        eye.expand(2, 3, 3),
        torch.zeros(2, 0, dtype=torch.float64),
    )
    weights = torch.ones(1, dtype=torch.float64)
    posterior = Posterior(latent, information, weights, draws)
    history = torch.tensor(rows, dtype=torch.float64)
    mesh = substrates.mesh(5)
    spread = torch.linspace(0.05, 0.4, len(mesh.points), dtype=torch.float64)
    return Reconstruction(target, mesh, eye, Fit(predicted, chi2, 2), posterior, spread, history)


@pytest.fixture(scope="session")
def images() -> ImageSet:
    generator = torch.Generator().manual_seed(2)
    pixels = torch.rand((20, 16, 16), generator=generator) * 2 - 1
    split = ("train",) * 10 + ("test",) * 10
    return ImageSet(pixels, torch.zeros(20, 1), torch.full((20,), 0.5), split, 20.0)


@pytest.fixture(scope="session")
def score_model() -> ScoreModel:
    loss = 0.3 + torch.linspace(0.7, 0.0, 40, dtype=torch.float64)
    features = Features(torch.zeros(1), torch.ones(1, 1))
    return ScoreModel(ScoreTraining(), {}, loss, features, 20.0, 16, 0.0, 1.0)


@pytest.fixture(scope="session")
def synthesis(images: ImageSet) -> Synthesis:
    names = ("spectrum_log_error", "pixel_w1", "volume_fraction_w1", "sliced_w2", "memorisation")
    columns = [dict.fromkeys(names, value) for value in (0.1234, 0.0567, 1.8912)]
    frequency = torch.arange(1, 9) / 20.0
    spectra = {name: 1 / frequency.double() for name in ("samples", "test", "train", "control")}
    return Synthesis(images.images[:9], 20.0, *columns, frequency, spectra)
