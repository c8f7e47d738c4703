"""Nonlinear equations: derivatives, limit laws, invertible steps, bounded reverse steps."""

import math
from inspect import isabstract

import numpy as np
import pytest
import torch
from scipy import stats
from torch.func import grad, jacrev, jvp, vmap

from spinmesh.errors import ConfigError
from spinmesh.scores import equation_named, malliavin, nonlinear, samplers
from spinmesh.scores.equations import (
    CHAIN_STEPS,
    ChainEquation,
    LinearEquation,
    normal_like,
)
from spinmesh.scores.nonlinear import EQUATIONS
from spinmesh.settings.synthesise import LINEAR
from tests.scores.coupled_drift import CoupledDrift

F64 = torch.float64
ZERO = torch.zeros((), dtype=F64)
WELLS = [
    nonlinear.DoubleWell(rate=1.3),
    nonlinear.student_t(4.0, 0.6, 0.2, 0.8),
    nonlinear.RationalDrift(0.9, -0.3, 0.7),
    nonlinear.OwnDrift(lambda x: torch.sin(x) - x, 0.8),
]
LOCAL = [torch.ones(())] * 20


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("well", WELLS, ids=lambda e: type(e).__name__)
def test_a_step_comes_with_its_first_two_derivatives(well):
    x = torch.linspace(-2, 2, 21, dtype=F64)
    one = torch.ones_like(x)
    _, J, H = well.flow(x, ZERO, 0.1)
    _, slope = jvp(lambda y: well.flow(y, ZERO, 0.1)[0], (x,), (one,))
    _, curvature = jvp(lambda y: well.flow(y, ZERO, 0.1)[1], (x,), (one,))
    # Two roads through the same few operations of float64.
    torch.testing.assert_close(J, slope, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(H, curvature, rtol=1e-11, atol=1e-11)


def test_the_rational_drift_is_that_of_the_paper():
    x, k, a = torch.linspace(-5, 5, 31, dtype=F64), 0.9, -0.3
    drift = nonlinear.RationalDrift(k, a, 0.7).drift(x, ZERO)
    torch.testing.assert_close(drift, -k * (x - a) / (1 + (x - a) ** 2), rtol=1e-12, atol=0)
    with pytest.raises(ConfigError, match="no limit law"):
        nonlinear.RationalDrift(0.5, 0.0, 1.0)


@pytest.mark.parametrize("well", WELLS, ids=lambda e: type(e).__name__)
def test_the_prior_is_the_limit_law(well):
    """exp(int 2 b / sigma^2), by quadrature; for the rational drift that is Student's t."""
    x = torch.linspace(-60, 60, 240_001, dtype=F64)
    log_density = torch.cumulative_trapezoid(2 / well.sigma**2 * well.drift(x, ZERO), x)
    mass = torch.exp(log_density - log_density.max()).cumsum(0)
    law = (mass / mass[-1]).numpy()
    if isinstance(well, nonlinear.RationalDrift):
        nu = 2 * well.k / well.sigma**2 - 1
        student = stats.t(nu, well.centre, well.width * nu**-0.5).cdf(x[1:].numpy())
        # Trapezia of 5e-4, and the tails beyond 60: (0.4 / 60)^2.7 of them.
        np.testing.assert_allclose(law, student, atol=2e-4)
    drawn = well.prior(torch.zeros(4000, dtype=F64), seeded(2)).numpy()
    # The chain's variance is a few per cent larger, which 4000 numbers cannot tell.
    for factor, same in ((1.0, True), (1.25, False)):
        cdf = lambda v: np.interp(v, x[1:].numpy(), law)  # noqa: E731
        assert (stats.kstest(factor * drawn, cdf).pvalue > 1e-3) == same


def test_the_pull_of_allen_cahn_is_that_of_its_dense_jacobian():
    field = nonlinear.AllenCahn(0.4, 1.2, 0.7)
    x, delta = torch.randn(2, 3, 4, 6, dtype=F64, generator=seeded(3))

    def move(flat):
        return field.move(flat.reshape(4, 6), ZERO, 0.1).flatten()

    def log_det(flat):
        return torch.linalg.slogdet(jacrev(move)(flat))[1]

    flat = x.flatten(1)
    J = vmap(jacrev(move))(flat)
    right = delta.flatten(1) + vmap(grad(log_det))(flat)
    dense = torch.linalg.solve(J.mT, right[..., None])[..., 0]
    own = field.pull(x, delta, ZERO, 0.1).flatten(1)
    # Condition number exp(0.04 x 20) = 2: rounding of 24 numbers.
    torch.testing.assert_close(own, dense, rtol=1e-10, atol=1e-10)


def test_one_allen_cahn_step_is_the_drift_to_second_order():
    field = nonlinear.AllenCahn(0.4, 1.2, 0.7)
    x, errors = torch.randn(1, 8, 8, dtype=F64, generator=seeded(3)), []
    for h in (0.02, 0.01, 0.005):
        step = field.move(x, ZERO, h) - x - h * field.drift(x, ZERO)
        errors.append(float(step.abs().max()))
    # A local error of h^2 falls by 4.
    assert all(3.5 < errors[i] / errors[i + 1] < 4.5 for i in (0, 1))


@pytest.mark.slow
def test_allen_cahn_weight_obeys_integration_by_parts_with_little_variance():
    """E[delta_p f(X)] = E[d_p f(X)] with f = X_p^3 and X_q^2 X_p, at every pixel."""
    field, times = nonlinear.AllenCahn(), torch.linspace(0, 0.5, 11, dtype=F64)
    start = torch.where(torch.rand(8, 8, generator=seeded(1)) > 0.5, 1.0, -1.0).to(F64)
    x0 = start.expand(20_000, 8, 8)
    gains = [K for *_, K in malliavin.bismut_chain(field, x0[:2000], times, seeded(2))]
    assert gains[5].shape == (8, 5)  # One per Fourier mode.
    *_, (x, delta, _) = malliavin.bismut_chain(field, x0, times, seeded(3), gains)
    for f, df in ((x**3, 3 * x**2), (x * x.roll(1, 1) ** 2, x.roll(1, 1) ** 2)):
        error = delta * f - df
        z = error.mean(0) / (error.std(0) / 20_000**0.5)
        # 64 correlated z-scores: their mean square is 1 +- 0.18 or a little more.
        assert z.square().mean() < 1.8
    *_, (_, local, _) = malliavin.bismut_chain(field, x0, times, seeded(3), LOCAL)
    assert delta.var(0).mean() < 0.5 * local.var(0).mean()


def test_a_step_that_cannot_be_inverted_is_refused():
    x0 = torch.linspace(-1.5, 1.5, 5, dtype=F64)[:, None]
    times = torch.tensor([0.0, 0.1, 0.9], dtype=F64)
    coupled = CoupledDrift(lambda x: x - x**3, 0.7)
    for equation in (nonlinear.OwnDrift(lambda x: x - x**3, 0.7), coupled):
        with pytest.raises(ConfigError, match=r"0\.8 is not invertible"):
            list(malliavin.bismut_chain(equation, x0, times, seeded(0), LOCAL))


def test_the_cubic_flow_is_a_flow_with_its_derivatives():
    """Two half steps are one, the first is the drift's to second order, and J > 0 at any length."""
    y, one = torch.linspace(-4, 4, 33, dtype=F64), torch.ones(33, dtype=F64)
    whole, slope, curvature = nonlinear.cubic_flow(y, 0.8)
    halves = nonlinear.cubic_flow(nonlinear.cubic_flow(y, 0.4)[0], 0.4)[0]
    torch.testing.assert_close(whole, halves, rtol=1e-12, atol=1e-12)  # A few roundings.
    for k, derivative in enumerate((slope, curvature)):
        numeric = jvp(lambda x, k=k: nonlinear.cubic_flow(x, 0.8)[k], (y,), (one,))[1]
        torch.testing.assert_close(numeric, derivative, rtol=1e-11, atol=1e-11)
    # h^2 / 2 times b b', which is 60 x 47 at the ends.
    gap = nonlinear.cubic_flow(y, 1e-5)[0] - y - 1e-5 * (y - y**3)
    assert gap.abs().max() < 1e-10 / 2 * 60 * 47 * 1.1
    assert bool((nonlinear.cubic_flow(y, 5.0)[1] > 0).all())


@pytest.mark.slow
def test_the_prior_is_the_limit_of_the_chain_not_of_the_equation():
    """At the horizon steps are long: the chain's own variance is several per cent larger."""
    well = nonlinear.DoubleWell(1.0, 1.2, 6.0)
    x = well.prior(torch.zeros(20_000, dtype=F64), seeded(1))
    *_, (again, _) = malliavin.forward_chain(well, x, well.grid(CHAIN_STEPS), seeded(3))
    # Variances of 20,000 numbers: 0.8 % each.
    assert abs(float(again.var() / x.var()) - 1) < 0.04
    fine, _ = malliavin.simulate_weight(well, x, 600, 6.0, seeded(2))
    assert float(x.var() / fine.var()) > 1.05


def test_reverse_steps_of_a_cubic_drift_stay_bounded(monkeypatch):
    """Without taming the same steps overflow."""
    well = nonlinear.DoubleWell()
    times = torch.linspace(2, 0.1, 20, dtype=F64)
    x = torch.tensor([30.0, -8.0, 1.0], dtype=F64)
    out = samplers.euler_maruyama(well, well.base_score, x, times, seeded(0))
    # Each of 19 steps goes no farther than 1 towards the wells, plus noise of 0.2.
    assert out.abs().max() < 30 and out[1].abs() < 3
    monkeypatch.setattr(samplers, "tamed", lambda sde, increment: increment)
    burst = samplers.euler_maruyama(well, well.base_score, x, times, seeded(0))
    assert not bool(torch.isfinite(burst).all())


def test_splitting_holds_where_explicit_steps_are_thrown_out():
    """With the score of the limit law the reverse is the chain itself, whatever the step."""
    well = nonlinear.DoubleWell(1.0, 0.7, 3.0)
    times = torch.tensor([3.0, 2.75, 2.5], dtype=F64)  # h |b'| is 2.75 at x = 2.
    x = torch.linspace(-30, 30, 7, dtype=F64)
    back = samplers.splitting(well, well.base_score, x, times, seeded(4))
    chain, noise = x, seeded(4)
    for t in times[1:]:
        chain = well.move(chain, t, 0.25) + well.kick(t, 0.25) * normal_like(chain, noise)
    torch.testing.assert_close(back, chain, rtol=0, atol=1e-10)  # 2b/g^2 is subtracted from itself
    assert back.abs().max() < 3
    # A constant excess of c for the time h adds g^2 c h, tamed.
    off = samplers.splitting(well, lambda x, t: well.base_score(x, t) + t, x, times[:2], seeded(4))
    one = samplers.splitting(well, well.base_score, x, times[:2], seeded(4))
    pushed = 0.7**2 * 3.0 * 0.25
    torch.testing.assert_close(off - one, torch.full_like(x, pushed / (1 + pushed**2) ** 0.5))


def test_every_equation_states_what_it_is():
    """It can be called by name, has a grid and a prior, and a denoiser if it is linear."""
    like = torch.zeros(2, 8, 8, dtype=F64)
    for name in EQUATIONS:
        sde = equation_named(name)
        assert isinstance(sde, ChainEquation)
        assert (name in LINEAR) == isinstance(sde, LinearEquation)
        times = sde.grid(10)
        assert len(times) == 11 and times[0] == 0 and bool((times.diff() > 0).all())
        assert math.isclose(float(times[-1]), sde.horizon, rel_tol=1e-9)
        assert sde.prior(like, seeded(0)).shape == like.shape


def test_an_equation_overrides_nothing_that_is_not_abstract():
    """House rule 2: what a final class says is the whole of what it says."""
    for sde in (*(equation_named(name) for name in EQUATIONS), WELLS[3]):
        for base in type(sde).__mro__[1:-1]:
            concrete = set(vars(base)) - base.__abstractmethods__ if isabstract(base) else set()
            overridden = {
                name
                for name in concrete & set(vars(type(sde)))
                if not name.startswith("_") and name != "horizon"
            }
            assert not overridden, f"{type(sde).__name__}: {overridden} of {base.__name__}"


def test_bad_numbers_are_refused():
    for name, parameters in (("double-well", {"sigma": 0.0}), ("allen-cahn", {"kappa": -1.0})):
        with pytest.raises(ConfigError, match="positive"):
            equation_named(name, parameters)
    with pytest.raises(ConfigError, match="each later"):
        list(malliavin.bismut_chain(WELLS[0], torch.zeros(2), torch.zeros(3), seeded(0), []))
