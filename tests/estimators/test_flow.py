"""The flow against a posterior that is known: a linear observation with normal noise."""

import math
from dataclasses import replace

import pytest
import torch

from spinmesh.errors import ConfigError
from spinmesh.estimators import Examples, Names, coverage, ranks
from spinmesh.estimators.flow import Flow, train_flow
from spinmesh.io import load, save
from spinmesh.settings.maps import FlowTraining

# x = A theta + noise with theta ~ N(0, 1): the posterior is normal, its covariance C constant.
A = torch.tensor([[1.0, 0.5], [0.0, 1.0], [1.0, -1.0]]).double()
NOISE = 0.5
C = torch.linalg.inv(torch.eye(2).double() + A.T @ A / NOISE**2)
TRAINING = FlowTraining(
    members=2, transforms=2, width=32, iterations=800, batch=512, learning_rate=4e-3
)


def toy(count: int, seed: int) -> Examples:
    generator = torch.Generator().manual_seed(seed)
    theta = torch.randn(count, 2, generator=generator, dtype=torch.float64)
    noise = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    names = Names(("x", "y", "z"), ("1",) * 3, ("a", "b"), ("1",) * 2)
    group = torch.arange(count) // 2
    return Examples(group, names, target=theta, table=theta @ A.T + NOISE * noise)


@pytest.fixture(scope="module")
def flow() -> Flow:
    return train_flow(toy(12_000, 1), [None, None], TRAINING, 3)


@pytest.mark.slow
def test_the_conjugate_posterior_is_found(flow, tmp_path):
    """Mean, covariance and density of single examples, and coverage over 1,500."""
    judged = toy(1500, 2)
    draws = flow.samples(judged.table, 200)
    mean = judged.table @ (C @ A.T / NOISE**2).T
    deviation = C.diagonal().sqrt()
    # What 12,000 examples and 800 steps leave: 0.07 deviations, RMS; variances 8 % too large.
    assert (((draws.mean(1) - mean) / deviation).square().mean().sqrt()) < 0.1
    found = torch.stack([torch.cov(each.T) for each in draws]).mean(0)
    torch.testing.assert_close(found, C, rtol=0.12, atol=0.005)
    held = coverage(ranks(draws, judged.target), (0.5, 0.8, 0.9))
    # Three binomial deviations of 1,500 at a half are 3.9 %.
    torch.testing.assert_close(
        held, torch.tensor([0.5, 0.8, 0.9]).double()[:, None].expand(3, 2), rtol=0, atol=0.039
    )
    exact = torch.distributions.MultivariateNormal(mean, C).log_prob(judged.target)
    assert float((exact - flow.log_density(judged.table, judged.target)).mean()) < 0.03
    save(flow, tmp_path / "flow.zarr")
    again = load(Flow, tmp_path / "flow.zarr")
    assert torch.equal(again.samples(judged.table[:5], 7), flow.samples(judged.table[:5], 7))


@pytest.mark.slow
def test_the_answer_of_an_example_does_not_depend_on_its_neighbours(flow):
    """To what float32 leaves of another order of sums."""
    table = toy(64, 5).table
    torch.testing.assert_close(
        flow.samples(table, 9)[10:12], flow.samples(table[10:12], 9), rtol=0, atol=1e-4
    )


def test_a_bounded_quantity_has_a_density_within_its_bounds_alone():
    """Of a posterior that is the prior, here flat: density 1 / width, all draws inside."""
    generator = torch.Generator().manual_seed(1)
    theta = 2 + 3 * torch.rand(2000, 1, generator=generator, dtype=torch.float64)
    table = torch.randn(2000, 1, generator=generator, dtype=torch.float64)
    names = Names(("x",), ("1",), ("a",), ("um",))
    examples = Examples(torch.arange(2000), names, target=theta, table=table)
    training = FlowTraining(members=1, transforms=1, width=8, iterations=80, batch=256)
    flow = train_flow(examples, [(2.0, 5.0)], training, 1)
    draws = flow.samples(table[:50], 60)
    assert draws.min() >= 2 and draws.max() <= 5
    # 80 steps on 2,000 examples leave some tenths of a nat at single places.
    middle = torch.full((50, 1), 3.5).double()
    assert float(flow.log_density(table[:50], middle).mean()) == pytest.approx(
        -math.log(3), abs=0.2
    )
    again = train_flow(examples, [(2.0, 5.0)], training, 1)
    assert torch.equal(again.samples(table[:50], 60), draws), "seeded"
    with pytest.raises(ConfigError, match=r"quantity 0 of example 3 is 9, outside \[2.0, 5.0\]"):
        beyond = theta.clone()
        beyond[3] = 9.0
        train_flow(replace(examples, target=beyond), [(2.0, 5.0)], training, 1)
    with pytest.raises(ConfigError, match="x is constant"):
        train_flow(replace(examples, table=0 * table), [(2.0, 5.0)], training, 1)
