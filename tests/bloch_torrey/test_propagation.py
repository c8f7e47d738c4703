import pytest
import torch

from spinmesh.bloch_torrey.exponential import TOLERANCE, cayley_polynomial, steps_and_polynomial
from spinmesh.bloch_torrey.propagation import intervals_of, signal


def operators(seed, size=12, compartments=2):
    """A stiff positive L, three phases B, and read-outs."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(size, size, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(normal).Q
    L = rotation @ torch.diag(torch.logspace(-3, 4, size).double()) @ rotation.T
    B = torch.randn(3, size, size, generator=generator, dtype=torch.float64)
    mean = torch.randn(compartments, size, generator=generator, dtype=torch.float64)
    return (L + L.T) / 2, (B + B.mT) / 2, mean


@pytest.mark.parametrize("half_height", [0.0, 1.0, 7.3, 20.0, 90.0])
def test_polynomial_meets_its_error_inside_the_strip_it_was_not_fitted_on(half_height):
    """The maximum principle: interior points cannot be worse than the fitted boundary."""
    steps, fit = steps_and_polynomial(half_height)
    generator = torch.Generator().manual_seed(0)
    x = torch.exp(torch.rand(2000, generator=generator).double() * 20 - 10)
    y = (torch.rand(2000, generator=generator).double() * 2 - 1) * half_height / steps
    z = torch.complex(x, y)
    v = (fit.pole - z) / (fit.pole + z)
    value = sum(c * v**j for j, c in enumerate(fit.coefficients))
    assert float((value - torch.exp(-z)).abs().max()) < 1.01 * TOLERANCE


@pytest.mark.parametrize("duration", [0.5, 8.0])
def test_signal_equals_the_product_of_matrix_exponentials(duration):
    L, B, mean = operators(1)
    rate = float(torch.linalg.matrix_norm(B, 2).max())
    durations, levels = [duration, 3.0, duration], [1.0, 0.0, -1.0]
    ours = signal(L, B, mean, intervals_of(durations, levels, rate))
    state = mean.sum(0).to(torch.complex128).expand(3, -1)[..., None]
    for time, level in zip(durations, levels, strict=True):
        state = (
            torch.linalg.matrix_exp(-time * torch.complex(L.expand(3, -1, -1), level * B)) @ state
        )
    theirs = mean.to(torch.complex128) @ state[..., 0].T
    # (1 + sqrt 2) TOLERANCE per step (Crouzeix-Palencia), relative to |mean| |initial|.
    steps = sum(i.steps for i in intervals_of(durations, levels, rate))
    scale = float(mean.norm(dim=1).max() * mean.sum(0).norm())
    assert float((ours - theirs).abs().max()) < 2.5 * steps * TOLERANCE * scale


@pytest.mark.parametrize("levels", [(1.0, 0.0, -1.0), (0.5, -0.25, -0.25)])
def test_derivatives_are_those_of_the_discrete_map(levels):
    L, B, mean = operators(2, size=4)
    B, L = B[:2], L / 1e3
    intervals = intervals_of([2.0, 1.0, 3.0], list(levels), 2.0)
    inputs = tuple(x.clone().requires_grad_() for x in (L, B, mean))

    def symmetric_signal(L, B, mean):
        return signal((L + L.T) / 2, (B + B.mT) / 2, mean, intervals)

    assert torch.autograd.gradcheck(symmetric_signal, inputs, check_forward_ad=True)


def test_jacfwd_jvp_and_reverse_agree_across_chunks():
    """More measurements than a chunk holds; the two modes share no code but the states."""
    generator = torch.Generator().manual_seed(0)
    L, _, mean = operators(3, size=6)
    B = torch.randn(37, 6, 6, generator=generator, dtype=torch.float64)
    B = (B + B.mT) / 2
    L = L / 1e3
    intervals = intervals_of([1.0, 1.0], [1.0, -1.0], 4.0)

    def total(scale):
        return signal(L * scale, B, mean, intervals).sum(0)

    scale = torch.ones(6, 6).double()
    forward = torch.func.jacfwd(lambda s: torch.view_as_real(total(s)))(scale)
    reverse = torch.func.jacrev(lambda s: torch.view_as_real(total(s)))(scale)
    assert torch.allclose(forward, reverse, rtol=1e-9, atol=1e-12)


def test_fits_are_shared_between_equal_strips():
    assert cayley_polynomial(5.0) is cayley_polynomial(5.0)
