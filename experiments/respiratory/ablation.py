"""What bits cost: spiking networks at full precision, with weights and states at few levels.

Settings are chosen on validation examples; test examples are looked at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from sklearn.datasets import load_digits
from torch import Tensor

from spinmesh.estimators import Classifier, ClassScores, Examples, MajorityClass, Names
from spinmesh.estimators.spiking import (
    CENTRED,
    UNIFORM,
    Precision,
    SpikingModel,
    train_spiking,
)
from spinmesh.settings.respiratory import Spiking
from spinmesh.stored import quantity, store

FULL = 32
"""Bits of a float32: full precision."""
SPIKING, PLAIN, MEANS, MAJORITY = "spiking", "without spikes", "means over time", "majority class"
WEIGHTS, STATES, BOTH, AFTER = "weights", "states", "both", "after training"
# Part of the groups that are judged at the end, and of the others, that choose.
TEST, VALIDATION = 0.2, 0.25
# Grey levels of scikit-learn's digits go from 0 to this.
WHITE = 16


def digit_spikes(steps: int, seed: int) -> Examples:
    """The 1,797 digits of scikit-learn: each pixel sends spikes at a rate, its grey level.

    A white pixel sends one at every step. Who wrote a digit is not known, so each is a group.
    """
    images, label = load_digits(return_X_y=True)
    rates = torch.from_numpy(images).float() / WHITE
    generator = torch.Generator().manual_seed(seed)
    spikes = torch.rand((len(rates), steps, rates.shape[1]), generator=generator) < rates[:, None]
    names = Names(classes=tuple(map(str, range(10))))
    return Examples(
        torch.arange(len(label)), names, label=torch.from_numpy(label), sequence=spikes.float()
    )


@store("spinmesh/ablation", version=1, stage="respiratory")
@dataclass(frozen=True, eq=False)
class Ablation:
    """Scores on the test examples by method, a number for each network.

    `limits` are those that validation chose. `models` are the networks of full precision.
    """

    task: str
    bits: int
    methods: tuple[str, ...]
    accuracy: dict[str, Float[Tensor, " network"]] = quantity()
    macro_f1: dict[str, Float[Tensor, " network"]] = quantity()
    limits: dict[str, tuple[float, float]] = quantity()
    models: tuple[SpikingModel, ...] | None = None

    def rows(self) -> list[dict[str, Any]]:
        """A row for each method: mean and standard deviation over the networks, in percent."""
        rows = []
        for method in self.methods:
            accuracy = self.accuracy[method]
            row: dict[str, Any] = {
                "task": self.task,
                "bits": self.bits,
                "method": method,
                "networks": len(accuracy),
            }
            for name, each in (("accuracy", accuracy), ("macro_f1", self.macro_f1[method])):
                spread = float(each.std()) if len(each) > 1 else math.nan
                row |= {name: 100 * float(each.mean()), f"{name}_std": 100 * spread}
            lower, upper = self.limits.get(method, (math.nan, math.nan))
            rows.append(row | {"lower": lower, "upper": upper})
        return rows


def table(ablations: Iterable[Ablation]) -> list[dict[str, Any]]:
    """The rows of all of them."""
    return [row for ablation in ablations for row in ablation.rows()]


def train_full_precision(
    examples: Examples, task: str, settings: Spiking, seed: int, device: str = "cpu"
) -> Ablation:
    """Networks with and without spikes; a perceptron on means over time; the majority class."""
    trial = _Trial.of(examples, settings, seed, device)
    averaged = replace(trial, training=_averaged(trial.training))
    spiking, plain = (trial.networks(Precision(), spiking=kind) for kind in (True, False))
    trained: dict[str, Sequence[Classifier]] = {
        SPIKING: spiking,
        PLAIN: plain,
        MEANS: [_OfMeans(model) for model in averaged.networks(Precision(), spiking=False)],
        MAJORITY: [MajorityClass(trial.training)],
    }
    return replace(trial.judged(task, FULL, trained, {}), models=(*spiking, *plain))


def train_at_bits(
    examples: Examples, full: Ablation, bits: int, settings: Spiking, seed: int, device: str = "cpu"
) -> Ablation:
    """Weights, states, and both at `bits` while training; both after it; both without spikes.

    Networks trained at few bits begin with the weights of those of full precision.
    Each way to spread the levels has the limits whose network (both, the first seed) had the
    highest macro-F1 on the validation examples. After training, and without spikes, limits are
    chosen in the same way.
    """
    trial = replace(_Trial.of(examples, settings, seed, device), models=full.models or ())
    chosen: dict[str, Precision] = {}

    def rounded(precision: Precision) -> list[SpikingModel]:
        return [replace(model, precision=precision) for model in trial.starts(spiking=True)]

    trained = {WEIGHTS: trial.networks(Precision(bits, None))}
    for levels in (UNIFORM, CENTRED):
        states, both, after = (f"{how}, {levels}" for how in (STATES, BOTH, AFTER))
        tried = [Precision(bits, bits, levels, *limits) for limits in settings.limits]
        best = trial.best(tried, lambda precision: trial.networks(precision, 1))
        chosen |= {states: replace(best, weight_bits=None), both: best}
        trained |= {name: trial.networks(chosen[name]) for name in (states, both)}
        chosen[after] = trial.best(tried, rounded)
        trained[after] = rounded(chosen[after])
    ceilings = sorted({upper for _, upper in settings.limits})
    tried = [Precision(bits, bits, UNIFORM, 0.0, upper) for upper in ceilings]
    chosen[PLAIN] = trial.best(tried, lambda precision: trial.networks(precision, 1, spiking=False))
    trained[PLAIN] = trial.networks(chosen[PLAIN], spiking=False)
    limits = {name: (each.lower, each.upper) for name, each in chosen.items()}
    return trial.judged(full.task, bits, trained, limits)


@dataclass(frozen=True, eq=False)
class _Trial:
    """Examples that networks learn from, that choose settings, and that judge; how to train."""

    training: Examples
    validation: Examples
    test: Examples
    settings: Spiking
    seed: int
    device: str
    models: tuple[SpikingModel, ...] = ()

    @classmethod
    def of(cls, examples: Examples, settings: Spiking, seed: int, device: str) -> _Trial:
        """No group is in two of the parts."""
        rest, test = examples.held_out(TEST, seed)
        return cls(*rest.held_out(VALIDATION, seed), test, settings, seed, device)

    def starts(self, spiking: bool) -> list[SpikingModel]:
        """The networks of full precision."""
        return [model for model in self.models if model.spiking is spiking]

    def networks(
        self, precision: Precision, count: int | None = None, spiking: bool = True
    ) -> list[SpikingModel]:
        """So many, or as many as the settings say, from one seed and start after the other."""
        nothing: list[SpikingModel | None] = [None] * self.settings.networks
        starts = self.starts(spiking) or nothing
        return [
            train_spiking(
                self.training, self.settings, precision, self.seed + number,
                spiking=spiking, start=start, device=self.device,
            )
            for number, start in enumerate(starts[:count])
        ]  # fmt: skip

    def best(
        self, tried: Sequence[Precision], networks: Callable[[Precision], list[SpikingModel]]
    ) -> Precision:
        """The first whose networks have the highest mean macro-F1 on the validation examples."""
        scores = [
            sum(scores.macro_f1 for scores in _scores(networks(precision), self.validation))
            for precision in tried
        ]
        return tried[scores.index(max(scores))]

    def judged(
        self,
        task: str,
        bits: int,
        trained: Mapping[str, Sequence[Classifier]],
        limits: dict[str, tuple[float, float]],
    ) -> Ablation:
        """Scores on the test examples."""
        accuracy, macro_f1 = {}, {}
        for method, models in trained.items():
            scores = _scores(models, self.test)
            accuracy[method] = torch.tensor([each.accuracy for each in scores], dtype=torch.float64)
            macro_f1[method] = torch.tensor([each.macro_f1 for each in scores], dtype=torch.float64)
        return Ablation(task, bits, tuple(trained), accuracy, macro_f1, limits)


def _scores(models: Sequence[Classifier], examples: Examples) -> list[ClassScores]:
    label, classes = examples.label, examples.names.classes
    assert label is not None
    return [ClassScores.of(model.probabilities(examples), label, classes) for model in models]


@dataclass(frozen=True, eq=False)
class _OfMeans(Classifier):
    """What a network says that is given means over time instead of a sequence."""

    model: Classifier

    def probabilities(self, examples: Examples) -> Float[Tensor, "example class"]:
        """Of each class."""
        return self.model.probabilities(_averaged(examples))


def _averaged(examples: Examples) -> Examples:
    """Sequences of one step: their means over time."""
    assert examples.sequence is not None
    return replace(examples, sequence=examples.sequence.mean(1, keepdim=True))
