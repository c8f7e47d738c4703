"""Splits part no group; scores agree with hand counts; calibrated samples cover as they should."""

import math

import pytest
import torch

from spinmesh.errors import ConfigError
from spinmesh.estimators import ClassScores, Examples, MajorityClass, Names, coverage, ranks
from spinmesh.io import load, save

CLASSES = ("healthy", "crackle", "wheeze")


def examples(count=90, groups=30, seed=0):
    """Each group of one class, groups of unequal size."""
    generator = torch.Generator().manual_seed(seed)
    group = torch.randint(groups, (count,), generator=generator)
    names = Names(("a", "b"), ("Hz", "1"), classes=CLASSES)
    table = torch.randn((count, 2), generator=generator)
    return Examples(group, names, label=group % 3, table=table)


def test_no_group_is_on_both_sides_and_every_one_is_judged_once():
    whole = examples()
    folds = list(whole.folds(5, seed=3))
    for rest, part in folds:
        assert not set(rest.group.tolist()) & set(part.group.tolist())
        assert len(rest) + len(part) == len(whole)
        # Each row still belongs to its group.
        assert torch.equal(part.label, part.group % 3)
    judged = torch.cat([part.table for _, part in folds])
    assert torch.equal(judged.sort(0)[0], whole.table.sort(0)[0])


def test_folds_depend_on_the_seed_alone():
    def parts(seed):
        return [part.table.tolist() for _, part in examples().folds(4, seed)]

    assert parts(1) == parts(1)
    assert parts(2**63 - 1)
    assert parts(1) != parts(2)


def test_a_split_at_random_parts_groups():
    """What `ungrouped` is for: without it the test above could not fail."""
    whole = examples()
    rest, part = whole.ungrouped().held_out(0.2, seed=0)
    before = [{tuple(row) for row in each.table.tolist()} for each in (rest, part)]
    groups = [
        {
            int(g)
            for g, row in zip(whole.group, whole.table.tolist(), strict=True)
            if tuple(row) in rows
        }
        for rows in before
    ]
    assert groups[0] & groups[1]


def test_a_class_with_one_patient_is_refused_by_name():
    whole = examples()
    alone = whole[(whole.label != 2) | (whole.group == 5)]
    with pytest.raises(ConfigError, match="'wheeze' has one group"):
        alone.folds(5, seed=0)
    with pytest.raises(ConfigError, match="2 groups do not make 5 folds"):
        whole[whole.group < 2].folds(5, seed=0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label": torch.tensor([0, 3])}, "labels outside 0 to 2"),
        ({"table": torch.tensor([[1.0, 2.0], [math.nan, 0.0]])}, "`table` of example 1"),
        ({"table": torch.ones(2, 3)}, "3 columns"),
    ],
)
def test_examples_that_do_not_fit_are_refused(change, words):
    given = {"group": torch.arange(2), "names": Names(("a", "b"), ("Hz", "1"), classes=CLASSES)}
    with pytest.raises(ConfigError, match=words):
        Examples(**given | {"table": torch.ones(2, 2)} | change)


def test_lengths_that_differ_are_refused():
    """Tests check shapes before, users do not."""
    whole = examples(4)
    object.__setattr__(whole, "label", torch.tensor([0]))
    with pytest.raises(ConfigError, match="1 of `label`, but 4 of `group`"):
        whole.__post_init__()


def test_examples_come_back_from_their_store(tmp_path):
    whole = examples()
    save(whole, tmp_path / "examples.zarr")
    again = load(Examples, tmp_path / "examples.zarr")
    assert again.names == whole.names and again.image is None
    assert all(torch.equal(getattr(again, k), getattr(whole, k)) for k in ("group", "table"))


def test_scores_of_six_examples_counted_by_hand():
    predicted = [0, 0, 1, 1, 1, 0]
    label = torch.tensor([0, 0, 0, 1, 1, 1])
    probabilities = torch.full((6, 3), 0.05)
    probabilities[range(6), predicted] = 0.9
    scores = ClassScores.of(probabilities, label, CLASSES)
    assert scores.confusion.tolist() == [[2, 1, 0], [1, 2, 0], [0, 0, 0]]
    torch.testing.assert_close(scores.precision, torch.tensor([2 / 3, 2 / 3, 0.0]).double())
    assert scores.macro_f1 == pytest.approx(4 / 9)
    assert scores.nll == pytest.approx(-(4 * math.log(0.9) + 2 * math.log(0.05)) / 6, rel=1e-6)
    # All six are predicted with confidence 0.9, and four are right.
    assert scores.ece == pytest.approx(0.9 - 4 / 6, rel=1e-6)
    assert math.isnan(scores.auc[2])
    assert [row["class"] for row in scores.rows("x")] == [*CLASSES, "all"]


def test_calibrated_probabilities_have_no_calibration_error():
    """Labels drawn from the probabilities predicted; the rest is counting noise."""
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand((20_000, 3), generator=generator).softmax(1)
    label = torch.multinomial(probabilities, 1, generator=generator)[:, 0]
    # Ten bins of some 2,000 examples: a deviation of 0.5 / 2,000^0.5 in each.
    assert ClassScores.of(probabilities, label, CLASSES).ece < 0.011
    sure = (4 * probabilities.log()).softmax(1)
    assert ClassScores.of(sure, label, CLASSES).ece > 0.05


def test_majority_class_says_the_training_frequencies():
    whole = examples()
    predicted = MajorityClass(whole).probabilities(whole[:5])
    frequencies = torch.stack([(whole.label == k).float().mean() for k in range(3)])
    torch.testing.assert_close(predicted, frequencies.expand(5, -1))


def test_samples_of_the_exact_posterior_cover_as_often_as_they_say():
    """x ~ N(0, 1) seen through noise of deviation 1: the posterior is N(y / 2, 1 / 2)."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((4000, 1), generator=generator)
    y = x + torch.randn((4000, 1), generator=generator)
    draws = torch.randn((4000, 200, 1), generator=generator)
    levels = (0.5, 0.8, 0.9)
    exact = coverage(ranks(y[:, None] / 2 + draws * 0.5**0.5, x), levels)[:, 0]
    # Four standard deviations of a count among 4,000.
    torch.testing.assert_close(exact, torch.tensor(levels).double(), rtol=0, atol=0.032)
    narrow = coverage(ranks(y[:, None] / 2 + draws * 0.25, x), levels)[:, 0]
    assert bool((narrow < exact - 0.1).all())
