"""Shapes come back from their signals."""

from dataclasses import replace

import pytest
import torch
from bodies import two_shells

from experiments.remidi.metric import modified_chamfer_distance
from spinmesh.bloch_torrey import Basis, Signals
from spinmesh.bodies import simulate, simulate_substrates
from spinmesh.errors import ReductionError, SequenceError
from spinmesh.inversion import HISTORY, Target, nearest_training_shapes, reconstruct
from spinmesh.inversion.forward import predict
from spinmesh.inversion.unknowns import Unknowns
from spinmesh.mesh import (
    Substrates,
    SweptDisk,
    deform,
    rotation_matrix,
    sample_substrates,
    swept_disk,
)
from spinmesh.sequence import Acquisition
from spinmesh.settings import ShapeTraining
from spinmesh.settings.reconstruct import Reconstruct
from spinmesh.shapes import ShapeModel, shape_errors, train_shape_model
from spinmesh.tissue import Tissue

TISSUE = Tissue.uniform(2.0)
LATENT = torch.tensor([0.4, -0.3, 0.2, 0.5, -0.1, 0.2, -0.4], dtype=torch.float64)


def attenuation(model: ShapeModel, acquisition: Acquisition, z: torch.Tensor) -> torch.Tensor:
    unknowns = Unknowns(model, TISSUE, (), False)
    return predict(unknowns, unknowns.point(z), acquisition, Basis()).attenuation


@pytest.mark.slow
def test_own_signal_gives_back_the_latents_that_made_it(model: ShapeModel, acquisition):
    """Same mesh, same simulator, no noise: the optimum is the truth up to the prior's pull."""
    z = model.latents[model.training][4]
    target = Target(acquisition, attenuation(model, acquisition, z))
    settings = Reconstruct(noise_floor=1e-5, iterations=25, starts=2, basis=Basis(tolerance=1e-6))
    result = reconstruct(target, model, TISSUE, settings, seed=0)
    assert float(result.fit.chi2.sum()) < 1.0
    truth = model.basis.template.with_points(model.decode(z))
    # Points may be mirrored, which the signal cannot see; the shape may not differ. The prior with
    # a floor of 1e-5 pulls the worst determined direction by well under 0.05 um.
    errors = shape_errors(result.mesh, truth)
    assert errors["radius"] < 0.02
    assert errors["bend"] < 0.02
    # Only accepted steps lower the cost, so chi2 at the end is the least of its start.
    chi2 = result.history[:, HISTORY.index("chi2")]
    assert float(chi2[-1]) == pytest.approx(float(chi2.min()), rel=1e-6, abs=1e-6)


@pytest.mark.slow
def test_posterior_knows_more_than_the_prior_and_less_with_more_noise(
    model: ShapeModel, acquisition
):
    target = Target(acquisition, attenuation(model, acquisition, LATENT))
    quick = Reconstruct(starts=1, iterations=3)
    posteriors = [
        reconstruct(target, model, TISSUE, quick.replace(noise_floor=floor), seed=0).posterior
        for floor in (2e-3, 2e-2)
    ]
    trace = [float(posterior.latent.covariance.trace()) for posterior in posteriors]
    assert trace[0] < trace[1] < len(LATENT)
    # Information scales as 1/noise^2: 100 between the two, up to the different optimum.
    ratio = float(posteriors[0].information[0] / posteriors[1].information[0])
    assert 50 < ratio < 200


def test_nearest_training_signal_is_the_shape_itself(model: ShapeModel, acquisition):
    index = model.training.nonzero()[:6, 0].tolist()
    known = torch.zeros_like(model.training)
    known[index] = True
    small = replace(model, training=known)
    rows = torch.stack([attenuation(model, acquisition, model.latents[i]) for i in index])
    signals = Signals(acquisition, rows.to(torch.complex128), torch.ones_like(rows))
    target = Target(acquisition, rows[2])
    assert int(nearest_training_shapes(target, small, signals)[0]) == index[2]
    with pytest.raises(SequenceError, match="6 training signals"):
        nearest_training_shapes(target, model, signals)


def test_no_valid_start_is_an_error_not_a_result(model: ShapeModel, acquisition):
    target = Target(acquisition, torch.ones(len(acquisition), dtype=torch.float64))
    with pytest.raises(ReductionError, match="every start decodes to a folded mesh"):
        reconstruct(target, model, TISSUE, Reconstruct(minimum_volume=50.0), seed=0)


@pytest.fixture(scope="module")
def training_signals(substrates: Substrates, acquisition: Acquisition) -> Signals:
    """Signals of the whole table, to some 1e-3: they are where searches start, no more."""
    return simulate_substrates(substrates, TISSUE, acquisition, Basis(blocks=2))


# Measured radius and centre-line errors (um): 0.022 and 0.014 with the pose known, 0.027 and 0.024
# without; half as much again is for another platform's path. The mean shape has 0.46 and 0.13.
ERRORS = {"known": (0.033, 0.021), "unknown": (0.040, 0.036)}


@pytest.mark.slow
@pytest.mark.parametrize("pose", ["known", "unknown"])
def test_held_out_shape_is_recovered(
    model: ShapeModel, substrates: Substrates, acquisition, training_signals, pose: str
):
    """No inverse crime: finer mesh, richer basis, a shape that is in no training set."""
    test = substrates.select("test")
    fine = swept_disk(SweptDisk(rings=2, layers=8, radius_um=1.5, length_um=10.0))
    bent = [i for i in range(len(test)) if test.family[i] == "bend_twist"][1]
    truth = fine.with_points(deform(fine, test.parameters[bent]))
    if pose == "unknown":
        turn = rotation_matrix(torch.tensor([0.5, -0.8, 0.3], dtype=torch.float64))
        truth = truth.with_points(truth.points @ turn.T)
    signal = simulate(truth, TISSUE, acquisition, Basis(degree=3, blocks=3)).attenuation[0]
    target = Target(acquisition, signal)
    result = reconstruct(target, model, TISSUE, Reconstruct(pose=pose), 0, training_signals)
    errors = shape_errors(result.mesh, truth)
    assert errors["radius"] < ERRORS[pose][0]
    assert errors["centre_line"] < ERRORS[pose][1]


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
    spec = ShapeTraining(kind="pca", latent=18, modes=160, scores=18, width=8, epochs=1)
    return train_shape_model(table, spec, seed=0)


@pytest.fixture(scope="module")
def protocol() -> Acquisition:
    """97 measurements."""
    return two_shells(24, (2.0, 8.0), 1)


# Measured after six of the seven to twenty iterations: 0.101, 0.084 and 0.155 um, where the mean
# shape has 0.69, 0.38 and 0.78; half as much again is for another platform's path.
DISTANCES = {"bend_twist": 0.15, "beading": 0.126, "fanning": 0.232}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_held_out_shape_of_each_family_is_recovered(
    table: Substrates, pca: ShapeModel, protocol: Acquisition, family: str
) -> None:
    """The family's first held-out shape, its signal from a finer mesh, in the published metric."""
    held_out = table.select("test")
    index = held_out.family.index(family)
    fine = swept_disk(SweptDisk(rings=2, layers=12, radius_um=2.0, length_um=10.0))
    cell = fine.with_points(deform(fine, held_out.parameters[index]))
    target = Target(protocol, simulate(cell, TISSUE, protocol).attenuation[0])
    settings = Reconstruct(starts=1, iterations=6, samples=0, noise_floor=3e-4)
    result = reconstruct(target, pca, TISSUE, settings, seed=0)
    error = modified_chamfer_distance(result.mesh, held_out.mesh(index))
    assert error < DISTANCES[family]
