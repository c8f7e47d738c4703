"""What a score network regresses: even noise levels, and scalings that hold beyond their pilots."""

import torch

from spinmesh.scores import DoubleWell
from spinmesh.scores.denoiser import MeanWeight, pilot_scalings
from spinmesh.scores.malliavin import forward_chain
from spinmesh.scores.targets import evenly


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_noise_levels_of_a_batch_are_spread_evenly():
    u = evenly(50, seeded(1))
    assert torch.equal((50 * u).long().sort().values, torch.arange(50))
    assert not torch.equal(u, u.sort().values)
    many = torch.stack([evenly(4, seeded(k)) for k in range(1000)])
    # Each of them is uniform: mean 1/2, with a deviation of 0.29 / sqrt(1000) = 0.009.
    assert (many.mean(0) - 0.5).abs().max() < 0.04


def test_a_regression_is_held_beyond_its_pilots():
    """Far out the score grows like that of the limit law, whatever the network would say."""
    well = DoubleWell()
    x0 = torch.sign(torch.randn(64, 1, generator=seeded(1)))
    pairs = list(forward_chain(well, x0, well.grid(16), seeded(2)))
    found = pilot_scalings(well, [(x, w.delta) for x, w in pairs], well.grid(16)[1:])
    weight = MeanWeight(lambda u, *_: 5 * u, well, found)
    x = torch.tensor([[1.0], [20.0], [30.0]], dtype=torch.float64)
    t = torch.full((3,), 0.5, dtype=torch.float64)
    rest = weight.score(x, t) - well.base_score(x, t)
    # What rounding leaves of scores of a hundred thousand.
    torch.testing.assert_close(rest[1], rest[2], rtol=0, atol=1e-8)
    assert abs(float(rest[0] - rest[1])) > 1
