import numpy as np
import pytest
import torch
from bodies import SEQUENCES, UNEQUAL, cells, fanned_cells
from scipy.linalg import expm

from spinmesh.analytic import sphere
from spinmesh.bloch_torrey import Basis, step_signal, time_stepping
from spinmesh.bodies import simulate, simulate_body
from spinmesh.errors import ConfigError, ReductionError
from spinmesh.fem import assemble
from spinmesh.mesh import SweptDisk, ball, nested_cylinder, swept_disk
from spinmesh.sequence import Acquisition
from spinmesh.tissue import Tissue
from spinmesh.units import GAMMA

DIRECTION = torch.tensor([[0.6, 0.0, 0.8], [0.0, 1.0, 0.0]]).double()
PULSES = Acquisition.pgse([0.5, 6.0], DIRECTION, 4.0, 12.0)
TUBE = swept_disk(SweptDisk(rings=1, layers=4, radius_um=2.0, length_um=9.0))
LONG = swept_disk(SweptDisk(rings=1, layers=60, radius_um=1.0, length_um=120.0, order=1))


# Two cells of straight tets; both ways through time are quick on 34 unknowns.
SMALL = nested_cylinder(SweptDisk(rings=2, layers=1, radius_um=3.0, length_um=4.0, order=1), 1)


def distance(one, other):
    return float(((one.signal - other.signal).abs() / other.unweighted).max())


def stepwise(mesh, tissue, acquisition):
    """Signals by dense matrix exponentials, step after step from the excitation to the echo."""
    matrices = assemble(mesh, tissue)
    mass = matrices.mass.toarray()
    signals = []
    for row, number in enumerate(acquisition.timing.tolist()):
        vectors = acquisition.vectors(torch.tensor([row]))[0].numpy()
        state = np.ones(len(matrices.space), dtype=complex)
        # Of order 4 in the steps of a varying profile: as 8 pairs are good to 1e-6, 48 are to 1e-9.
        for duration, level in zip(*acquisition.sequences[number].steps(48), strict=True):
            terms = zip(vectors @ level, matrices.moments, strict=True)
            operator = sum((1j * GAMMA * g * J for g, J in terms), matrices.decay).toarray()
            state = expm(-duration * np.linalg.solve(mass, operator)) @ state
        signals.append((mass @ state).sum())
    return torch.from_numpy(np.array(signals))


@pytest.mark.parametrize("name", SEQUENCES)
def test_every_sequence_errs_by_less_than_the_bound(name):
    """Everything unequal, a membrane and a wall; judged by itself with more digits.

    More digits are met by another exponential below, so that they are exact here.
    """
    acquisition = Acquisition.of(SEQUENCES[name], [1.0, 4.0], DIRECTION)
    exact = step_signal(SMALL, UNEQUAL, acquisition, 1e-6)
    rough = step_signal(SMALL, UNEQUAL, acquisition, 1e-3)
    assert distance(rough.signals, exact.signals) <= rough.error <= 1e-3
    assert exact.error <= 1e-6


@pytest.mark.parametrize(
    ("name", "widest"),
    [
        ("free waveform", time_stepping.WIDEST),
        ("PGSE, ramps and dead time", time_stepping.WIDEST),
        ("free waveform", 0),
        ("PGSE", 0),
    ],
)
def test_another_exponential_gives_the_same_signals(name, widest, monkeypatch):
    """A waveform that is no mirror image of itself, ramps; by factors, and (0) by multigrid."""
    monkeypatch.setattr(time_stepping, "WIDEST", widest)
    acquisition = Acquisition.of(SEQUENCES[name], [1.0, 4.0], DIRECTION)
    stepped = step_signal(SMALL, UNEQUAL, acquisition, 1e-8)
    error = (stepped.signals.signal[0] - stepwise(SMALL, UNEQUAL, acquisition)).abs()
    assert float((error / stepped.signals.unweighted).max()) < stepped.error


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-6])
def test_the_bound_holds_and_is_not_far(tolerance):
    """A tube in which pulses turn phases by 180 rad, whose steps are many.

    Errors of 60 steps that point in different directions are far below their sum: measured, a
    thousandth of it.
    """
    acquisition = Acquisition.pgse([2.0, 20.0], DIRECTION[:1].expand(2, 3), 8.0, 20.0)
    exact = step_signal(LONG, Tissue.uniform(2.0), acquisition, 1e-9).signals
    stepped = step_signal(LONG, Tissue.uniform(2.0), acquisition, tolerance)
    error = distance(stepped.signals, exact)
    assert error <= stepped.error <= tolerance
    assert stepped.error < 1e4 * error


@pytest.mark.parametrize(
    ("mesh", "tissue"),
    [
        (TUBE, Tissue.uniform(2.0)),
        (fanned_cells(layers=2), cells((1.0, 2.5), (np.inf, 40.0), (1.0, 0.6), 0.2, 0.05)),
    ],
    ids=["cylinder", "two permeable compartments"],
)
def test_reduced_signals_are_those_of_time_stepping_to_the_tolerance(mesh, tissue):
    """Two roads: a basis, or all nodes."""
    stepped = simulate(mesh, tissue, PULSES, tolerance=1e-8, method="stepping")
    tolerance = 1e-6
    reduced = simulate(mesh, tissue, PULSES, Basis(tolerance=tolerance))
    assert distance(reduced, stepped) < tolerance
    assert torch.allclose(reduced.unweighted, stepped.unweighted, rtol=tolerance)


def test_the_sphere_is_met_to_the_error_of_its_mesh():
    """833 curved nodes are off by 4.8e-4 (docs/theory.md, section 10), time stepping by nothing."""
    acquisition = Acquisition.pgse([0.5, 2.0], DIRECTION, 10.0, 20.0)
    result = simulate_body(
        ball(5.0, 2), Tissue.uniform(2.0), acquisition, Basis(), method="stepping"
    )
    exact = sphere(acquisition, 5.0, 2.0)
    assert float((result.signals.attenuation[0] - exact).abs().max()) < 1e-3
    assert "time stepping" in result.words


def test_what_cannot_be_had_is_refused():
    with pytest.raises(ConfigError, match="method: 'euler' is unknown"):
        simulate(TUBE, Tissue.uniform(), PULSES, method="euler")
    # A wall that lets all but 1e-13 of the water out leaves no digits.
    leaking = cells((2.0,), wall=3.0)
    with pytest.raises(ReductionError, match="lower the walls' permeability"):
        step_signal(TUBE, leaking, Acquisition.pgse([1.0], DIRECTION[:1], 4.0, 40.0))
