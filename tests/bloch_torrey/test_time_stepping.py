import math

import pytest
import torch
from bodies import cells

from spinmesh.bloch_torrey import Basis, step_signal
from spinmesh.bloch_torrey.time_stepping import restricted_pade
from spinmesh.bodies import simulate
from spinmesh.errors import ReductionError
from spinmesh.mesh import SweptDisk, ball, nested_cylinder, swept_disk
from spinmesh.sequence import PGSE, Acquisition, CosineOGSE, FreeWaveform, MultiplePGSE
from spinmesh.tissue import Tissue


def acquisition(b=(0.5, 6.0), delta=4.0, Delta=12.0):
    direction = torch.tensor([[0.6, 0.0, 0.8]] * len(b)).double()
    return Acquisition.pgse(torch.tensor(b), direction, delta, Delta)


def distance(one, other):
    return float(((one.signal - other.signal).abs() / other.unweighted).max())


@pytest.mark.parametrize("order", [2, 3, 5])
def test_one_step_has_its_order_and_forgets_stiff_modes(order):
    """|R(-z) - exp(-z)| ~ z^(order + 1); |R| <= 1 on the imaginary axis and 0 at infinity."""
    step = restricted_pade(order)

    def value(z):
        x = 1 / (1 + step.pole * torch.as_tensor(z, dtype=torch.complex128))
        return sum(c * x**j for j, c in enumerate(step.coefficients))

    errors = [float((value(z) - math.exp(-z)).abs()) for z in (0.1, 0.05)]
    # z/10 is the size of the next term of the series.
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order + 1, abs=0.15)
    axis = 1j * torch.logspace(-2, 4, 4000, dtype=torch.float64)
    assert float(value(axis).abs().max()) <= 1 + 1e-12
    assert float(value(1e9).abs()) < 1e-7


@pytest.mark.parametrize("order", [2, 3, 5])
def test_halving_the_step_shows_the_order(order):
    """The slope between 8 and 16 steps; the reference has 64 of order 5, 4^5 times better."""
    mesh, tissue = (
        swept_disk(SweptDisk(rings=1, layers=2, radius_um=2.0, length_um=5.0)),
        Tissue.uniform(2.0),
    )
    exact = step_signal(mesh, tissue, acquisition(), 64)
    errors = [distance(step_signal(mesh, tissue, acquisition(), n, order), exact) for n in (8, 16)]
    # Short of the asymptotic slope by what the next order still contributes at 8 steps.
    assert math.log2(errors[0] / errors[1]) > order - 0.4


PERMEABLE = cells((1.0, 2.5), (math.inf, 40.0), (1.0, 0.6), 0.2, 0.05)


@pytest.mark.parametrize(
    ("mesh", "tissue"),
    [
        (
            swept_disk(SweptDisk(rings=1, layers=4, radius_um=2.0, length_um=9.0)),
            Tissue.uniform(2.0),
        ),
        (
            nested_cylinder(SweptDisk(rings=2, layers=2, radius_um=4.0, length_um=6.0), 1),
            cells((1.0, 2.5), (math.inf, 40.0), (1.0, 0.6), 0.2, 0.05),
        ),
    ],
    ids=["cylinder", "two permeable compartments"],
)
def test_reduced_signals_are_those_of_time_stepping_to_the_tolerance(mesh, tissue):
    """Two roads: basis and rational exponential, or all nodes and L-stable steps."""
    stepped = step_signal(mesh, tissue, acquisition(), 24)
    tolerance = 1e-6
    reduced = simulate(mesh, tissue, acquisition(), Basis(tolerance=tolerance))
    # 24 steps of order 5 are good to 1e-8 here (compared with 48).
    assert distance(reduced, stepped) < tolerance
    assert torch.allclose(reduced.unweighted, stepped.unweighted, rtol=tolerance)


def test_neither_steps_nor_orders_that_do_not_exist_are_taken():
    mesh = ball(5.0, 0)
    with pytest.raises(ReductionError, match="0 steps"):
        step_signal(mesh, Tissue.uniform(), acquisition(), 0)
    with pytest.raises(ReductionError, match="order 4"):
        step_signal(mesh, Tissue.uniform(), acquisition(), 1, 4)


SEQUENCES = {
    "cosine": (CosineOGSE(8.0, 10.0, 1), 100),
    "ramped pulses": (PGSE(3.0, 8.0, ramp=1.0), 60),
    "spherical tensor": (MultiplePGSE.spherical(2.0, 5.0), 12),
    "free, not symmetric": (
        FreeWaveform.of([1.0, 2.0, 4.0], [[4.0, 0, 1], [0, 1, -0.5], [-1, -0.5, 0]])[0],
        24,
    ),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_any_sequence_is_judged(name):
    """Steps of the profile's middle converge as their length squared where the profile varies."""
    sequence, steps = SEQUENCES[name]
    direction = torch.tensor([[0.6, 0.0, 0.8], [0.0, 1.0, 0.0]]).double()
    acquisition = Acquisition.of(sequence, torch.tensor([1.0, 4.0]).double(), direction)
    mesh, tissue = (
        swept_disk(SweptDisk(rings=1, layers=4, radius_um=2.0, length_um=9.0)),
        Tissue.uniform(2.0),
    )
    reduced = simulate(mesh, tissue, acquisition, Basis(tolerance=1e-6))
    assert distance(reduced, step_signal(mesh, tissue, acquisition, steps)) < 1e-5
