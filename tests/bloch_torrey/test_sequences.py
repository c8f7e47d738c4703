"""Signals of every kind of sequence in a cell: two roads, limits, order of the steps, gradients."""

import numpy as np
import pytest
import torch
from bodies import sampled

from spinmesh.bloch_torrey import simulate_reduced, unweighted
from spinmesh.mesh import PARAMETERS, SweptDisk, ball, deform, neutral_parameters, swept_disk
from spinmesh.reduction import ReducedModel, krylov_span, project
from spinmesh.sequence import (
    PGSE,
    Acquisition,
    CosineOGSE,
    FreeWaveform,
    MultiplePGSE,
    SineOGSE,
    TrapezoidalOGSE,
)
from spinmesh.tissue import Tissue

Z = (0.0, 0.0, 1.0)
DIRECTIONS = torch.tensor([[1.0, 0, 0], [0, 0, 1.0], [0.6, 0, 0.8], [0.36, 0.48, -0.8]]).double()
# Propagation's tolerance, 1e-10 per step (Crouzeix-Palencia: 2.4 times), for up to a hundred steps.
SAME = 1e-8


def reduced_model(mesh, **tissue):
    filled = Tissue.uniform(2.0, **tissue)
    with torch.no_grad():
        return project(krylov_span(mesh, filled, 2, 3), mesh.points, filled)


@pytest.fixture(scope="module")
def axon():
    """A bent, beaded axon: no symmetry, no free axis."""
    template = swept_disk(SweptDisk(rings=2, layers=6, radius_um=2.0, length_um=12.0))
    parameters = neutral_parameters(template)
    for name, value in (("bend", 0.6), ("bead_amplitude", 0.3), ("fan_angle", 0.5)):
        parameters[PARAMETERS.index(name)] = value
    return reduced_model(template.with_points(deform(template, parameters)))


def attenuation(model, acquisition):
    return simulate_reduced(model, acquisition) / unweighted(model, acquisition)


@pytest.mark.parametrize(
    "sequence",
    [PGSE(8.0, 19.0), PGSE(6.0, 14.0, 0.5, TE=30.0), CosineOGSE(8.0, 11.0, 2)],
    ids=lambda s: type(s).__name__,
)
def test_a_scalar_profile_written_as_a_vector_gives_the_same_signal(axon, sequence):
    """Two roads: one phase matrix times a level, against three moment matrices."""
    scalar = Acquisition.of(sequence, [2.0] * 4, DIRECTIONS)
    vector = Acquisition.of(sampled(sequence), [2.0] * 4, DIRECTIONS)
    vector = Acquisition(vector.sequences, vector.timing, scalar.gradient)
    # The same steps and resolvents; only rounding differs.
    assert torch.allclose(attenuation(axon, scalar), attenuation(axon, vector), rtol=0, atol=1e-9)


def test_a_double_pgse_whose_blocks_are_far_apart_is_two_experiments(axon):
    """Once the cell is mixed, 8 L^2/(pi^2 D) = 60 ms per e-fold here, the blocks forget another."""
    second = (0.6, 0.0, 0.8)
    double = Acquisition.of(MultiplePGSE.double(3.0, 10.0, 400.0, second), [2.0], [Z])
    parts = Acquisition.of(PGSE(3.0, 10.0), [1.0, 1.0], [Z, second])
    both = attenuation(axon, double)[0]
    apart = attenuation(axon, parts)
    # The slowest mode decays by exp(-400 D pi^2/L^2) with L about 12 um: below 1e-20.
    assert float((both - apart[0] * apart[1]).abs()) < SAME


def test_parallel_and_antiparallel_blocks_differ_only_at_short_mixing(axon):
    """Mitra (1995): walls make short-mixing signals depend on the angle; mixed spins forget it."""

    def difference(mixing):
        sequences = [MultiplePGSE.double(1.0, 8.0, mixing, (0.0, 0.0, x)) for x in (1.0, -1.0)]
        values = [
            attenuation(axon, Acquisition.of(sequence, [1.5], DIRECTIONS[:1]))
            for sequence in sequences
        ]
        return float((values[0] - values[1]).abs().max())

    assert difference(0.0) > 1e-2
    assert difference(400.0) < SAME


def test_zero_mixing_antiparallel_blocks_fuse_the_middle_pulses(axon):
    """+g, -g | -g, +g without a gap is one negative pulse of twice the length."""
    double = MultiplePGSE(4.0, 9.0, (Z, (0.0, 0.0, -1.0)))
    levels = np.array([1.0, 0, -1, 0, 1])[:, None] * np.array(Z)
    fused = FreeWaveform(np.array([4.0, 5.0, 8.0, 5.0, 4.0]), levels)
    signals = [attenuation(axon, Acquisition.of(s, [2.0] * 4, DIRECTIONS)) for s in (double, fused)]
    assert torch.allclose(*signals, rtol=0, atol=SAME)


def test_turning_a_profile_about_its_direction_matters_unless_it_is_linear(axon):
    """Two blocks in the plane of the axon's axis: along and across it, or both at 45 degrees."""
    to_x = torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]]).double()
    c = 0.5**0.5
    about = torch.tensor([[c, -c, 0], [c, c, 0], [0, 0, 1]], dtype=torch.float64)
    for shape, moves in (("linear", False), ("planar", True)):
        sequence = getattr(MultiplePGSE, shape)(3.0, 10.0)
        values = [
            attenuation(axon, Acquisition.of(sequence, [4.0], DIRECTIONS[:1], frame[None]))
            for frame in (to_x, to_x @ about)
        ]
        assert (float((values[0] - values[1]).abs()) > (1e-2 if moves else SAME)) == moves


def test_a_longer_echo_time_only_adds_decay_in_one_compartment():
    """Uniform T2, no exchange: exp(-TE/T2) times the signal at the pulses' end."""
    model = reduced_model(ball(4.0, 1), t2=50.0)
    short, long = (Acquisition.pgse([2.0], [Z], 6.0, 20.0, TE=TE) for TE in (None, 60.0))
    ratio = simulate_reduced(model, long) / simulate_reduced(model, short)
    assert complex(ratio[0]) == pytest.approx(np.exp(-34.0 / 50.0), rel=SAME)


SMOOTH = (
    CosineOGSE(20.0, 25.0, 1),
    CosineOGSE(20.0, 25.0, 3),
    SineOGSE(20.0, 25.0, 2),
    PGSE(10.0, 30.0, 1.0),
    TrapezoidalOGSE(20.0, 25.0, 2, 0.5),
)


@pytest.mark.slow
@pytest.mark.parametrize("sequence", SMOOTH, ids=lambda s: f"{type(s).__name__}")
def test_steps_of_a_smooth_profile_are_of_fourth_order_and_default_to_1e_6(sequence, monkeypatch):
    """b = 1 to 4 ms/um^2 in a sphere of 5 um, against four times the default steps."""
    model = reduced_model(ball(5.0, 1))
    b = 1.0 if getattr(sequence, "periods", 1) == 3 else 4.0
    acquisition = Acquisition.of(sequence, [b] * 2, DIRECTIONS[:2])

    def at(pairs):
        steps = type(sequence).steps(sequence, pairs)
        with monkeypatch.context() as patch:
            patch.setattr(type(sequence), "steps", lambda self, pairs=0: steps)
            return attenuation(model, acquisition)

    exact = at(36)
    errors = [float((at(pairs) - exact).abs().max()) for pairs in (3, 6, 9)]
    assert float((attenuation(model, acquisition) - exact).abs().max()) < 1.1e-6
    # Steps of 1, 2 and 3 on straight pieces. Stiff modes take a little off the order of 4.
    assert errors[0] / errors[1] > 2**3.5
    assert errors[0] / errors[2] > 3**3.5


@pytest.mark.slow
def test_a_waveform_of_many_levels_is_worked_on_in_smaller_chunks(axon, monkeypatch):
    """Memory is bounded: fewer measurements at a time give the same signals and gradients."""
    acquisition = Acquisition.of(SineOGSE(6.0, 9.0, 2), [0.5, 1.0] * 2, DIRECTIONS)

    def value_and_gradient():
        inputs = [x.clone().requires_grad_() for x in (axon.laplacian, axon.moments, axon.mean)]
        result = simulate_reduced(ReducedModel(*inputs), acquisition)
        return result, torch.autograd.grad(result.abs().sum(), inputs)

    whole, gradients = value_and_gradient()
    monkeypatch.setattr("spinmesh.bloch_torrey.program.SWEEP_SIZE", 1)
    single, single_gradients = value_and_gradient()
    # Chunks choose their polynomials: each of 32 steps is good to 1e-10.
    assert torch.allclose(whole, single, rtol=0, atol=1e-8 * float(whole.detach().abs().max()))
    for one, other in zip(gradients, single_gradients, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-7 * float(one.abs().max()))
