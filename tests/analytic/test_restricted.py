"""Slab, cylinder and sphere: one layer with a reflecting wall."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import j1, jnp_zeros, spherical_jn

from spinmesh.analytic import cylinder, slab, sphere
from spinmesh.errors import ConfigError, ReductionError
from spinmesh.units import GAMMA

Z = (0.0, 0.0, 1.0)
quick = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def _bodies(D=2.0):
    """Each geometry as a function of acquisition and size, restricted along x."""
    return {
        "slab": lambda a, size: slab(a, size, D, (1, 0, 0)),
        "cylinder": lambda a, size: cylinder(a, size, D, Z),
        "sphere": lambda a, size: sphere(a, size, D),
    }


def test_signals_equal_the_oracle(exact):
    geometry, acquisition, signal = exact
    if geometry == "sphere":
        ours = sphere(acquisition, 5.0, 2.0)
    else:
        ours = cylinder(acquisition, 2.0, 2.0, Z)
    # The oracle states 1e-8 and so do we; ten times the sum's half leaves no room for a bug.
    np.testing.assert_allclose(ours, signal, rtol=0, atol=1e-7)


@pytest.mark.parametrize("qL", [1.0, 4.0, 9.0])
def test_short_pulses_give_the_slab_series(strength, qL):
    """Tanner & Stejskal, J. Chem. Phys. 49 (1968): two planes, any Delta, delta -> 0."""
    L, D, delta, Delta = 5.0, 2.0, 1e-6, 6.0
    n = np.arange(1, 50)
    decay = np.exp(-((n * np.pi / L) ** 2) * D * Delta)
    series = 2 * (1 - np.cos(qL)) / qL**2 + 4 * qL**2 * np.sum(
        decay * (1 - (-1.0) ** n * np.cos(qL)) / (qL**2 - (n * np.pi) ** 2) ** 2
    )
    signal = slab(strength(qL / L / delta, delta, Delta), L, D, (1, 0, 0), tolerance=1e-6)
    # Spins move sqrt(2 D delta) = 2e-3 um during the pulse, 4e-4 of L; only those that meet a wall
    # matter, which is again that fraction. The basis is asked for 1e-6.
    assert float(signal[0]) == pytest.approx(series, abs=5e-6)


@pytest.mark.parametrize("qR", [0.5, 2.0, 4.0])
def test_short_pulses_far_apart_give_the_form_factor(strength, qR):
    """delta -> 0, Delta -> inf: (2 J_1(x)/x)^2 and (3 j_1(x)/x)^2 (Callaghan 1991)."""
    R, D, delta = 3.0, 2.0, 1e-3
    acquisition = strength(qR / R / delta, delta, 200.0)
    # sqrt(2 D delta)/R = 2e-2, squared as above; the gradient is too strong for more than 1e-5.
    disk = float(cylinder(acquisition, R, D, Z, tolerance=1e-5)[0])
    ball = float(sphere(acquisition, R, D, tolerance=1e-5)[0])
    assert disk == pytest.approx((2 * j1(qR) / qR) ** 2, abs=5e-4)
    assert ball == pytest.approx((3 * spherical_jn(1, qR) / qR) ** 2, abs=5e-4)


def _roots_of_j1_slope(count):
    """The first `count`; neighbours are about pi apart, so that each interval holds one."""

    def slope(x):
        return spherical_jn(1, x, derivative=True)

    return np.array([brentq(slope, np.pi * k - 2, np.pi * k + 1) for k in range(1, count + 1)])


def _van_gelderen(roots, square, dimension, delta, Delta):
    """Second cumulant per (gamma g)^2, D = R = 1; van Gelderen et al., J. Magn. Reson. B 1994."""
    a2 = roots**2
    bracket = (
        2 * a2 * delta
        - 2
        + 2 * np.exp(-a2 * delta)
        + 2 * np.exp(-a2 * Delta)
        - np.exp(-a2 * (Delta - delta))
        - np.exp(-a2 * (Delta + delta))
    )
    return np.sum(2 * bracket / (a2**3 * (a2 - dimension + 1)))


@pytest.mark.parametrize("dimension", [2, 3])
def test_the_slope_at_small_b_is_the_gaussian_phase_adc(strength, dimension):
    roots = jnp_zeros(1, 60) if dimension == 2 else _roots_of_j1_slope(60)
    R, D, delta, Delta = 4.0, 1.7, 5.0, 12.0
    scale = R**6 / D**2
    second = scale * _van_gelderen(roots, None, dimension, delta * D / R**2, Delta * D / R**2)
    # -ln S = second (gamma g)^2 + O(g^4): at ln S = -1e-3 the relative rest is under 1e-3, and
    # two strengths extrapolate it away; 1e-9 in S is then 1e-6 in the slope.
    slopes = []
    for log in (1e-3, 2e-3):
        gamma_g = (log / second) ** 0.5
        a = strength(gamma_g, delta, Delta)
        signal = cylinder(a, R, D, Z) if dimension == 2 else sphere(a, R, D)
        slopes.append(float(-signal.log()) / gamma_g**2)
    assert 2 * slopes[0] - slopes[1] == pytest.approx(second, rel=5e-6)


@pytest.mark.parametrize(
    ("body", "rate"), [("slab", 1 / 120), ("cylinder", 7 / 96), ("sphere", 8 / 175)]
)
def test_long_pulses_narrow_to_the_known_rates(strength, body, rate):
    """-d ln S / d(2 delta) -> rate (gamma g)^2 size^4 / D: Robertson 1966, Neuman 1974."""
    size, D, gamma_g = 3.0, 2.0, 0.01
    run = _bodies(D)[body]
    low, high = (-run(strength(gamma_g, d, d + 40.0), size).log() for d in (40.0, 60.0))
    expected = rate * gamma_g**2 * size**4 / D
    # The pulses' ends cancel in the difference. Left over: the fourth order, relative
    # (gamma g size^3 / D)^2 ~ 2e-2 times a small number (1e-4 measured).
    assert float(high - low) / 40.0 == pytest.approx(expected, rel=5e-4)


@pytest.mark.parametrize("body", ["slab", "cylinder", "sphere"])
@quick
@given(
    size=st.floats(0.2, 6.0),
    b=st.floats(0.0, 10.0),
    delta=st.floats(2.0, 20.0),
    gap=st.floats(0.0, 30.0),
)
def test_attenuation_lies_between_the_free_one_and_one(pgse, body, size, b, delta, gap):
    """Walls only hold spins back: exp(-b D) <= S <= 1 for D = 2."""
    signal = float(_bodies()[body](pgse([b], delta=delta, Delta=delta + gap), size)[0])
    assert 0 < signal <= 1 + 1e-12  # rounding
    assert signal >= np.exp(-2 * b) - 1e-8  # the stated accuracy


@pytest.mark.parametrize("body", ["slab", "cylinder", "sphere"])
@quick
@given(size=st.floats(0.3, 2.0), factor=st.floats(1.05, 2.0), b=st.floats(0.5, 5.0))
def test_a_wider_body_attenuates_more_while_motion_narrows(pgse, body, size, factor, b):
    run = _bodies()[body]
    narrow, wide = (float(run(pgse([b], delta=15.0), s)[0]) for s in (size, size * factor))
    assert wide < narrow


def test_turning_the_gradient_about_the_axis_changes_nothing(pgse):
    acquisition = pgse([0.5, 4.0], (2, 1, 1))
    c, s = np.cos(0.7), np.sin(0.7)
    turn = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]], dtype=torch.float64)
    before, after = (cylinder(a, 4.0, 2.0, Z) for a in (acquisition, acquisition.rotated(turn)))
    torch.testing.assert_close(before, after, rtol=0, atol=1e-9)  # strengths rounded at 1e-10 mT/m


def test_turning_axis_and_gradient_together_changes_nothing(pgse):
    turn = torch.linalg.qr(torch.arange(9.0, dtype=torch.float64).reshape(3, 3) ** 2)[0]
    acquisition = pgse([0.5, 4.0], (2, 1, 1))
    turned = cylinder(acquisition.rotated(turn), 4.0, 2.0, (turn @ turn.new_tensor(Z)).numpy())
    torch.testing.assert_close(turned, cylinder(acquisition, 4.0, 2.0, Z), rtol=0, atol=1e-9)


def test_the_order_of_measurements_is_kept(pgse):
    acquisition = pgse([4.0, 0.0, 1.0, 4.0, 2.0])
    signal = sphere(acquisition, 3.0, 2.0)
    assert signal.argsort()[-3:].tolist() == [4, 2, 1]  # largest last
    assert signal[0] == signal[3]
    assert signal[1] == 1.0


def test_pulses_may_touch(pgse):
    """Delta = delta: the gap is empty, not an error; and continuous from just above."""
    touching, apart = (
        cylinder(pgse([2.0], delta=10.0, Delta=Delta), 4.0, 2.0, Z) for Delta in (10.0, 10.0 + 1e-7)
    )
    torch.testing.assert_close(touching, apart, rtol=0, atol=1e-7)  # slope in Delta is below 1


def test_a_gradient_beyond_the_basis_is_an_error_not_a_number(strength):
    a = strength(1e4 * GAMMA, 5.0, 5.0)  # 10 T/m over 100 um
    with pytest.raises(ReductionError, match="Lower the gradient"):
        slab(a, 5000.0, 2.0, (1, 0, 0))


def test_impossible_bodies_are_refused(pgse):
    with pytest.raises(ConfigError, match="increasing"):
        sphere(pgse([1.0]), -1.0, 2.0)
    with pytest.raises(ConfigError, match="increasing"):
        slab(pgse([1.0]), float("inf"), 2.0, Z)
    with pytest.raises(ConfigError, match="diffusivity"):
        cylinder(pgse([1.0]), 1.0, float("nan"), Z)
    with pytest.raises(ConfigError, match="not zero"):
        cylinder(pgse([1.0]), 1.0, 2.0, (0, 0, 0))
