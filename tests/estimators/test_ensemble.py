"""The network with attention, the trees and their vote: what each learns, and that it is kept."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from experiments.respiratory.comparison import compare, per_class, pooled, summary
from spinmesh.errors import ConfigError
from spinmesh.estimators import ClassScores, Examples, Names
from spinmesh.estimators.attention import augmented
from spinmesh.estimators.classifier import Classification, PlainPerceptron
from spinmesh.estimators.ensemble import (
    SoundModel,
    train_sound_model,
)
from spinmesh.io import load, save
from spinmesh.settings.respiratory import Afen, SoundFeatures
from spinmesh.sounds.features import kinds

FEATURES = SoundFeatures(mel_bands=8, cepstral=3)
ROWS = kinds(FEATURES)
QUICK = Afen(width=8, iterations=60, batch=16, learning_rate=1e-2, trees=40, repeats=1)
CLASSES = ("low", "high", "both")


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def toy(count: int = 90, seed: int = 0, image: bool = True, table: bool = True) -> Examples:
    """Loud for a while in low bands, in high ones, or in both; a table that says as much.

    Without `image` or `table` these are noise alone. Three examples of each group.
    """
    generator = drawn(seed)
    label = (torch.arange(count) // 3) % 3
    pictures = torch.randn((count, 2, sum(ROWS), 32), generator=generator)
    columns = torch.randint(20, (2, count), generator=generator)
    numbers = torch.randn((count, 3), generator=generator)
    for k in range(count):
        for row, column, classes in ((1, columns[0, k], (0, 2)), (6, columns[1, k], (1, 2))):
            if image and int(label[k]) in classes:
                pictures[k, :, row : row + 2, column : column + 12] += 3.0
    if table:
        numbers[torch.arange(count), label] += 3.0
    names = Names(("a", "b", "c"), ("1", "1", "1"), classes=CLASSES)
    return Examples(torch.arange(count) // 3, names, label, None, numbers, pictures)


def score(model: SoundModel | PlainPerceptron, examples: Examples) -> ClassScores:
    return ClassScores.of(model.probabilities(examples), examples.label, CLASSES)


def trained(training: Examples, validation: Examples, **changes: object) -> SoundModel:
    changes.setdefault("settings", QUICK)
    changes.setdefault("seed", 1)
    return train_sound_model(training, validation, features=FEATURES, **changes)


@pytest.fixture(scope="module")
def model() -> SoundModel:
    return trained(toy(), toy(45, seed=1))


@pytest.mark.slow
def test_both_members_and_the_vote_learn(model: SoundModel) -> None:
    """Three deviations in the table, and in two dozen pixels of the image."""
    test = toy(90, seed=2)
    members = model.members(test)
    scores = {n: ClassScores.of(p, test.label, CLASSES).macro_f1 for n, p in members.items()}
    assert min(scores.values()) > 0.85, scores
    assert score(model, test).macro_f1 > max(scores.values()) - 0.05
    for answer in (*members.values(), model.probabilities(test)):
        torch.testing.assert_close(answer.sum(1), torch.ones(90).double())


@pytest.mark.slow
@pytest.mark.parametrize("only", ["image", "table"])
def test_vote_follows_the_member_that_knows(only: str) -> None:
    """The other one is given noise."""
    given = {"image": only == "image", "table": only == "table"}
    told = trained(toy(**given), toy(60, seed=1, **given))
    assert (told.weight > 0.8) if only == "image" else (told.weight < 0.2)


@pytest.mark.slow
def test_model_comes_back_from_its_store(model: SoundModel, tmp_path: Path) -> None:
    """Trees as bytes, the network's weights, moments, vote and settings."""
    save(model, tmp_path / "model.zarr")
    again = load(SoundModel, tmp_path / "model.zarr")
    test = toy(12, seed=3)
    assert torch.equal(again.probabilities(test), model.probabilities(test))
    assert (again.features, again.names) == (model.features, model.names)


@pytest.mark.slow
def test_killed_training_goes_on_to_the_same_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same seed, the same model; killed after 5 of 8 updates, still the same; another: not."""
    settings, file = QUICK.replace(iterations=8, trees=2), tmp_path / "training.checkpoint"
    data = toy(30), toy(18, seed=1)
    whole = trained(*data, settings=settings)
    monkeypatch.setattr("spinmesh.learning.Checkpoint.SAVE_EVERY", 4)
    losses, loss = [], Classification.loss

    def killing(self: Classification, *arguments: object) -> torch.Tensor:
        losses.append(1)
        if len(losses) == 6:
            raise KeyboardInterrupt
        return loss(self, *arguments)

    monkeypatch.setattr(Classification, "loss", killing)
    with pytest.raises(KeyboardInterrupt):
        trained(*data, settings=settings, checkpoint=file)
    again = trained(*data, settings=settings, checkpoint=file)
    assert len(losses) == 6 + 4  # the last four of eight
    other = trained(*data, settings=settings, seed=2)
    for name, value in whole.state.items():
        assert torch.equal(value, again.state[name]), name
    assert torch.equal(whole.trees, again.trees)
    assert not torch.equal(whole.state["exit.weight"], other.state["exit.weight"])


def test_augmentation_follows_from_its_generator_and_keeps_the_probabilities() -> None:
    """What is hidden is the mean; torch's own generator is left where it was."""
    examples, before = toy(12), torch.random.get_rng_state()
    target = torch.nn.functional.one_hot(examples.label, 3).float()
    one, two, other = (augmented(examples.image, target, drawn(s), 8) for s in (1, 1, 2))
    assert torch.equal(one[0], two[0]) and not torch.equal(one[0], other[0])
    torch.testing.assert_close(one[1].sum(1), torch.ones(12))
    torch.testing.assert_close(one[1].sum(0), target.sum(0), atol=2.0, rtol=0)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_perceptron_is_no_straw_man() -> None:
    """Three deviations apart: the best one could do is 96 % (two classes: Phi(3 / sqrt 2))."""
    told = PlainPerceptron(toy(150), toy(60, seed=1), 0)
    assert score(told, toy(150, seed=2)).macro_f1 > 0.9


def test_training_without_labels_or_images_is_refused() -> None:
    whole = toy(12)
    with pytest.raises(ConfigError, match="labels"):
        trained(replace(whole, label=None), whole)
    with pytest.raises(ConfigError, match="without image"):
        trained(replace(whole, image=None), whole)


@pytest.mark.slow
def test_random_split_flatters_where_patients_can_be_recognised() -> None:
    """Labels that nothing tells, and patients whose table is their own: chance by patient."""
    generator, count = drawn(8), 120
    group = torch.arange(count) // 4
    mark = 4 * torch.randn((30, 3), generator=generator)[group]
    whole = replace(
        toy(count, image=False, table=False),
        group=group,
        label=torch.randint(3, (30,), generator=generator)[group],
        table=mark + 0.1 * torch.randn((count, 3), generator=generator),
    )
    few = QUICK.replace(iterations=5, trees=200)
    both = [compare(whole, few, FEATURES, split, 3)[1] for split in ("patient", "random")]
    rows = {(row["split"], row["method"]): row for row in summary(both)}
    assert rows["random", "trees"]["f1"] > 0.8
    assert rows["patient", "trees"]["f1"] < 0.6
    assert rows["patient", "majority"]["repeats"] == 1
    classes = per_class(both)
    assert {row["class"] for row in classes} == {*CLASSES, "all"}
    twice = pooled([both[0], both[0]])["patient"]
    assert twice.scores()["vote"].macro_f1 == both[0].scores()["vote"].macro_f1
    with pytest.raises(ConfigError, match=r"unknown split.*Give"):
        compare(whole, few, FEATURES, "by month", 3)
