"""Training signals of another protocol than the target's are refused."""

import pytest
import torch

from spinmesh.bloch_torrey import Signals
from spinmesh.errors import SequenceError
from spinmesh.inversion import refuse_other_protocol
from spinmesh.sequence import Acquisition, CosineOGSE, difference

DIRECTION = torch.eye(3, dtype=torch.float64)
B = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)


def pgse(b=B, direction=DIRECTION, delta=8.0, Delta=19.0) -> Acquisition:
    return Acquisition.pgse(b, direction, delta, Delta)


@pytest.mark.parametrize(
    "same",
    [pgse(), pgse(direction=-DIRECTION), pgse(b=1.0005 * B)],
    ids=["itself", "opposite gradients", "rounded b"],
)
def test_what_measures_the_same_is_the_same(same: Acquisition) -> None:
    assert difference(pgse(), same) is None


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (pgse(b=B[:2], direction=DIRECTION[:2]), "2 measurements against 3"),
        (pgse(b=1.1 * B), "measurement 1 differs"),
        (pgse(direction=DIRECTION.flip(1)), "measurement 2 differs"),
        (pgse(delta=7.0), "delta of measurement 0 is 7 ms against 8 ms"),
        (pgse(Delta=[19.0, 19.0, 49.0]), "Delta of measurement 2 is 49 ms against 19 ms"),
        (Acquisition.of(CosineOGSE(8.0, 19.0, 2), B, DIRECTION), "CosineOGSE against PGSE"),
    ],
    ids=["count", "b", "direction", "delta", "Delta", "kind"],
)
def test_other_protocol_is_named_by_its_first_difference(other: Acquisition, words: str) -> None:
    ones = torch.ones((1, len(other)), dtype=torch.float64)
    signals = Signals(other, ones.to(torch.complex128), ones)
    with pytest.raises(SequenceError, match=f"another protocol.*{words}.*Simulate"):
        refuse_other_protocol(signals, pgse())
