"""The inversion: exact Jacobians, and shapes recovered from signals."""

from dataclasses import replace

import pytest
import torch

from spinmesh.bloch_torrey import Basis, Signals, simulate_mesh, simulate_substrates
from spinmesh.errors import ReductionError, SequenceError
from spinmesh.inversion import (
    HISTORY,
    ReconstructionSpec,
    ShapeModel,
    Target,
    nearest_training_shapes,
    reconstruct,
    shape_errors,
)
from spinmesh.inversion.sensitivity import predict
from spinmesh.inversion.unknowns import Unknowns
from spinmesh.mesh import Substrates, SweptDisk, deform, rotation_matrix, swept_disk
from spinmesh.sequence import Acquisition
from spinmesh.tissue import Tissue

TISSUE = Tissue.uniform(2.0)
LATENT = torch.tensor([0.4, -0.3, 0.2, 0.5, -0.1, 0.2, -0.4], dtype=torch.float64)


def attenuation(model: ShapeModel, acquisition: Acquisition, z: torch.Tensor) -> torch.Tensor:
    unknowns = Unknowns(model, TISSUE, (), False)
    return predict(unknowns, unknowns.point(unknowns.whiten(z)), acquisition, Basis()).attenuation


@pytest.mark.slow
def test_own_signal_gives_back_the_latents_that_made_it(model: ShapeModel, acquisition):
    """Same mesh, same simulator, no noise: the optimum is the truth up to the prior's pull."""
    z = model.latents[model.training][4]
    target = Target(acquisition, attenuation(model, acquisition, z))
    spec = ReconstructionSpec(
        noise_floor=1e-5, iterations=25, starts=2, basis=Basis(tolerance=1e-6)
    )
    result = reconstruct(target, model, TISSUE, spec, seed=0)
    assert float(result.chi2.sum()) < 1.0
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
    results = [
        reconstruct(
            target, model, TISSUE, ReconstructionSpec(noise_floor=f, starts=1, iterations=3), seed=0
        )
        for f in (2e-3, 2e-2)
    ]
    trace = [float(r.latent_covariance.trace()) for r in results]
    assert trace[0] < trace[1] < float(model.prior.covariance.trace())
    # Information scales as 1/noise^2: 100 between the two, up to the different optimum.
    ratio = float(results[0].data_determined[0] / results[1].data_determined[0])
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
        reconstruct(target, model, TISSUE, ReconstructionSpec(minimum_volume=50.0), seed=0)


@pytest.fixture(scope="module")
def training_signals(substrates: Substrates, acquisition: Acquisition) -> Signals:
    """Signals of the whole table."""
    return simulate_substrates(substrates, TISSUE, acquisition)


@pytest.mark.slow
@pytest.mark.parametrize("pose", ["known", "unknown"])
def test_held_out_shape_beats_the_mean_shape(
    model: ShapeModel, substrates: Substrates, acquisition, training_signals, pose: str
):
    """No inverse crime: finer mesh, richer basis, a shape that is in no training set."""
    test = substrates.select("test")
    fine = swept_disk(SweptDisk(rings=2, layers=8, radius_um=1.5, length_um=10.0))
    bent = [i for i in range(len(test)) if test.family[i] == "bend_twist"][1]
    truth = fine.with_points(deform(fine, test.parameters[bent]))
    turn = torch.zeros(3, dtype=torch.float64)
    if pose == "unknown":
        turn = torch.tensor([0.5, -0.8, 0.3], dtype=torch.float64)
    truth = truth.with_points(truth.points @ rotation_matrix(turn).T)
    signal = simulate_mesh(
        truth, TISSUE, acquisition, Basis(kind="krylov", degree=3, blocks=3)
    ).attenuation[0]
    target = Target(acquisition, signal, truth=truth)
    result = reconstruct(target, model, TISSUE, ReconstructionSpec(pose=pose), 0, training_signals)
    # Measured gains are 5 to 20; 2 leaves room for another platform's path to the optimum.
    for name in ("radius_gain", "centre_line_gain", "length_gain"):
        assert result.metrics[name] > 2, (name, dict(result.metrics))
