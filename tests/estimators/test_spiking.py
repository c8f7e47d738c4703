"""Neurons fire when the closed form says; networks learn, come back from disk, refuse nonsense."""

import math

import pytest
import torch

from spinmesh.errors import ConfigError
from spinmesh.estimators import Examples, Names
from spinmesh.estimators.quantisers import quantised_weights
from spinmesh.estimators.spiking import (
    CENTRED,
    UNIFORM,
    PlainNetwork,
    Precision,
    SpikingModel,
    SpikingNetwork,
    fire,
    integrate_and_fire,
    train_spiking,
)
from spinmesh.io import load, save
from spinmesh.settings.respiratory import Spiking

QUICK = Spiking(units=16, epochs=6, batch=20, learning_rate=0.02)


def order_of_pulses(count: int = 120, steps: int = 10, seed: int = 0) -> Examples:
    """Two classes: which of two inputs fires first. Sums over time do not tell them apart."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(count) % 2
    early, late = torch.randint(0, steps // 2, (2, count), generator=generator)
    sequence = torch.zeros(count, steps, 2)
    rows = torch.arange(count)
    sequence[rows, early, label] = 1
    sequence[rows, late + steps // 2, 1 - label] = 1
    names = Names(classes=("first", "second"))
    return Examples(torch.arange(count), names, label=label, sequence=sequence)


def run_neuron(current: float, decay: float, steps: int) -> tuple[list[float], list[int]]:
    """Potentials, and the steps (from 1) at which a neuron with a constant input fires."""
    potential = spikes = torch.zeros(1, 1, dtype=torch.float64)
    potentials, times = [], []
    for step in range(1, steps + 1):
        given = torch.full((1, 1), current, dtype=torch.float64)
        potential, spikes = integrate_and_fire(potential, spikes, given, decay)
        potentials.append(float(potential))
        times += [step] if spikes else []
    return potentials, times


@pytest.mark.parametrize("current", [0.12, 0.2, 0.5, 0.99])
@pytest.mark.parametrize("decay", [0.5, 0.9])
def test_the_first_spike_comes_when_the_charging_curve_passes_the_threshold(
    current: float, decay: float
):
    """u_n = I (1 - decay^n) / (1 - decay) until then; never if I / (1 - decay) <= 1."""
    potentials, times = run_neuron(current, decay, 60)
    highest = current / (1 - decay)
    if highest <= 1:
        assert times == []
        first = 60
    else:
        first = math.ceil(math.log(1 - 1 / highest) / math.log(decay))
        assert times[0] == first
    for n in range(1, first + 1):
        # Sixty products in float64.
        assert potentials[n - 1] == pytest.approx(highest * (1 - decay**n), rel=1e-13)


def test_spikes_by_hand():
    """Half of the potential is left, 0.8 comes in; a spike takes 1 off at the next step. At the
    fourth the potential is 1, which it has to exceed."""
    potentials, times = run_neuron(0.8, 0.5, 10)
    expected = [0.8, 1.2, 0.4, 1.0, 1.3, 0.45, 1.025, 0.3125, 0.95625, 1.278125]
    assert potentials == pytest.approx(expected, abs=1e-15)
    assert times == [2, 5, 7, 10]


def test_without_leak_a_neuron_fires_at_the_rate_of_its_input():
    """Reset by subtraction loses nothing: 160 steps of 5/16 are 50 thresholds. A potential has to
    exceed the threshold, so one of them is still in it."""
    potentials, times = run_neuron(5 / 16, 1.0, 160)
    assert len(times) == 49
    assert potentials[-1] == 50 - 49


def test_the_surrogate_gradient_is_that_of_the_arctangent():
    """1 / (1 + (pi x)^2) at any x, while the value is 0 or 1."""
    x = torch.tensor([-2.0, -0.1, 0.0, 0.3, 5.0], dtype=torch.float64, requires_grad=True)
    spikes = fire(x)
    assert spikes.tolist() == [0, 0, 0, 1, 1]
    spikes.sum().backward()
    expected = 1 / (1 + (math.pi * x.detach()) ** 2)
    assert x.grad is not None
    torch.testing.assert_close(x.grad, expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("levels", [UNIFORM, CENTRED])
def test_rounded_states_stand_on_the_levels(levels):
    """Two steps of one neuron: what a step starts from is what the one before was rounded to."""
    precision = Precision(None, 2, levels, 0.5, 1.0)
    network = SpikingNetwork(2, 2, QUICK, precision, torch.Generator().manual_seed(1))
    few = set(network.state_levels.tolist())
    assert len(few) == 4
    potential = spikes = torch.zeros(1, 500)
    for _ in range(2):
        current = torch.randn(1, 500, generator=torch.Generator().manual_seed(2))
        before = 0.9 * potential + current - spikes
        potential, spikes = integrate_and_fire(potential, spikes, current, 0.9, network.rounded)
        assert set(potential.unique().tolist()) == few
        assert torch.equal(potential, network.rounded(before))
        assert torch.equal(spikes > 0, potential > 1)


def test_weights_at_two_bits_answer_as_the_same_network_with_rounded_weights():
    generator = torch.Generator()
    exact = SpikingNetwork(2, 2, QUICK, Precision(), generator.manual_seed(1))
    few = SpikingNetwork(2, 2, QUICK, Precision(2), generator.manual_seed(1))
    x = order_of_pulses().sequence * 3
    assert not torch.equal(exact(x), few(x))
    with torch.no_grad():
        for weights in (exact.inward, exact.recurrent, exact.outward):
            weights.copy_(quantised_weights(weights, 2))
    torch.testing.assert_close(exact(x), few(x), rtol=0, atol=0)


def test_a_network_learns_what_only_its_state_can_tell():
    """Which input came first: sums over time are alike in both classes, so chance is one half."""
    model = train_spiking(order_of_pulses(), QUICK, Precision(4, 4), seed=1)
    fresh = order_of_pulses(60, seed=5)
    told = model.probabilities(fresh)
    # Rows of float32 that a softmax made.
    torch.testing.assert_close(told.sum(1), torch.ones(60), rtol=0, atol=1e-6)
    # Sixty coins show more than 48 heads once in a million.
    assert int((told.argmax(1) == fresh.label).sum()) > 48
    assert model.losses[-6:].mean() < model.losses[:6].mean()


@pytest.mark.parametrize("spiking", [True, False])
def test_a_model_comes_back_from_disk_and_from_its_seed(tmp_path, spiking: bool):
    few = QUICK.replace(epochs=1)
    examples, precision = order_of_pulses(), Precision(4, 4, UNIFORM, 0.5, 2.0)
    model = train_spiking(examples, few, precision, seed=1, spiking=spiking)
    save(model, tmp_path / "model.zarr")
    back = load(SpikingModel, tmp_path / "model.zarr")
    again = train_spiking(examples, few, precision, seed=1, spiking=spiking)
    other = train_spiking(examples, few, precision, seed=2, spiking=spiking)
    told = model.probabilities(examples)
    assert isinstance(back.network, SpikingNetwork if spiking else PlainNetwork)
    assert torch.equal(told, back.probabilities(examples))
    assert torch.equal(told, again.probabilities(examples))
    assert not torch.equal(told, other.probabilities(examples))


def test_tuning_begins_with_the_weights_it_is_given():
    """With a learning rate of next to nothing it ends with them too."""
    examples = order_of_pulses()
    model = train_spiking(examples, QUICK.replace(epochs=1), Precision(), seed=1)
    still = QUICK.replace(tuning_epochs=1, tuning_learning_rate=1e-12)
    tuned = train_spiking(examples, still, Precision(2, 2), seed=5, start=model)
    for name, weights in model.state.items():
        # Six steps of Adam move a weight by 1e-12 each at most; the rest is rounding of float32.
        torch.testing.assert_close(tuned.state[name], weights, rtol=1e-6, atol=1e-11)


def test_bad_examples_are_refused_by_name():
    good = order_of_pulses()
    model = train_spiking(good, QUICK.replace(epochs=1), Precision(), seed=1)
    three = torch.zeros(4, 5, 3)
    bad = Examples(torch.arange(4), good.names, sequence=three)
    with pytest.raises(ConfigError, match="3 inputs; the model has 2"):
        model.probabilities(bad)
    with pytest.raises(ConfigError, match="without sequences"):
        model.probabilities(Examples(torch.arange(4), good.names))
    with pytest.raises(ConfigError, match="examples without labels"):
        train_spiking(bad, QUICK, Precision(), seed=1)
    with pytest.raises(ConfigError, match="no examples"):
        train_spiking(good[:0], QUICK, Precision(), seed=1)


@pytest.mark.parametrize("wrong", [{"state_bits": 9}, {"weight_bits": 0}, {"levels": "even"}])
def test_impossible_precisions_are_refused(wrong: dict[str, object]):
    with pytest.raises(ConfigError, match="spiking"):
        Precision(**wrong)  # type: ignore[arg-type]
