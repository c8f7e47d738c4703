"""The one loop: it learns, resumes to the bit, averages; the one checkpoint knows whose it is."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR

from spinmesh.errors import ReductionError, StoreError
from spinmesh.learning import Checkpoint, Problem, Recipe, fingerprint, fit, perceptron

RECIPE = Recipe(
    12,
    lambda network: [torch.optim.Adam(network.parameters(), 0.02)],
    lambda optimiser, n: LambdaLR(optimiser, lambda i: 1 - i / n),
    half_life=0.05,
)


class Line(Problem):
    """y = 2 x_1 - x_2, in batches of 8 that are drawn two at a time."""

    def __init__(self, stop: int | None = None) -> None:
        self.steps, self.stop = 0, stop

    def draw(self, generator, done):
        return [(x,) for x in torch.randn(2, 8, 2, generator=generator)]

    def loss(self, network, batch):
        if self.steps == self.stop:
            raise KeyboardInterrupt
        self.steps += 1
        (x,) = batch
        return (network(x)[:, 0] - x @ x.new_tensor([2.0, -1.0])).square().mean()


def train(problem, recipe=RECIPE, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    network = perceptron((2, 16, 1), (2.0, 1.0), generator)
    return fit(network, problem, recipe, generator, "a line", **options)


def same(a, b):
    weights = all(torch.equal(a.state[name], b.state[name]) for name in a.state)
    return weights and torch.equal(a.losses, b.losses) and a.rows == b.rows


@pytest.mark.parametrize("change", [{}, {"half_life": None}, {"best": True, "half_life": None}])
def test_a_killed_run_goes_on_to_the_same_weights(tmp_path, monkeypatch, change):
    """Also if it stops between two batches that were drawn together."""
    recipe, file = replace(RECIPE, **change), tmp_path / "deep" / "line.checkpoint"

    def report(network, done):
        return (done, float(network(torch.ones(1, 2)))) if done % 4 == 0 else None

    whole = train(Line(), recipe, report=report)
    assert [row[0] for row in whole.rows] == [0, 4, 8, 12]
    monkeypatch.setattr("spinmesh.learning.Checkpoint.SAVE_EVERY", 5)
    keep = Checkpoint(file, "seed 0")
    with pytest.raises(KeyboardInterrupt):
        train(Line(stop=8), recipe, report=report, checkpoint=keep)
    assert [path.name for path in file.parent.iterdir()] == ["line.checkpoint"]
    other = Line()
    with pytest.raises(StoreError, match="another run"):
        train(other, recipe, report=report, checkpoint=Checkpoint(file, "seed 1"))
    assert other.steps == 0
    rest = Line()
    assert same(whole, train(rest, recipe, report=report, checkpoint=keep))
    assert rest.steps == 7  # 12 less the 5 of the checkpoint
    assert not file.exists()


def test_training_finds_the_line():
    """One layer is the line itself: its weights become the line's, to Adam's last short steps."""
    generator = torch.Generator().manual_seed(0)
    network = perceptron((2, 1), (1.0,), generator)
    found = fit(network, Line(), replace(RECIPE, iterations=600), generator, "a line").state
    torch.testing.assert_close(found["0.weight"], torch.tensor([[2.0, -1.0]]), rtol=1e-3, atol=0)


def test_the_average_is_the_last_weight_when_it_looks_back_no_time():
    """And the best one is that of the report with the lowest last number."""
    last = train(Line(), replace(RECIPE, half_life=None)).state
    short = train(Line(), replace(RECIPE, half_life=1e-6)).state
    assert all(torch.equal(last[name], short[name]) for name in last)
    seen = {}

    def report(network, done):
        seen[done] = {k: v.clone() for k, v in network.state_dict().items()}
        return (float(abs(done - 7)),)

    best = train(Line(), replace(RECIPE, half_life=None, best=True), report=report).state
    assert all(torch.equal(best[name], seen[7][name]) for name in best)
    assert not torch.equal(best["0.weight"], last["0.weight"])


def test_clipped_gradients_move_plain_descent_by_no_more_than_rate_times_clip():
    recipe = Recipe(
        1,
        lambda network: [torch.optim.SGD(network.parameters(), 0.1)],
        lambda optimiser, n: LambdaLR(optimiser, lambda i: 1.0),
        clip=1e-3,
    )
    generator = torch.Generator().manual_seed(0)
    network = perceptron((2, 16, 1), (2.0, 1.0), generator)
    before = torch.cat([v.flatten() for v in network.state_dict().values()])
    after = fit(network, Line(), recipe, generator, "a line").state
    moved = torch.cat([v.flatten() for v in after.values()]) - before
    # Differences of float32 numbers of order one.
    assert float(moved.norm()) == pytest.approx(1e-4, rel=1e-2)


def test_a_loss_that_is_no_number_ends_the_training():
    broken = Line()
    broken.loss = lambda network, batch: network(batch[0]).sum() * float("nan")
    with pytest.raises(ReductionError, match="iteration 0"):
        train(broken)


def test_a_perceptron_has_the_spread_it_is_asked_for():
    """Weights of deviation sqrt(gain / inputs); torch's own random numbers are left alone."""
    before = torch.random.get_rng_state()
    generator = torch.Generator().manual_seed(1)
    network = perceptron((400, 500, 3), (2.0, 0.0), generator, torch.float64)
    assert torch.equal(before, torch.random.get_rng_state())
    # 200,000 numbers: their deviation is known to 0.2 per cent.
    assert float(network[0].weight.detach().std()) == pytest.approx((2 / 400) ** 0.5, rel=0.01)
    assert torch.equal(network(torch.ones(2, 400).double()), torch.zeros(2, 3).double())


@dataclass
class Noun:
    number: int
    array: torch.Tensor


def test_a_fingerprint_sees_content_and_nothing_else():
    noun = Noun(1, torch.arange(4.0))
    assert fingerprint(noun) == fingerprint(Noun(1, torch.arange(4.0)))
    assert fingerprint(noun) != fingerprint(Noun(1, torch.arange(4.0).reshape(2, 2)))
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint((1, 2)) != fingerprint((2, 1))
    networks = [perceptron((2, 1), (1.0,), torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert fingerprint(networks[0]) == fingerprint(networks[1]) != fingerprint(networks[2])


def test_a_damaged_checkpoint_is_refused(tmp_path):
    file = tmp_path / "line.checkpoint"
    file.write_bytes(b"not a checkpoint")
    with pytest.raises(StoreError, match="Delete it"):
        Checkpoint(file, "a").read()
