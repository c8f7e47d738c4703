"""Sequences: their b-values and b-tensors against closed forms, their steps, what is refused."""

import math

import numpy as np
import pytest
import torch

from spinmesh.analytic import free
from spinmesh.errors import SequenceError
from spinmesh.sequence import (
    PGSE,
    Acquisition,
    CosineOGSE,
    FreeWaveform,
    MultiplePGSE,
    SineOGSE,
    TrapezoidalOGSE,
)
from spinmesh.units import GAMMA

G = 60.0
Z = (0.0, 0.0, 1.0)
Y = (0.0, 1.0, 0.0)
# One of each; the vector waveform is not a PGSE in disguise.
EVERY = (
    PGSE(8.0, 19.0),
    PGSE(8.0, 19.0, ramp=0.7, TE=40.0),
    CosineOGSE(20.0, 25.0, 2),
    SineOGSE(20.0, 25.0, 2),
    TrapezoidalOGSE(20.0, 25.0, 2, 0.5),
    MultiplePGSE.double(5.0, 12.0, 3.0, (0.6, 0.0, 0.8), TE=50.0),
    MultiplePGSE.spherical(5.0, 12.0, ramp=0.4),
    FreeWaveform(
        np.array([2.0, 3.0, 1.5, 3.0, 2.0, 4.0]),
        np.array([[1, 0, 0], [0, 1, 0.2], [0, 0, 0], [0, -1, 0], [-1, 0, -0.3], [0, 0, 0.0]]),
    ),
)


def kind(sequence):
    return type(sequence).__name__


def trapezoid_lobe(half, ramp, periods):
    """int q^2 dt of a trapezoidal lobe of unit gradient, piece by piece with pencil and paper.

    Between zero crossings q is odd about the plateau's centre; `fall` integrates (C + u - u^2/2r)^2
    over a ramp down from the plateau's q = C.
    """

    def fall(C):
        return C**2 * ramp + 2 * C * ramp**2 / 3 + 2 * ramp**3 / 15

    flat = half / 2 - ramp
    middle = 2 * (flat**3 / 3 + fall(flat))
    first_flat = (half + ramp) / 2 - 2 * ramp
    C = ramp / 2 + first_flat
    first = ramp**3 / 20 + (C**3 - (ramp / 2) ** 3) / 3 + fall(C)
    return 2 * first + (2 * periods - 1) * middle


@pytest.mark.parametrize("ramp", [0.0, 0.3, 2.0])
def test_b_of_pgse_with_ramps(ramp):
    """b = (gamma g)^2 (delta^2 (Delta - delta/3) + r^3/30 - delta r^2/6), Mattiello et al. 1994."""
    delta, Delta = 8.0, 19.0
    exact = delta**2 * (Delta - delta / 3) + ramp**3 / 30 - delta * ramp**2 / 6
    # 1e-13: rounding of a sum of about a hundred terms.
    assert PGSE(delta, Delta, ramp).b_value(G) == pytest.approx((GAMMA * G) ** 2 * exact, rel=1e-13)


@pytest.mark.parametrize("periods", [1, 2, 5])
@pytest.mark.parametrize(("form", "factor"), [(CosineOGSE, 1), (SineOGSE, 3)])
def test_b_of_oscillating_gradients(form, factor, periods):
    """gamma^2 g^2 T/(4 pi^2 f^2), thrice as much for the sine, whose q is 1 - cos."""
    frequency = periods / 20.0
    exact = factor * (GAMMA * G) ** 2 * 20.0 / (2 * math.pi * frequency) ** 2
    assert form(20.0, 25.0, periods).b_value(G) == pytest.approx(exact, rel=1e-12)  # rounding


@pytest.mark.parametrize(("periods", "ramp"), [(1, 0.0), (2, 0.0), (2, 0.5), (3, 20 / 19)])
def test_b_of_trapezoidal_oscillations(periods, ramp):
    sequence = TrapezoidalOGSE(20.0, 25.0, periods, ramp)
    exact = 2 * (GAMMA * G) ** 2 * trapezoid_lobe(sequence.half_period, ramp, periods)
    assert sequence.b_value(G) == pytest.approx(exact, rel=1e-12)  # rounding
    if ramp == 0:
        square = (GAMMA * G) ** 2 * 20.0**3 / (24 * periods**2)
        assert sequence.b_value(G) == pytest.approx(square, rel=1e-12)


def test_b_tensors_are_linear_planar_and_spherical():
    """The trace is b; the shape is zz', (1 - zz')/2 or 1/3, turned with the direction."""
    direction = torch.tensor([0.48, -0.6, 0.64]).double()
    along = torch.outer(direction, direction)
    unit = torch.eye(3).double()
    shapes = {"linear": along, "planar": (unit - along) / 2, "spherical": unit / 3}
    for name, shape in shapes.items():
        sequence = getattr(MultiplePGSE, name)(6.0, 15.0, ramp=0.5)
        tensor = Acquisition.of(sequence, [3.0], direction[None]).b_tensor[0]
        assert torch.allclose(tensor, 3.0 * shape, rtol=0, atol=1e-13)  # rounding


def test_two_blocks_have_no_cross_term():
    """b of a double PGSE is the sum of its blocks' whatever the angle and the mixing time."""
    one = PGSE(5.0, 12.0).b_value(G)
    for second in (Z, (0.0, 0.0, -1.0), (0.6, 0.0, 0.8)):
        for mixing in (0.0, 7.0):
            double = MultiplePGSE.double(5.0, 12.0, mixing, second)
            assert double.b_value(G) == pytest.approx(2 * one, rel=1e-13)  # rounding


def test_b_tensor_of_a_free_waveform_is_the_sum_over_its_steps():
    """q is linear on each step: int q q' is (q0 q0' + q1 q1' + (q0 + q1)(q0 + q1)') h/6."""
    sequence, total, q = EVERY[-1], np.zeros((3, 3)), np.zeros(3)
    for h, level in zip(sequence.durations, sequence.levels, strict=True):
        end = q + GAMMA * h * level
        both = q + end
        total += h / 6 * (np.outer(q, q) + np.outer(end, end) + np.outer(both, both))
        q = end
    np.testing.assert_allclose(sequence.unit_b_tensor, total, rtol=1e-12, atol=1e-20)  # rounding


@pytest.mark.parametrize("sequence", EVERY, ids=kind)
def test_free_water_sees_the_b_tensor_in_every_frame(sequence):
    """exp(-b:D); turning tensor, direction and frame together changes nothing."""
    direction = torch.tensor([[0.6, 0.0, 0.8], [0.0, 0.0, -1.0]]).double()
    acquisition = Acquisition.of(sequence, [1.0, 0.5], direction)
    assert torch.allclose(acquisition.b_value, torch.tensor([1.0, 0.5]).double(), rtol=1e-13)
    trace = acquisition.b_tensor.diagonal(dim1=1, dim2=2).sum(1)
    assert torch.allclose(trace, acquisition.b_value, rtol=1e-13)
    D = torch.tensor([[2.0, 0.3, 0.0], [0.3, 1.0, 0.1], [0.0, 0.1, 0.5]]).double()
    turn = torch.linalg.qr(torch.arange(9.0).double().reshape(3, 3) ** 2)[0]
    turn = turn * torch.linalg.det(turn).sign()
    turned = free(acquisition.rotated(turn), turn @ D @ turn.T)
    assert torch.allclose(turned, free(acquisition, D), rtol=1e-12)  # rounding
    assert torch.allclose(free(acquisition, 2.0), torch.exp(-2 * acquisition.b_value), rtol=1e-13)


@pytest.mark.parametrize("sequence", EVERY, ids=kind)
def test_steps_fill_the_echo_time_refocus_and_keep_b_to_fourth_order(sequence):
    """Piecewise-constant sequences exactly; halving the steps of others divides the error by 16."""
    durations, levels = sequence.steps()
    assert durations.sum() == pytest.approx(sequence.echo_time, rel=1e-10)  # rounded at 1e-12 ms
    assert np.abs(durations @ levels).max() < 1e-9

    def difference(pairs):
        durations, levels = sequence.steps(pairs)
        steps = FreeWaveform(durations, levels * np.array(Z) if sequence.axes == 1 else levels)
        exact = float(np.trace(sequence.unit_b_tensor))
        return abs(float(np.trace(steps.unit_b_tensor)) / exact - 1)

    # 3 pairs per quarter period and 1 per ramp; 12 and 4 are two halvings, 256 in theory.
    coarse, fine = difference(3), difference(12)
    assert fine < max(coarse / 2**7.4, 1e-12)  # order 3.7; rounding


def test_equal_levels_are_shared_by_every_period():
    """Two periods need no more resolvents than one: |level| takes the quarter period's values."""
    one, five = (np.abs(CosineOGSE(4.0 * n, 40.0, n).steps()[1]) for n in (1, 5))
    assert len(np.unique(one)) == len(np.unique(five))


def test_the_echo_lies_halfway_between_the_dead_times():
    sequence = PGSE(8.0, 19.0, TE=40.0)
    durations, levels = sequence.steps()
    np.testing.assert_allclose(durations, [6.5, 8.0, 11.0, 8.0, 6.5], rtol=1e-12)
    assert levels[:, 0].tolist() == [0.0, 1.0, 0.0, -1.0, 0.0]
    assert sequence.b_value(G) == pytest.approx(PGSE(8.0, 19.0).b_value(G), rel=1e-13)


def test_a_waveform_that_does_not_refocus_names_measurement_and_q():
    """The scanner's polarity instead of the effective one leaves q = 2 gamma g delta."""
    good = PGSE(8.0, 19.0)
    bad = FreeWaveform(np.array([8.0, 11.0, 8.0]), np.array([[0, 0, 1.0], [0, 0, 0], [0, 0, 1.0]]))
    gradient = torch.tensor([[0, 0, G], [0, 0, G]]).double()
    left = 2 * GAMMA * G * 8.0
    with pytest.raises(SequenceError, match=f"measurement 1 does not refocus.*q = {left:.3g} rad"):
        Acquisition((good, bad), torch.tensor([0, 1]), gradient)
    Acquisition((good, bad), torch.tensor([0, 1]), gradient * torch.tensor([[1.0], [0.0]]))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PGSE(8.0, 19.0, ramp=9.0), "ramp is 9.0 ms; it lies between 0 and delta"),
        (lambda: PGSE(8.0, 8.5, ramp=1.0), "lasts 9 ms, longer than Delta"),
        (lambda: PGSE(8.0, 19.0, TE=26.0), "echo time 26.0 ms is before the gradient's end at 27"),
        (lambda: CosineOGSE(8.0, 19.0, 0), "0 periods per lobe"),
        (lambda: TrapezoidalOGSE(20.0, 25.0, 2, 2.0), "leave room for 0 to 1.538 ms"),
        (lambda: MultiplePGSE(5.0, 9.0, ((1.0, 1.0, 0.0),)), "direction 0 has length 1.41421"),
        (lambda: MultiplePGSE(5.0, 9.0, (Z, Y), -1.0), "mixing is -1.0 ms"),
        (lambda: FreeWaveform(np.ones(0), np.zeros((0, 3))), "0 durations for 0 levels"),
        (lambda: FreeWaveform(np.zeros(2), np.zeros((2, 3))), "step 0 lasts 0.0 ms"),
        (
            lambda: Acquisition.of(FreeWaveform(np.ones(2), np.zeros((2, 3))), [1.0], [Z]),
            "profile is zero",
        ),
    ],
)
def test_impossible_sequences_are_refused(build, message):
    with pytest.raises(SequenceError, match=message):
        build()


def test_a_frame_that_is_no_turn_to_the_direction_is_refused():
    sequence = MultiplePGSE.planar(5.0, 12.0)
    reflection = torch.diag(torch.tensor([1.0, -1.0, 1.0])).double()[None]
    for frame in (reflection, torch.eye(3).double()[None, [1, 2, 0]]):
        with pytest.raises(SequenceError, match="frame of measurement 0 is not a rotation"):
            Acquisition.of(sequence, [1.0], [Z], frame)


def test_a_timing_without_sequence_is_refused():
    for sequences, timing in (((), 0), (EVERY[:2], 2), (EVERY[:2], -1)):
        with pytest.raises(SequenceError, match=rf"timings \[{timing}\] do not all number one"):
            Acquisition(sequences, torch.tensor([timing]), torch.zeros(1, 3).double())


def test_joined_acquisitions_keep_their_measurements():
    parts = [Acquisition.of(sequence, [1.0, 2.0], [Z, Y]) for sequence in EVERY]
    joined = Acquisition.joined([parts[0].rotated(torch.eye(3).double()), *parts[1:]])
    tensors = torch.cat([part.b_tensor for part in parts])
    assert torch.allclose(joined.b_tensor, tensors, rtol=1e-13, atol=1e-15)  # rounding
    picked = joined.select(torch.tensor([14, 3]))
    assert torch.allclose(picked.b_tensor, tensors[[14, 3]], rtol=1e-13, atol=1e-15)
