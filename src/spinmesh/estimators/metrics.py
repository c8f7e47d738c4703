"""How good class probabilities and posterior samples are: scores, calibration, coverage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spinmesh.stored import quantity, store

# Bins of confidence, of equal width.
BINS = 10
# A probability of 0 would cost infinitely; a network of float32 cannot tell it from this.
SMALLEST = 1e-7


@store("spinmesh/class_scores", version=1, stage="respiratory")
@dataclass(frozen=True, eq=False)
class ClassScores:
    """Class probabilities against labels.

    `confidence` and `accuracy` are means over the examples of a bin of confidence (the largest
    probability), `share` is their part of all; NaN in empty bins. AUC is of one class against the
    rest, NaN where the judged examples lack one of both.
    """

    classes: tuple[str, ...]
    confusion: Int[Tensor, "true predicted"] = quantity()
    precision: Float[Tensor, " class"] = quantity()
    recall: Float[Tensor, " class"] = quantity()
    auc: Float[Tensor, " class"] = quantity()
    nll: float = quantity("nat")
    reliability: Float[Tensor, "bin confidence_accuracy_share"] = quantity()

    @classmethod
    def of(
        cls,
        probabilities: Float[Tensor, "example class"],
        label: Int[Tensor, " example"],
        classes: tuple[str, ...],
    ) -> ClassScores:
        """Scores of probabilities that sum to 1 along the classes."""
        from sklearn import metrics  # a second to import

        confidence, predicted = probabilities.double().max(1)
        numbers = list(range(len(classes)))
        precision, recall, _, _ = metrics.precision_recall_fscore_support(
            label, predicted, labels=numbers, zero_division=0.0
        )
        confusion = metrics.confusion_matrix(label, predicted, labels=numbers)
        auc = [
            metrics.roc_auc_score(label == k, probabilities[:, k])
            if 0 < int((label == k).sum()) < len(label)
            else torch.nan
            for k in numbers
        ]
        given = probabilities.double().gather(1, label[:, None]).clamp_min(SMALLEST)
        bins = (confidence * BINS).long().clamp_max(BINS - 1)
        inside = torch.nn.functional.one_hot(bins, BINS).double()
        sums = inside.T @ torch.stack([confidence, (predicted == label).double()], 1)
        share = inside.mean(0)
        means = sums / len(label) / share[:, None]
        return cls(
            classes,
            torch.from_numpy(confusion),
            torch.from_numpy(precision),
            torch.from_numpy(recall),
            torch.tensor(auc, dtype=torch.float64),
            float(-given.log().mean()),
            torch.cat([means, share[:, None]], 1),
        )

    @property
    def f1(self) -> Float[Tensor, " class"]:
        """2 precision recall / (precision + recall); 0 where both are."""
        total = self.precision + self.recall
        return torch.where(total > 0, 2 * self.precision * self.recall / total, 0.0)

    @property
    def accuracy(self) -> float:
        """Part of the examples whose most probable class is the true one."""
        return float(self.confusion.diagonal().sum() / self.confusion.sum())

    @property
    def macro_f1(self) -> float:
        """Mean of the classes' F1: each counts alike, however rare."""
        return float(self.f1.mean())

    @property
    def ece(self) -> float:
        """Expected calibration error: mean |accuracy - confidence| (Guo et al. 2017)."""
        confidence, accuracy, share = self.reliability.unbind(1)
        return float(((accuracy - confidence).abs() * share).nansum())

    def rows(self, method: str) -> list[dict[str, Any]]:
        """One row for each class and one for all of them."""
        each: list[dict[str, Any]] = [
            {
                "method": method, "class": name, "examples": int(self.confusion[k].sum()),
                "precision": float(self.precision[k]), "recall": float(self.recall[k]),
                "f1": float(self.f1[k]), "auc": float(self.auc[k]),
            }
            for k, name in enumerate(self.classes)
        ]  # fmt: skip
        whole: dict[str, Any] = {
            "method": method, "class": "all", "examples": int(self.confusion.sum()),
            "precision": float(self.precision.mean()), "recall": float(self.recall.mean()),
            "f1": self.macro_f1, "auc": float(self.auc.nanmean()), "nll": self.nll, "ece": self.ece,
        }  # fmt: skip
        return [*each, whole]


def ranks(
    samples: Float[Tensor, "example sample quantity"], truth: Float[Tensor, "example quantity"]
) -> Float[Tensor, "example quantity"]:
    """Fraction of an example's samples below its truth; uniform if the posterior is calibrated."""
    return (samples < truth[:, None]).double().mean(1)


def coverage(
    rank: Float[Tensor, "example quantity"], levels: Sequence[float]
) -> Float[Tensor, "level quantity"]:
    """How often central intervals hold the truth: `levels`, if the posterior is calibrated."""
    widths = torch.as_tensor(levels, dtype=torch.float64)
    return ((2 * rank - 1).abs() <= widths[:, None, None]).double().mean(1)
