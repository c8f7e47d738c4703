"""Spikes by hand; what a table of bits rests on: no group in two parts, settings by validation."""

import math

import pytest
import torch
from sklearn.datasets import load_digits

from experiments.respiratory import ablation
from experiments.respiratory.ablation import (
    AFTER,
    FULL,
    MAJORITY,
    SPIKING,
    Ablation,
    digit_spikes,
    table,
    train_at_bits,
    train_full_precision,
)
from experiments.respiratory.figures import plot_ablation
from spinmesh.errors import ConfigError
from spinmesh.estimators import Examples, Names
from spinmesh.estimators.spikes import band_spikes, changes
from spinmesh.estimators.spiking import CENTRED
from spinmesh.io import load, save
from spinmesh.settings.respiratory import Spiking

TINY = Spiking(
    units=8,
    epochs=3,
    tuning_epochs=2,
    batch=16,
    networks=2,
    bits=(2,),
    limits=((0.0, 0.2), (1.0, 3.0)),
)


def examples(count=60, steps=6, patients=12):
    """Two classes, told by which of two inputs is active more often."""
    generator = torch.Generator().manual_seed(0)
    label = torch.arange(count) % 2
    rates = torch.tensor([[0.8, 0.2], [0.2, 0.8]])[label]
    spikes = torch.rand(count, steps, 2, generator=generator) < rates[:, None]
    group = torch.arange(count) // (count // patients)
    return Examples(group, Names(classes=("a", "b")), label=label, sequence=spikes.float())


def test_changes_by_hand():
    """Threshold 2: the first level is remembered; 3.9 tells of 2, 4 of another 2, then it falls."""
    levels = torch.tensor([0.0, 1.9, 3.9, 4.0, 3.0, 2.0, -2.0])[None, :, None]
    risen, fallen = changes(levels, 2.0)
    assert risen[0, :, 0].tolist() == [False, False, True, True, False, False, False]
    assert fallen[0, :, 0].tolist() == [False, False, False, False, False, True, True]


def test_a_band_spikes_by_its_change_and_by_its_level_above_its_median():
    """Levels 0 0 5 9 0 with steps of 4 dB; adding a constant to a band changes nothing."""
    levels = torch.tensor([0.0, 0.0, 5.0, 9.0, 0.0])[None, :, None]
    whole = Examples(torch.zeros(1, dtype=torch.long), sequence=levels)
    shifted = Examples(torch.zeros(1, dtype=torch.long), sequence=levels - 30)
    spikes = band_spikes(whole, 4.0).sequence
    expected = [[0, 0, 1, 1, 0], [0, 0, 0, 0, 1], [0, 0, 1, 1, 0], [0, 0, 0, 1, 0], [0] * 5]
    assert spikes[0].T.tolist() == expected
    assert torch.equal(spikes, band_spikes(shifted, 4.0).sequence)
    with pytest.raises(ConfigError, match="without sequences"):
        band_spikes(Examples(torch.zeros(1, dtype=torch.long)), 4.0)


def test_pixels_spike_at_the_rate_of_their_grey_level():
    """Mean over 1,797 x 64 pixels and 40 steps of a rate in [0, 1]: its standard error is at most
    0.5 / sqrt(4.6e6) = 2.3e-4; black pixels are silent and white ones fire at every step."""
    digits = digit_spikes(40, seed=3)
    rates = torch.from_numpy(load_digits(return_X_y=True)[0]).float() / 16
    assert digits.sequence.shape == (1797, 40, 64)
    assert float((digits.sequence.mean(1) - rates).mean().abs()) < 4 * 2.3e-4
    fired = digits.sequence.mean(1)
    assert bool((fired[rates == 0] == 0).all()) and bool((fired[rates == 1] == 1).all())


@pytest.fixture(scope="module")
def full():
    return train_full_precision(examples(), "toy", TINY, seed=1)


@pytest.fixture(scope="module")
def few(full):
    """An ablation, the groups of each look at examples, and the models by method."""
    looked, models, scores, judged = [], {}, ablation._scores, ablation._Trial.judged

    def looking(classifiers, part):
        looked.append(set(part.group.tolist()))
        return scores(classifiers, part)

    def remembering(trial, task, bits, trained, limits):
        models.update(trained)
        return judged(trial, task, bits, trained, limits)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablation, "_scores", looking)
        patch.setattr(ablation._Trial, "judged", remembering)
        return train_at_bits(examples(), full, 2, TINY, seed=1), looked, models


@pytest.mark.slow
def test_an_ablation_is_stored_and_follows_from_its_seed(full, few, tmp_path):
    save(full, tmp_path / "full.zarr")
    back = load(Ablation, tmp_path / "full.zarr")
    # Two inputs of very different rates: a network that learns at all tells most of them.
    assert float(back.accuracy[SPIKING].min()) > 0.6 >= float(back.accuracy[MAJORITY])
    again = train_at_bits(examples(), back, 2, TINY, seed=1)
    assert all(torch.equal(few[0].accuracy[m], again.accuracy[m]) for m in again.methods)
    assert few[0].limits == again.limits


@pytest.mark.slow
def test_the_table_has_a_row_for_each_method_with_its_spread(full, few, tmp_path):
    rows = table([full, few[0]])
    assert [row["bits"] for row in rows] == [FULL] * 4 + [2] * 8
    accuracy = full.accuracy[SPIKING]
    # Two networks: the deviation of two numbers is their distance over the root of two.
    spread = 100 * float((accuracy[0] - accuracy[1]).abs()) / math.sqrt(2)
    assert rows[0]["accuracy"] == pytest.approx(100 * float(accuracy.mean()), rel=1e-12)
    assert rows[0]["accuracy_std"] == pytest.approx(spread, rel=1e-12)
    assert math.isnan(rows[3]["accuracy_std"])
    plot_ablation(rows, tmp_path / "spiking.png")
    assert (tmp_path / "spiking.png").stat().st_size > 10_000


@pytest.mark.slow
def test_limits_are_chosen_by_validation_examples_alone(few):
    """Test examples are looked at once for each method of the table, after all is chosen."""
    trial = ablation._Trial.of(examples(), TINY, 1, "cpu")
    groups = [set(part.group.tolist()) for part in (trial.training, trial.validation, trial.test)]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    few, looked, _ = few
    methods = len(few.methods)
    assert len(looked) > methods
    assert all(groups[1] == each for each in looked[:-methods])
    assert all(groups[2] == each for each in looked[-methods:])


@pytest.mark.slow
def test_after_training_the_weights_are_those_of_full_precision(full, few):
    spiking = [model for model in full.models if model.spiking]
    assert len(full.models) == 2 * len(spiking)
    for exact, rounded in zip(spiking, few[2][f"{AFTER}, {CENTRED}"], strict=True):
        assert all(torch.equal(exact.state[name], rounded.state[name]) for name in exact.state)
        assert rounded.precision.state_bits == rounded.precision.weight_bits == 2
