import numpy as np
import pytest
import torch

from spinmesh.bloch_torrey import matrix_formalism, simulate_compartments, simulate_reduced
from spinmesh.bloch_torrey.exponential import TOLERANCE, cayley_polynomial, steps_and_polynomial
from spinmesh.bloch_torrey.program import runs
from spinmesh.errors import SpinmeshError
from spinmesh.reduction import ReducedModel
from spinmesh.sequence import PGSE, Acquisition, FreeWaveform, MultiplePGSE, TrapezoidalOGSE


def operators(seed, size=12, compartments=2, stiffest=4):
    """A stiff positive L, three moments J, and read-outs."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(size, size, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(normal).Q
    L = rotation @ torch.diag(torch.logspace(-3, stiffest, size).double()) @ rotation.T
    J = torch.randn(3, size, size, generator=generator, dtype=torch.float64)
    mean = torch.randn(compartments, size, generator=generator, dtype=torch.float64)
    return (L + L.T) / 2, (J + J.mT) / 2, mean


def gradients(count, strength, seed=0):
    """Directions of which several measurements share each, some reversed, and one without."""
    generator = torch.Generator().manual_seed(seed)
    lines = torch.randn(count // 3 + 1, 3, generator=generator, dtype=torch.float64)
    lines = lines / lines.norm(dim=1, keepdim=True)
    scale = torch.linspace(-1, 1, count).double() * strength
    return scale[:, None] * lines[torch.arange(count) % len(lines)]


SEQUENCES = {
    "PGSE": PGSE(2.0, 5.0),
    # Its second half is no multiple of the first; no rest, or one off the middle.
    "unequal pulses": FreeWaveform(
        np.array([2.0, 1.0, 3.0]), np.array([[0, 0, 1.0], [0, 0.5, -0.5], [0, -1 / 6, -0.5]])
    ),
    "unequal with rest": FreeWaveform(
        np.array([2.0, 1.0, 1.0, 4.0]),
        np.array([[0, 0, 1.0], [1.0, 0, 0], [0, 0, 0], [-0.25, 0, -0.5]]),
    ),
    # Read backwards it is itself: the bra is the ket, with a pulse across the middle.
    "even": FreeWaveform(
        np.array([1.0, 2.0, 1.0]), np.array([[0, 0, 1.0], [0, 0, -1.0], [0, 0, 1.0]])
    ),
    "double PGSE": MultiplePGSE.double(1.5, 4.0, 2.0, (1.0, 0.0, 0.0)),
    "trapezoidal OGSE": TrapezoidalOGSE(8.0, 12.0, 2, 0.5),
}


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


def acquisition_of(sequence, count=9, strength=300.0):
    if sequence.axes == 3:
        # Vector profiles: one frame at several amplitudes, and one with no gradient at all.
        b = torch.tensor([0.0, 1.0, 2.0, 0.5]).double()
        axes = torch.tensor([[0, 0, 1.0], [0.6, 0, 0.8], [0.6, 0, 0.8], [0, -1, 0]]).double()
        return Acquisition.of(sequence, b, axes)
    timing = torch.zeros(count, dtype=torch.int64)
    return Acquisition((sequence,), timing, gradients(count, strength))


@pytest.mark.parametrize("kind", SEQUENCES)
def test_stiff_models_and_strong_gradients_have_the_signal_of_the_definition(kind):
    """Rates over eight decades and phases of hundreds of radians, which no cell has."""
    L, J, mean = operators(1)
    acquisition = acquisition_of(SEQUENCES[kind])
    reduced = ReducedModel(L, J, mean)
    exact = matrix_formalism(reduced, acquisition)
    stages = max(len(s.steps()[0]) for s in acquisition.sequences)
    # (1 + sqrt 2) TOLERANCE per step (Crouzeix-Palencia), relative to |mean| |initial|; phases of
    # up to 300 mT/m over 3 um and 2 ms need up to 3 steps per stage.
    bound = 2.5 * 3 * stages * TOLERANCE * float(mean.norm(dim=1).max() * mean.sum(0).norm())
    assert float((simulate_compartments(reduced, acquisition) - exact).abs().max()) < bound
    assert float((simulate_reduced(reduced, acquisition) - exact.sum(0)).abs().max()) < 2 * bound


def test_programs_are_mirrored_where_the_sequence_is():
    mirrors = {}
    for kind, sequence in SEQUENCES.items():
        (run,) = runs(acquisition_of(sequence))
        mirrors[kind] = run.program.mirror
    assert mirrors == {
        "PGSE": -1,
        "unequal pulses": None,
        "unequal with rest": None,
        "even": 1,
        "double PGSE": None,
        "trapezoidal OGSE": -1,
    }


def test_sequences_that_differ_in_the_middle_rest_share_a_program():
    acquisition = Acquisition.pgse(
        torch.ones(6).double(), torch.eye(3).double().repeat(2, 1), 3.0, [5.0, 9.0] * 3
    )
    (run,) = runs(acquisition)
    assert len(acquisition.sequences) == 2
    assert run.rest.tolist() == [2.0, 6.0] * 3
    assert run.rows.tolist() == [0, 1, 2, 3, 4, 5]


def small(seed, compartments):
    """Operators small enough for finite differences, and what makes a symmetric model of them.

    With a core: what has none runs through the same lines and is judged in test_gradients.
    """
    L, J, mean = operators(seed, size=4, compartments=compartments, stiffest=1)
    core = operators(seed + 1, size=4, stiffest=0)[0]

    def model(L, J, mean, core):
        return ReducedModel((L + L.T) / 2, (J + J.mT) / 2, mean, (core + core.T) / 2)

    return (L, J, mean, core), model


@pytest.mark.parametrize(
    "kind",
    [
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("PGSE", "unequal pulses")),
        "unequal with rest",
        "even",
    ],
)
def test_derivatives_are_those_of_the_discrete_map(kind):
    """In the operators and in the gradient itself, both modes, the total and each compartment.

    Along random directions of all inputs at once (`fast_mode`): each is a full check. What is not
    asked for is told to the same few lines by every sequence, so one with a mirror and one without
    show that it counts as zero.
    """
    inputs, model = small(2, 2)
    acquisition = acquisition_of(SEQUENCES[kind], count=3)
    turn = torch.eye(3).double()

    def signals(L, J, mean, core, turn):
        reduced, turned = model(L, J, mean, core), acquisition.rotated(turn)
        return simulate_reduced(reduced, turned), simulate_compartments(reduced, turned)

    # A frame must stay a rotation, so vector profiles are not turned here.
    tensors = [x.clone().requires_grad_() for x in (*inputs, turn)]
    tensors[-1].requires_grad_(SEQUENCES[kind].axes == 1)
    assert torch.autograd.gradcheck(
        signals,
        tensors,
        check_forward_ad=True,
        check_undefined_grad=kind in ("PGSE", "unequal pulses"),
        fast_mode=True,
    )


def test_jacfwd_jacrev_and_a_batch_of_shapes_agree():
    """More measurements than a chunk holds; the two modes share no code but the states."""
    shapes = [operators(seed, size=6, stiffest=1) for seed in (3, 4)]
    L, J, mean = (torch.stack(x) for x in zip(*shapes, strict=True))
    acquisition = Acquisition(
        (PGSE(1.0, 2.0),), torch.zeros(150, dtype=torch.int64), gradients(150, 500.0)
    )

    def one(L, J, mean):
        return torch.view_as_real(simulate_reduced(ReducedModel(L, J, mean), acquisition))

    batch = one(L, J, mean)
    for number, shape in enumerate(shapes):
        # Shapes that are propagated together share their polynomials, which have the propagation's
        # error: 2 pulses, signals of about 3.
        assert torch.allclose(batch[number], one(*shape), rtol=0, atol=20 * TOLERANCE)
    with pytest.raises(SpinmeshError, match="first axis"):
        torch.func.vmap(one)(L, J, mean)
    forward = torch.func.jacfwd(one, argnums=(0, 1, 2))(*shapes[0])
    reverse = torch.func.jacrev(one, argnums=(0, 1, 2))(*shapes[0])
    for a, b in zip(forward, reverse, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-10)


def test_fits_are_shared_between_equal_strips():
    assert cayley_polynomial(5.0) is cayley_polynomial(5.0)
