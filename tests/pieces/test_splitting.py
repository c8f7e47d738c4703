"""Signals by splitting and extrapolation are those of the exact propagation."""

import pytest
import torch
from bloch_torrey.test_propagation import SEQUENCES, acquisition_of, operators

from spinmesh.bloch_torrey import Signals
from spinmesh.bodies.splitting import STEPS, extrapolated
from spinmesh.reduction import ReducedModel


def two_models() -> ReducedModel:
    """A batch of two whose axes do not commute, each observed in a core."""
    shapes = []
    for seed in (1, 2):
        L, J, mean = operators(seed, compartments=1, stiffest=0)
        shapes.append((L, J, mean, operators(seed + 2, stiffest=0)[0]))
    return ReducedModel(*(torch.stack(parts) for parts in zip(*shapes, strict=True)))


@pytest.mark.parametrize("kind", SEQUENCES)
def test_what_settles_errs_by_less_than_its_last_change(kind: str) -> None:
    models, acquisition = two_models(), acquisition_of(SEQUENCES[kind], strength=1500.0)
    exact = Signals.of(models, acquisition)
    for tolerance in (1e-3, 1e-6):
        found, changed = extrapolated(models, acquisition, tolerance)
        error = (found.signal - exact.signal).abs() / exact.unweighted
        assert bool((error.amax(1) <= changed).all()) and float(changed.max()) <= tolerance
        # Both take the same exponentials of L, in another order.
        torch.testing.assert_close(found.unweighted, exact.unweighted, rtol=1e-12, atol=0)
    # The loosest tolerance leaves an error that a wrong step would not be told from.
    decay = 1 - exact.signal.abs() / exact.unweighted
    assert float(error.max()) < 1e-6 < float(decay.abs().max())


def test_what_does_not_settle_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """After few steps it is left to the polynomials; what is settled by then is not."""
    monkeypatch.setattr("spinmesh.bodies.splitting.STEPS", STEPS[:4])
    models, acquisition = two_models(), acquisition_of(SEQUENCES["PGSE"], strength=1500.0)
    exact = Signals.of(models, acquisition)
    found, changed = extrapolated(models, acquisition, 1e-4)
    error = (found.signal - exact.signal).abs() / exact.unweighted
    assert bool((error.amax(1) <= changed).all()) and 0 < float(changed.max()) <= 1e-4
    # The strongest is left to the polynomials, which are good to 1e-10 for each pulse.
    assert float(error[:, 0].max()) < 1e-9 < float(error.max())
