"""Training signals must belong to the protocol of the signal that is reconstructed."""

from __future__ import annotations

from spinmesh.bloch_torrey import Signals
from spinmesh.errors import SequenceError
from spinmesh.sequence import Acquisition, difference


def refuse_other_protocol(signals: Signals, acquisition: Acquisition) -> None:
    """SequenceError if training signals were simulated for another acquisition than the target's.

    A shape model itself knows shapes only and goes with every acquisition.
    """
    found = difference(signals.acquisition, acquisition)
    if found is not None:
        raise SequenceError(
            f"reconstruct: the training signals belong to another protocol than the target: "
            f"{found}. Simulate the training shapes with the target's acquisition, or leave the "
            "training signals out."
        )
