"""AFEN beside its members, a plain perceptron and the majority class; patients parted or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spinmesh.errors import ConfigError
from spinmesh.estimators import ClassScores, Examples, MajorityClass
from spinmesh.estimators.classifier import PlainPerceptron
from spinmesh.estimators.ensemble import SoundModel, train_sound_model
from spinmesh.settings.respiratory import Afen, SoundFeatures
from spinmesh.stored import quantity, store

# By patient, as it has to be; at random, as it is often done, windows of a patient on both sides.
SPLITS = ("patient", "random")


@store("spinmesh/comparison", version=1, stage="respiratory")
@dataclass(frozen=True, eq=False)
class Comparison:
    """What several methods answer for the same test examples after one `split`."""

    split: str
    classes: tuple[str, ...]
    methods: tuple[str, ...]
    label: Int[Tensor, " example"] = quantity()
    probabilities: Float[Tensor, "method example class"] = quantity()

    def scores(self) -> dict[str, ClassScores]:
        """By method."""
        return {
            method: ClassScores.of(each, self.label, self.classes)
            for method, each in zip(self.methods, self.probabilities, strict=True)
        }


def compare(
    examples: Examples,
    settings: Afen,
    features: SoundFeatures,
    split: str,
    seed: int,
    checkpoint: str | Path | None = None,
    device: str = "cpu",
) -> tuple[SoundModel, Comparison]:
    """Train on some patients, choose on others, judge on the rest; the split follows from `seed`.

    Raises ConfigError for an unknown split, or a class with too few patients.
    """
    if split not in SPLITS:
        raise ConfigError(f"comparison: unknown split {split!r}. Give {' or '.join(SPLITS)}.")
    whole = examples if split == "patient" else examples.ungrouped()
    rest, test = whole.held_out(settings.test_fraction, seed)
    training, validation = rest.held_out(settings.validation_fraction, seed)
    model = train_sound_model(training, validation, settings, features, seed, checkpoint, device)
    answers = {
        "vote": model.probabilities(test),
        **model.members(test),
        "perceptron": PlainPerceptron(training, validation, seed).probabilities(test),
        "majority": MajorityClass(training).probabilities(test),
    }
    assert test.label is not None
    stack = torch.stack([each.double() for each in answers.values()])
    return model, Comparison(split, examples.names.classes, tuple(answers), test.label, stack)


def pooled(comparisons: Sequence[Comparison]) -> dict[str, Comparison]:
    """All repeats of a split as one, by split."""
    by_split: dict[str, list[Comparison]] = {}
    for each in comparisons:
        by_split.setdefault(each.split, []).append(each)
    return {
        split: Comparison(
            split,
            parts[0].classes,
            parts[0].methods,
            torch.cat([part.label for part in parts]),
            torch.cat([part.probabilities for part in parts], 1),
        )
        for split, parts in by_split.items()
    }


def summary(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """A row for each split and method: means over the repeats, and the deviation of macro-F1."""
    by_method: dict[tuple[str, str], list[ClassScores]] = {}
    for each in comparisons:
        for method, scores in each.scores().items():
            by_method.setdefault((each.split, method), []).append(scores)
    return [
        {"split": split, "method": method, "repeats": len(repeats)} | _means(method, repeats)
        for (split, method), repeats in by_method.items()
    ]


def _means(method: str, repeats: Sequence[ClassScores]) -> dict[str, Any]:
    wholes = [scores.rows(method)[-1] for scores in repeats]
    columns = {
        name: torch.tensor([whole[name] for whole in wholes], dtype=torch.float64)
        for name in ("f1", "precision", "recall", "auc", "nll", "ece")
    }
    spread = float(columns["f1"].std()) if len(repeats) > 1 else float("nan")
    return {"f1_deviation": spread} | {name: float(c.mean()) for name, c in columns.items()}


def per_class(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """A row for each split, method and class, over the test examples of all repeats."""
    return [
        {"split": split, **row}
        for split, whole in pooled(comparisons).items()
        for method, scores in whole.scores().items()
        for row in scores.rows(method)
    ]
