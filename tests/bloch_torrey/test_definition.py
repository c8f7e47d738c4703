"""The fast engine against the matrix formalism as it is written down, for every sequence family."""

from functools import cache

import numpy as np
import pytest
import torch
from bodies import SEQUENCES, TENSOR, UNEQUAL, cells, fanned_cells

from spinmesh.bloch_torrey import (
    matrix_formalism,
    pgse_signal,
    simulate_compartments,
    simulate_reduced,
    unweighted,
)
from spinmesh.bloch_torrey.exponential import TOLERANCE
from spinmesh.errors import SequenceError
from spinmesh.reduction import krylov_span, project
from spinmesh.sequence import PGSE, Acquisition

TISSUES = {
    "T2": cells((2.0, 2.0), (30.0, 80.0)),
    "permeable": cells((1.0, 2.0), kappa=0.2),
    "tensor": cells((TENSOR, 2.0)),
    "everything": UNEQUAL,
}
CASES = [(name, "everything") for name in SEQUENCES] + [("PGSE", name) for name in TISSUES]


@cache
def reduced(tissue):
    mesh = fanned_cells(layers=2)
    with torch.no_grad():
        span = krylov_span(mesh, TISSUES[tissue], 2, 1)
        return project(span, mesh.points, TISSUES[tissue])


def acquisition(name):
    direction = torch.tensor([[0.0, 0, 1], [0.6, 0, 0.8], [0.36, 0.48, -0.8]]).double()
    return Acquisition.of(SEQUENCES[name], [0.0, 1.0, 3.0], direction)


@pytest.mark.parametrize(("name", "tissue"), CASES)
def test_the_engine_gives_the_product_of_matrix_exponentials(name, tissue):
    """Each compartment, their sum, and the signal without gradient."""
    model, measured = reduced(tissue), acquisition(name)
    exact = matrix_formalism(model, measured)
    # (1 + sqrt 2) TOLERANCE per step of the polynomial, relative to the magnetisation (Crouzeix &
    # Palencia 2017); the phases here need one or two steps per level.
    steps = 2 * len(SEQUENCES[name].steps()[0])
    bound = 2.5 * steps * TOLERANCE * float(model.initial @ model.initial)
    assert float((simulate_compartments(model, measured) - exact).abs().max()) < bound
    assert float((simulate_reduced(model, measured) - exact.sum(0)).abs().max()) < 2 * bound
    assert float((unweighted(model, measured) - exact.sum(0)[0]).abs().max()) < 2 * bound
    # Not empty: the gradients attenuate, and the two compartments differ.
    assert float(exact[:, 2].abs().max()) < 0.9 * float(exact[:, 0].abs().max())
    assert float((exact[0] - exact[1]).abs().min()) > 1e-2 * float(exact[:, 2].abs().max())


@pytest.mark.parametrize(
    "name",
    [
        "PGSE, ramps and dead time",
        "cosine OGSE",
        pytest.param("sine OGSE", marks=pytest.mark.slow),
    ],
)
def test_steps_of_a_smooth_profile_stand_for_the_profile_itself(name):
    """The profile's own values in the middle of many short steps, extrapolated from two lengths."""
    model, measured = reduced("everything"), acquisition(name)

    def middles(parts):
        def steps(sequence):
            times = np.array(sequence.breakpoints())
            ends = np.unique(np.linspace(times[:-1], times[1:], parts + 1))
            return np.diff(ends), sequence.profile((ends[1:] + ends[:-1]) / 2)

        return matrix_formalism(model, measured, steps)

    coarse, fine = middles(12), middles(24)
    # Of second order, so that the extrapolation leaves some hundredths of the difference.
    exact = fine + (fine - coarse) / 3
    error = float((simulate_compartments(model, measured) - exact).abs().max())
    # The engine's steps (`Sequence.steps`) are good to 1e-6 of S0.
    assert error < 1e-6 * float(model.initial @ model.initial)
    assert error < float((fine - coarse).abs().max()) / 30


def test_the_five_lines_of_pgse_are_the_general_product():
    """The second pulse is K's complex conjugate."""
    model, measured = reduced("everything"), acquisition("PGSE")
    exact = matrix_formalism(model, measured)
    for row, gradient in enumerate(measured.gradient):
        signal = pgse_signal(model, SEQUENCES["PGSE"], gradient)
        # Rounding of three products with matrices of norm one.
        assert torch.allclose(signal, exact[:, row], rtol=1e-12)
    with pytest.raises(SequenceError, match="matrix_formalism"):
        pgse_signal(model, PGSE(3.0, 8.0, TE=20.0), gradient)
