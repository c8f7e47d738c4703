"""The weights that training regresses: closed form, unbiasedness, and a control that must fail."""

import math

import pytest
import torch

from spinmesh.errors import ConfigError
from spinmesh.scores import equations, malliavin, nonlinear
from spinmesh.settings.synthesise import ScoreTraining
from tests.scores.coupled_drift import CoupledDrift
from tests.scores.matrix_weight import MatrixWeight

F64 = torch.float64
LINEAR = [equations.VE(0.05, 5.0), equations.VP(), equations.SubVP()]


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("equation", LINEAR, ids=lambda e: type(e).__name__)
def test_all_weights_of_a_linear_chain_are_the_closed_form(equation):
    """A scalar, A matrix and C with K = a^2/gamma equal gamma^-1 (X - Y X0) of the chain."""
    times = torch.linspace(0, 1, 41, dtype=F64)
    h, one = float(times[1]), torch.ones((), dtype=F64)
    J = [equation.flow(one, t, h)[1] for t in times[:-1]]
    a = [equation.kick(t, h) for t in times[:-1]]
    x0 = torch.randn(50, 3, dtype=F64, generator=seeded(1))
    *_, (x, scalar) = malliavin.forward_chain(equation, x0, times, seeded(2))
    # The other roads see the same increments.
    Y, gamma, gains, eye = 1.0, 0.0, [], torch.eye(3, dtype=F64)
    matrix, generator = MatrixWeight.start(x0), seeded(2)
    for n in range(40):
        xi = torch.randn(x0.shape, dtype=F64, generator=generator)
        Y, gamma = J[n] * Y, J[n] ** 2 * gamma + a[n] ** 2
        gains.append(a[n] ** 2 / gamma)
        full = (J[n] * eye).expand(50, 3, 3)
        matrix = matrix.step(full, x0.new_zeros(50, 3, 3, 3), a[n] * eye, xi)
    *_, (same, running, _) = malliavin.bismut_chain(equation, x0, times, seeded(2), gains)
    assert torch.equal(x, same)
    closed = (x - Y * x0) / gamma
    # 40 steps of float64 rounding on numbers of order 10.
    for weight in (scalar.delta, matrix.delta, running):
        torch.testing.assert_close(weight, closed, rtol=1e-10, atol=1e-10)
    # The step is exact, so gamma and Y are those of the equation.
    torch.testing.assert_close(gamma, equation.gamma(one), rtol=1e-10, atol=0)
    torch.testing.assert_close(Y, equation.mean_factor(one), rtol=1e-10, atol=0)


def test_matrix_weight_of_a_diagonal_drift_is_the_scalar_one():
    """The curved terms as well: three independent cubic coordinates."""
    equation, h, xi = nonlinear.DoubleWell(), 0.02, torch.empty(20, 3, dtype=F64)
    x = torch.randn(20, 3, dtype=F64, generator=seeded(4))
    scalar, matrix = malliavin.ElementwiseWeight.start(x), MatrixWeight.start(x)
    a, eye, t = 0.7 * math.sqrt(h), torch.eye(3, dtype=F64), torch.zeros((), dtype=F64)
    generator = seeded(5)
    for _ in range(30):
        xi = torch.randn(x.shape, dtype=F64, generator=generator)
        J, H = 1 + h * (1 - 3 * x**2), -6 * h * x
        third = torch.einsum("nj,jp,jq->njpq", H, eye, eye)
        scalar = scalar.step(J, H, torch.tensor(a, dtype=F64), xi)
        matrix = matrix.step(torch.diag_embed(J), third, a * eye, xi)
        x = x + h * equation.drift(x, t) + a * xi
    # 30 steps of float64 rounding; the inverse of a diagonal matrix adds none.
    torch.testing.assert_close(matrix.delta, scalar.delta, rtol=1e-10, atol=1e-10)
    assert (scalar.delta - scalar.ito).abs().mean() > 0.1  # The curved terms are not small.


@pytest.mark.parametrize("equation", LINEAR, ids=lambda e: type(e).__name__)
def test_gamma_solves_its_differential_equation(equation):
    """gamma' = 2 b' gamma + g^2 and Y' = b' Y; time_of inverts the noise level."""
    t = torch.linspace(0.05, 1, 20, dtype=F64)
    step = 1e-5  # central difference: error step^2 x third derivative, about 1e-7 relative.
    slope = -0.5 * equation.beta(t)
    numeric = (equation.gamma(t + step) - equation.gamma(t - step)) / (2 * step)
    exact = 2 * slope * equation.gamma(t) + equation.noise(t) ** 2
    torch.testing.assert_close(numeric, exact, rtol=1e-6, atol=1e-8)
    numeric = (equation.mean_factor(t + step) - equation.mean_factor(t - step)) / (2 * step)
    torch.testing.assert_close(numeric, slope * equation.mean_factor(t), rtol=1e-6, atol=1e-8)
    # Ten roundings of float64; the VP square root loses a few digits at most.
    torch.testing.assert_close(equation.time_of(equation.noise_level(t)), t, rtol=1e-10, atol=0)


def chain_density(equation, x0, steps, end, edges):
    """Density of the chain at `edges`, by Chapman-Kolmogorov quadrature on a fine grid."""
    h = end / steps
    a = float(equation.noise(torch.zeros(()))) * math.sqrt(h)
    # Trapezoid on a grid of spacing << a converges faster than any power.
    grid = torch.linspace(-3.5, 3.5, int(7 / (a / 6)), dtype=F64)
    mean = equation.move(grid, grid, h)

    def kernel(y, centre):
        z = (y[:, None] - centre) / a
        return torch.exp(-0.5 * z**2) / (a * math.sqrt(2 * math.pi))

    first = torch.tensor([x0], dtype=F64)
    p = kernel(grid, equation.move(first, first, h))[:, 0]
    step = kernel(grid, mean) * (grid[1] - grid[0])
    for _ in range(steps - 2):
        p = step @ p
    return kernel(edges, mean) @ p * (grid[1] - grid[0])


def bin_z_scores(x, delta, equation, x0, steps, end):
    """z of the binned mean of delta: E[delta 1(l < X < r)] = p(l) - p(r), exactly."""
    edges = torch.quantile(x[:100_000], torch.linspace(0.02, 0.98, 25, dtype=F64))
    p = chain_density(equation, x0, steps, end, edges)
    inside = torch.bucketize(x, edges)
    z = []
    for k in range(1, len(edges)):
        value = delta * (inside == k)
        error = value.mean() - (p[k - 1] - p[k])
        z.append(error / (value.std() / len(x) ** 0.5))
    return torch.stack(z)


def cubic_z_rms(paths, end, steps):
    """rms over 24 bins for weight A and for its Ito part alone."""
    equation, x0 = nonlinear.DoubleWell(), 0.4
    generator = torch.Generator().manual_seed(7)
    start = torch.full((paths,), x0, dtype=F64)
    x, weight = malliavin.simulate_weight(equation, start, steps, end, generator)
    exact = bin_z_scores(x, weight.delta, equation, x0, steps, end)
    ito = bin_z_scores(x, weight.ito, equation, x0, steps, end)
    return float(exact.square().mean().sqrt()), float(ito.square().mean().sqrt())


def test_weight_of_a_cubic_drift_is_unbiased_and_its_ito_part_is_not():
    """Against the exact density of the chain at t = 0.3, dX = (X - X^3) dt + 0.7 dB."""
    exact, ito = cubic_z_rms(paths=400_000, end=0.3, steps=15)
    # rms of 24 z-scores: 1 +- 0.14; four deviations either way.
    assert 0.45 < exact < 1.5
    assert ito > 5


@pytest.mark.slow
@pytest.mark.parametrize("end", [0.1, 2.0])
def test_weight_of_a_cubic_drift_is_unbiased_early_and_late(end):
    # Only the Ito bias of 1 % at t = 0.1 takes two million paths to see.
    paths = 2_000_000 if end < 0.2 else 400_000
    exact, ito = cubic_z_rms(paths=paths, end=end, steps=round(end / 0.02))
    assert 0.45 < exact < 1.55
    assert ito > (1.6 if end < 0.2 else 4)  # The Ito bias is only 1 % at t = 0.1.


TURN = torch.tensor([[1.0, -2.0], [2.0, 1.0]], dtype=F64)


def hopf(x, h):
    """Step, Jacobian, Hessian and grad log|det J| of a rotating, non-gradient 2-D drift."""
    r2 = (x**2).sum(-1)
    eye = torch.eye(2, dtype=F64)
    step = x + h * (x @ TURN.T - r2[:, None] * x)
    J = eye + h * (TURN - r2[:, None, None] * eye - 2 * x[:, :, None] * x[:, None, :])
    # d_p d_q (r2 x_j) = 2 (x_p delta_jq + x_q delta_jp + x_j delta_pq)
    H = torch.einsum("np,jq->njpq", x, eye)
    H = -2 * h * (H + H.transpose(2, 3) + torch.einsum("nj,pq->njpq", x, eye))
    log_det = torch.einsum("nji,nijp->np", torch.linalg.inv(J), H)
    return step, J, H, log_det


@pytest.mark.slow
def test_coupled_drift_obeys_integration_by_parts():
    """E[delta_k f(X)] = E[d_k f(X)] for cubic test functions; A (matrix) and C, Hopf drift."""
    h, a, n = 0.05, 0.6 * math.sqrt(0.05), 30_000
    x = x0 = torch.tensor([[0.5, 0.2]], dtype=F64).expand(n, 2)
    weight, running, generator = MatrixWeight.start(x), 0 * x, seeded(3)
    for k in range(20):
        xi = torch.randn(n, 2, dtype=F64, generator=generator)
        step, J, H, log_det = hopf(x, h)
        pulled = torch.linalg.solve(J.mT, (running + log_det)[..., None])[..., 0]
        running = malliavin.bismut_step(pulled, a, xi, 1.0 if k == 0 else 1 / (k + 1))
        weight = weight.step(J, H, a * torch.eye(2, dtype=F64), xi)
        x = step + a * xi
    f, df = x[:, 1] ** 3, torch.stack([0 * x[:, 0], 3 * x[:, 1] ** 2], 1)

    def z_scores(delta):
        error = delta * f[:, None] - df
        return (error.mean(0) / (error.std(0) / n**0.5)).abs().max()

    assert z_scores(weight.delta) < 4 and z_scores(running) < 4  # Two z-scores per weight.
    assert z_scores(torch.linalg.solve(weight.G, weight.Z[..., None])[..., 0]) > 5
    # The library's own road: automatic derivatives, pilot gains, the same increments.
    law = CoupledDrift(lambda y: TURN @ y - (y @ y) * y, 0.6, 1.0)
    times = torch.linspace(0, 1, 21, dtype=F64)
    gains = [K for *_, K in malliavin.bismut_chain(law, x0[:2000], times, seeded(9))]
    *_, (same, best, _) = malliavin.bismut_chain(law, x0, times, seeded(3), gains)
    torch.testing.assert_close(same, x, rtol=1e-10, atol=1e-10)  # 20 steps of rounding.
    assert z_scores(best) < 4
    ones = [torch.ones(())] * 20
    *_, (_, local, _) = malliavin.bismut_chain(law, x0, times, seeded(3), ones)
    # K = 1 has variance 1 / a^2 = 56. The radius is forgotten within five of the 20 steps, so that
    # no gain can average over more than those.
    assert best.var() < 0.4 * local.var()


def test_pilot_gain_lowers_the_variance():
    generator = torch.Generator().manual_seed(5)
    P, L = torch.randn(2, 20_000, 2, generator=generator)
    K = malliavin.pilot_gain(P, 3 * L)
    # Independent: K = Var P / (Var P + Var L) = 0.1, to three deviations of 20,000 samples.
    torch.testing.assert_close(K, torch.full((2,), 0.1), rtol=0, atol=0.02)


def test_unknown_equations_and_their_numbers_are_refused():
    with pytest.raises(ConfigError, match="`sde` is 'vee'"):
        ScoreTraining(sde="vee")
    with pytest.raises(ConfigError, match="sigma_min"):
        nonlinear.equation_named("ve", {"sigma_min": 0.0})
    with pytest.raises(ConfigError, match="sde_parameters"):
        nonlinear.equation_named("vp", {"sigma_min": 0.1})
