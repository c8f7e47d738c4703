"""Concentric layers with membranes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.special import jnp_zeros, jv, jvp, spherical_jn, spherical_yn, yv, yvp

from spinmesh.analytic import cylinder, free, multilayer_cylinder, multilayer_sphere, slab, sphere
from spinmesh.analytic.modes import TOLERANCE, free_along, split_gradient
from spinmesh.analytic.multilayer import _Layers, _modes, _radial_modes
from spinmesh.errors import ConfigError
from spinmesh.sequence import Acquisition
from spinmesh.tissue import Tissue

Z = (0.0, 0.0, 1.0)


def _tissue(D, kappa=0.0, t2=None, density=None, wall=0.0):
    """Layers 1, 2, ... of scalar diffusivities `D`, with the same kappa between all."""
    labels = tuple(range(1, len(D) + 1))
    eye = torch.eye(3, dtype=torch.float64)
    return Tissue(
        labels,
        torch.tensor(D, dtype=torch.float64)[:, None, None] * eye,
        torch.tensor(t2 or [np.inf] * len(D), dtype=torch.float64),
        torch.tensor(density or [1.0] * len(D), dtype=torch.float64),
        {(i, i + 1): kappa for i in labels[:-1]},
        {labels[-1]: wall},
    )


def _run(dimension, acquisition, radii, tissue, tolerance=TOLERANCE):
    if dimension == 2:
        return multilayer_cylinder(acquisition, radii, tissue, Z, tolerance)
    return multilayer_sphere(acquisition, radii, tissue, tolerance)


def _single(dimension, acquisition, radius, D):
    if dimension == 2:
        return cylinder(acquisition, radius, D, Z)
    return sphere(acquisition, radius, D)


def _rates(dimension, radii, tissue, order, degree=24):
    """Rates (1/ms) of the modes of one angular order."""
    layers = _Layers.of(radii, tissue, dimension)
    x, weight = np.polynomial.legendre.leggauss(80)
    half = np.diff(layers.bounds)[:, None] / 2
    r = layers.bounds[:-1, None] + half * (1 + x)
    return _radial_modes(layers, order, degree, r, half * weight * r ** (dimension - 1))[0]


both = pytest.mark.parametrize("dimension", [2, 3])


@pytest.mark.parametrize("order", [0, 1, 7])
def test_rates_of_one_layer_are_the_squares_of_scipys_bessel_roots(order):
    """D (j'_nk / R)^2 of J_n', n > 0 or not, beside the constant's zero rate."""
    roots = jnp_zeros(order, 6)
    rates = _rates(2, [1.5], _tissue([2.0]), order, 48)[int(order == 0) :]
    # Newton's table is good to about 1e-12 relative, the sixth mode of degree 48 to 1e-9.
    np.testing.assert_allclose(rates[:6], 2.0 * (roots / 1.5) ** 2, rtol=1e-9, atol=0)


def _bessel(dimension, order, k, r):
    """Both radial solutions and their slopes in r."""
    if dimension == 2:
        f = jv(order, k * r), yv(order, k * r)
        return f, (k * jvp(order, k * r), k * yvp(order, k * r))
    f = spherical_jn(order, k * r), spherical_yn(order, k * r)
    slopes = (
        spherical_jn(order, k * r, derivative=True),
        spherical_yn(order, k * r, derivative=True),
    )
    return f, (k * slopes[0], k * slopes[1])


@both
@pytest.mark.parametrize("order", [0, 1, 4])
def test_rates_are_roots_of_the_bessel_determinant(dimension, order):
    """D u' = kappa h (u2/rho2 - u1/rho1) on both sides and D u' = -kappa_out u outside.

    The three conditions on (J in the core; J and Y in the shell) have a solution only at a rate.
    """
    a, b, D, rho, t2 = 2.0, 3.5, (2.0, 0.7), (0.8, 1.3), (60.0, 25.0)
    kappa, wall = 0.15, 0.05
    h = 2 * rho[0] * rho[1] / sum(rho)
    tissue = _tissue(D, kappa, list(t2), list(rho), wall)

    def determinant(rate):
        k1, k2 = (((rate - 1 / t2[i]) / D[i]) ** 0.5 for i in (0, 1))
        (J1, _), (dJ1, _) = _bessel(dimension, order, k1, a)
        (J2, Y2), (dJ2, dY2) = _bessel(dimension, order, k2, a)
        (Jb, Yb), (dJb, dYb) = _bessel(dimension, order, k2, b)
        rows = [
            [
                D[0] * dJ1 + kappa * h * J1 / rho[0],
                -kappa * h * J2 / rho[1],
                -kappa * h * Y2 / rho[1],
            ],
            [D[0] * dJ1, -D[1] * dJ2, -D[1] * dY2],
            [0.0, D[1] * dJb + wall * Jb, D[1] * dYb + wall * Yb],
        ]
        return np.linalg.det(rows)

    rates = _rates(dimension, [a, b], tissue, order)
    slow = rates[(rates > 0.06) & (rates < 30.0)]  # above both 1/T2, so that k is real
    assert len(slow) >= 3
    for rate in slow:
        step = 1e-8 * rate  # the degree-24 polynomials give these rates to 1e-9 or better
        assert determinant(rate - step) * determinant(rate + step) < 0


@both
def test_equilibrium_rests_whatever_the_densities(dimension):
    tissue = _tissue([2.0, 0.5], 0.3, density=[0.4, 1.5])
    modes = _modes(_Layers.of([2.0, 3.0], tissue, dimension), 8)
    moving = modes.rate > 1e-10  # rounding of a rate that is 0
    assert int((~moving).sum()) == 1
    # rho is a polynomial, hence represented exactly: only rounding is left in the other modes.
    assert np.abs(modes.initial[moving]).max() < 1e-12 * np.abs(modes.initial).max()


@both
def test_sealed_layers_add_up(pgse, dimension):
    """kappa = 0, different D, T2 and density: each layer's signal alone, weighted by what it holds.

    A layer alone is the same body with next to nothing in the other one; the core alone is also
    the plain cylinder or sphere. The gradient is oblique, so the cylinder's pulses are ordered.
    """
    tolerance = 1e-7  # so the pulses are good to 1e-5, which the comparisons allow for
    acquisition = pgse([2.0], (1, 0, 0.5))
    radii, D, t2, rho = [2.0, 4.0], [2.0, 0.8], [40.0, 90.0], [0.7, 1.0]
    whole = _run(dimension, acquisition, radii, _tissue(D, 0.0, t2, rho), tolerance)
    volume = np.diff([0.0, *np.array(radii) ** dimension])
    held = volume * np.array(rho) * np.exp(-50.0 / np.array(t2))  # echo at 50 ms
    core, shell = (
        _run(dimension, acquisition, radii, _tissue(D, 0.0, None, density), tolerance)
        for density in ([1.0, 1e-12], [1e-12, 1.0])
    )
    expected = (held[0] * core + held[1] * shell) / held.sum()
    torch.testing.assert_close(whole, expected, rtol=0, atol=1e-5)
    single = _single(dimension, acquisition, 2.0, 2.0)
    torch.testing.assert_close(core, single, rtol=0, atol=1e-5)
    assert not torch.allclose(shell, single, atol=1e-2)


@both
def test_an_open_membrane_is_no_membrane(pgse, dimension):
    """kappa -> inf with equal D: the single body, with an error that falls like 1/kappa."""
    acquisition = pgse([1.0, 4.0])
    single = _single(dimension, acquisition, 5.0, 2.0)
    errors = [
        float(
            (_run(dimension, acquisition, [2.0, 5.0], _tissue([2.0, 2.0], k)) - single).abs().max()
        )
        for k in (1e2, 1e3)
    ]
    assert errors[1] < 1e-3
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.1)  # next order is (D/a)/kappa = 1e-2


@both
def test_uniform_relaxation_cancels(pgse, dimension):
    acquisition = pgse([1.0, 4.0])
    plain = _run(dimension, acquisition, [2.0, 4.0], _tissue([2.0, 1.0], 0.1))
    relaxing = _run(dimension, acquisition, [2.0, 4.0], _tissue([2.0, 1.0], 0.1, [30.0, 30.0]))
    torch.testing.assert_close(plain, relaxing, rtol=0, atol=1e-9)  # the refinement's tolerance


@both
def test_only_the_ratio_of_densities_matters(pgse, dimension):
    acquisition = pgse([1.0, 4.0])
    one, two = (
        _run(dimension, acquisition, [2.0, 4.0], _tissue([2.0, 1.0], 0.1, None, rho, 0.02))
        for rho in ([1.0, 0.5], [2.0, 1.0])
    )
    torch.testing.assert_close(one, two, rtol=0, atol=1e-9)


def test_along_the_axis_sealed_layers_are_free_each_on_its_own(pgse):
    acquisition = pgse([0.5, 2.0], Z)
    whole = multilayer_cylinder(acquisition, [2.0, 4.0], _tissue([2.0, 0.5]), Z, 1e-7)
    expected = 0.25 * free(acquisition, 2.0) + 0.75 * free(acquisition, 0.5)
    torch.testing.assert_close(whole, expected, rtol=0, atol=1e-5)  # a hundred tolerances


def test_along_the_axis_fast_exchange_averages_the_diffusivity(pgse):
    """Layers far thinner than sqrt(D t), wide open: exp(-b mean D), the mean over the spins."""
    acquisition = pgse([2.0], Z)
    rho, volume = np.array([1.0, 0.6]), np.array([0.25, 0.75])
    tissue = _tissue([2.0, 0.5], 1e2, None, rho.tolist())
    whole = multilayer_cylinder(acquisition, [0.4, 0.8], tissue, Z, 1e-6)
    held = rho * volume
    mean = float(held @ [2.0, 0.5] / held.sum())
    # Left over is q^4 (D1 - D2)^2 (r^2/D) t: at b = 2 about 5e-4 of the exponent times a number
    # under 1. Without exchange the attenuations would differ by 0.1.
    torch.testing.assert_close(whole, free(acquisition, mean), rtol=0, atol=5e-4)


def test_a_uniform_excess_is_the_free_factor(pgse):
    """The ordered pulses, across and along at once: equal D makes the factor exact."""
    modes = _modes(_Layers.of([2.0], _tissue([2.0]), 2), 6)
    excess = 1.5 * np.eye(len(modes.rate))
    acquisition = pgse([1.0], (1, 0, 0.5))
    across, along = (float(g[0]) for g in split_gradient(acquisition, Z))
    sequence = acquisition.sequences[0]
    ordered = replace(modes, excess=excess).attenuation(sequence, across, along, 1e-11)
    factor = float(free_along(acquisition, np.array([along]), 1.5)[0])
    plain = modes.attenuation(sequence, across, 0.0, 1e-11)
    assert ordered == pytest.approx(plain * factor, abs=1e-9)  # a hundred tolerances


@both
def test_spindoctors_mesh_agrees_within_its_own_error(spindoctor, dimension):
    """Straight linear tets, 1,671 and 1,129 nodes: 1.25e-2 and 9.4e-3 of error, all of one sign.

    Those are the mesh's (the sphere's figure is also its distance from the exact oracle): facets
    cut the walls, so the bodies are smaller, and linear elements diffuse too slowly. It is too
    coarse to judge kappa by its signals; the next test and the Bessel determinants do that.
    """
    if dimension == 3:
        acquisition, theirs, _ = spindoctor("sphere_r5_default")
        ours, bound = multilayer_sphere(acquisition, [5.0], _tissue([2.0])), 9.5e-3
    else:
        acquisition, theirs, _ = spindoctor("cyl2_r2r4_h20_k1e-4_default")
        across, along = (
            replace(acquisition, gradient=acquisition.gradient * torch.tensor(keep))
            for keep in ((1.0, 1.0, 0.0), (0.0, 0.0, 1.0))
        )
        # The mesh is 20 um long: the ends make a slab, and equal D lets the two factors separate.
        ours = multilayer_cylinder(across, [2.0, 4.0], _tissue([2.0, 2.0], 0.1), Z)
        ours, bound = ours * slab(along, 20.0, 2.0, Z), 1.3e-2
    difference = theirs - ours.numpy()
    assert np.abs(difference).max() < bound
    assert difference.min() > -2e-4  # the sign above; 1.3e-4 is the mesh's error along z


def test_exchange_is_as_fast_as_in_spindoctor(spindoctor):
    """The slowest mode of order 0 empties one layer into the other; kappa sets its rate."""
    _, _, theirs = spindoctor("cyl2_r2r4_h20_k1e-4_default")
    ours = _rates(2, [2.0, 4.0], _tissue([2.0, 2.0], 0.1), 0)[1]
    closest = theirs[np.abs(theirs - ours).argmin()]
    # The rate goes with surface/volume, which the mesh has 2.2 % too high (the prism's against the
    # cylinder's, inner compartment). Twice the kappa would give almost twice the rate.
    assert closest == pytest.approx(ours, rel=0.04)
    assert closest > ours


@both
@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    core=st.floats(0.5, 3.0),
    thickness=st.floats(0.2, 3.0),
    D=st.tuples(st.floats(0.3, 3.0), st.floats(0.3, 3.0)),
    kappa=st.floats(0.0, 5.0),
    wall=st.floats(0.0, 0.2),
    b=st.floats(0.1, 5.0),
)
def test_attenuation_lies_between_zero_and_one(pgse, dimension, core, thickness, D, kappa, wall, b):
    tissue = _tissue(list(D), kappa, [80.0, 50.0], [1.0, 0.7], wall)
    signal = float(_run(dimension, pgse([b]), [core, core + thickness], tissue)[0])
    assert 0 < signal < 1


def test_turning_axis_and_gradient_together_changes_nothing(pgse):
    turn = torch.linalg.qr(torch.arange(9.0, dtype=torch.float64).reshape(3, 3) ** 2)[0]
    acquisition = pgse([0.5, 4.0], (2, 1, 1))
    tissue = _tissue([2.0, 2.0], 0.1)
    before = multilayer_cylinder(acquisition, [2.0, 4.0], tissue, Z)
    axis = (turn @ turn.new_tensor(Z)).numpy()
    after = multilayer_cylinder(acquisition.rotated(turn), [2.0, 4.0], tissue, axis)
    torch.testing.assert_close(before, after, rtol=0, atol=1e-9)  # strengths rounded at 1e-10 mT/m


def test_layers_that_make_no_body_are_refused(pgse):
    acquisition, tissue = pgse([1.0]), _tissue([2.0, 1.0, 1.0])
    with pytest.raises(ConfigError, match="increasing"):
        multilayer_sphere(acquisition, [2.0, 1.0, 3.0], tissue)
    with pytest.raises(ConfigError, match="neighbours"):
        multilayer_sphere(acquisition, [1.0, 2.0, 3.0], replace(tissue, permeability={(1, 3): 1.0}))
    with pytest.raises(ConfigError, match="wall"):
        multilayer_sphere(acquisition, [1.0, 2.0, 3.0], replace(tissue, wall_permeability={1: 1.0}))
    with pytest.raises(ConfigError, match="scalar"):
        anisotropic = Tissue.uniform(torch.diag(torch.tensor([1.0, 1.0, 2.0])))
        multilayer_sphere(Acquisition.pgse([1.0], [[1, 0, 0]], 5, 20), [1.0], anisotropic)
