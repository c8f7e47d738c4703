"""The inversion: exact Jacobians, and shapes recovered from signals."""

from dataclasses import replace

import pytest
import torch

from spinmesh.bloch_torrey import Basis, Signals, simulate, simulate_substrates, unweighted
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
from spinmesh.inversion.pose import principal_rotation
from spinmesh.inversion.sensitivity import predict, shape_jacobian, turn_jacobian
from spinmesh.mesh import Substrates, SweptDisk, deform, rotation_matrix, swept_disk
from spinmesh.reduction import project
from spinmesh.sequence import Acquisition
from spinmesh.tissue import Tissue

TISSUE = Tissue.uniform(2.0)
BASIS = Basis()
LATENT = torch.tensor([0.4, -0.3, 0.2, 0.5, -0.1, 0.2, -0.4], dtype=torch.float64)


def attenuation(model: ShapeModel, acquisition: Acquisition, z: torch.Tensor) -> torch.Tensor:
    mesh = model.basis.template.with_points(model.decode(z))
    return predict(mesh, TISSUE, acquisition, BASIS).attenuation


def test_jacobian_is_that_of_the_signal_on_the_frozen_span(model: ShapeModel, acquisition):
    template, z = model.basis.template, LATENT
    prediction = predict(template.with_points(model.decode(z)), TISSUE, acquisition, BASIS)
    J = shape_jacobian(prediction, TISSUE, acquisition, model.decode, z)

    def frozen(z: torch.Tensor) -> torch.Tensor:
        reduced = project(prediction.span, model.decode(z), TISSUE)
        return simulate(reduced, acquisition).abs() / unweighted(reduced, acquisition)

    h = 1e-4
    for k, direction in enumerate(torch.eye(7, dtype=torch.float64)):
        difference = (frozen(z + h * direction) - frozen(z - h * direction)) / (2 * h)
        # h^2 f''' ~ 1e-8; the propagator's own 1e-10, divided by h, is ~1e-6.
        torch.testing.assert_close(J[:, k], difference, rtol=0, atol=5e-6)


def test_frozen_span_jacobian_is_that_of_fresh_spans(model: ShapeModel, acquisition):
    template, z = model.basis.template, LATENT
    basis = Basis("krylov", 3, 4)
    prediction = predict(template.with_points(model.decode(z)), TISSUE, acquisition, basis)
    J = shape_jacobian(prediction, TISSUE, acquisition, model.decode, z)
    h, direction = 1e-2, torch.ones(7, dtype=torch.float64)
    ahead, behind = (
        predict(
            template.with_points(model.decode(z + s * direction)), TISSUE, acquisition, basis
        ).attenuation
        for s in (h, -h)
    )
    slope = (ahead - behind) / (2 * h)
    # simulator.md section 3 measured 1e-5 to 1e-4 relative for a frozen Krylov span of degree 3;
    # h^2 f''' of the difference adds ~1e-4.
    assert float((J @ direction - slope).norm() / slope.norm()) < 1e-3


def test_turning_the_shape_is_turning_the_gradients_back(model: ShapeModel, acquisition):
    mesh = model.basis.template.with_points(model.decode(LATENT))
    prediction = predict(mesh, TISSUE, acquisition, BASIS)
    h, w = 1e-4, torch.tensor([0.3, -0.5, 0.8], dtype=torch.float64)

    def turned(angle: float) -> torch.Tensor:
        back = acquisition.rotated(rotation_matrix(angle * w).T)
        reduced = prediction.reduced
        return simulate(reduced, back).abs() / unweighted(reduced, back)

    difference = (turned(h) - turned(-h)) / (2 * h)
    # As above: h^2 f''' plus the propagator's 1e-10 / h.
    torch.testing.assert_close(
        turn_jacobian(prediction, acquisition) @ w, difference, rtol=0, atol=5e-6
    )
    # The mesh itself, turned, on its own span: the Krylov space of degree 2 turns with the mesh.
    R = rotation_matrix(w)
    moved = mesh.with_points(mesh.points @ R.T)
    direct = predict(moved, TISSUE, acquisition, BASIS).attenuation
    by_gradient = predict(mesh, TISSUE, acquisition.rotated(R.T), BASIS).attenuation
    # The monomials are scaled by a bounding box that turns too, which moves the span slightly.
    torch.testing.assert_close(direct, by_gradient, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_own_signal_gives_back_the_latents_that_made_it(model: ShapeModel, acquisition):
    """Same mesh, same simulator, no noise: the optimum is the truth up to the prior's pull."""
    z = model.latents[model.training][4]
    target = Target(acquisition, attenuation(model, acquisition, z))
    spec = ReconstructionSpec(noise_floor=1e-5, iterations=25, starts=2)
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


def test_diffusion_tensor_of_the_signal_points_along_the_cell(template, acquisition):
    R = rotation_matrix(torch.tensor([0.9, -0.4, 0.3], dtype=torch.float64))
    turned = template.with_points(template.points @ R.T)
    signal = predict(turned, TISSUE, acquisition, BASIS).attenuation
    found = principal_rotation(acquisition, signal)
    # A straight cylinder: the axis is the tensor's own. 15 directions at b = 3 leave ~1 degree.
    assert abs(float(found[:, 2] @ R[:, 2])) > 0.999
    torch.testing.assert_close(
        found @ found.T, torch.eye(3, dtype=torch.float64), atol=1e-9, rtol=0
    )
    assert float(torch.linalg.det(found)) == pytest.approx(1.0)
    with pytest.raises(SequenceError, match="the tensor needs 13"):
        principal_rotation(acquisition.select(slice(0, 8)), signal[:8])


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
    fine = swept_disk(SweptDisk(2, 8, 1.5, 10.0))
    bent = [i for i in range(len(test)) if test.family[i] == "bend_twist"][1]
    truth = fine.with_points(deform(fine, test.parameters[bent]))
    turn = torch.zeros(3, dtype=torch.float64)
    if pose == "unknown":
        turn = torch.tensor([0.5, -0.8, 0.3], dtype=torch.float64)
    truth = truth.with_points(truth.points @ rotation_matrix(turn).T)
    signal = predict(truth, TISSUE, acquisition, Basis("krylov", 3, 3)).attenuation
    target = Target(acquisition, signal, truth=truth)
    result = reconstruct(target, model, TISSUE, ReconstructionSpec(pose=pose), 0, training_signals)
    # Measured gains are 5 to 20; 2 leaves room for another platform's path to the optimum.
    for name in ("radius_gain", "centre_line_gain", "length_gain"):
        assert result.metrics[name] > 2, (name, dict(result.metrics))
