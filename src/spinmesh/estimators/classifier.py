"""What every classifier answers."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.estimators.examples import Examples


class Classifier(ABC):
    """Tells the class of examples."""

    @abstractmethod
    def probabilities(self, examples: Examples) -> Float[Tensor, "example class"]:
        """Of each class of the training data, in its order; rows sum to 1."""


class MajorityClass(Classifier):
    """The baseline that never looks: class frequencies of the training examples."""

    def __init__(self, training: Examples) -> None:
        assert training.label is not None
        counts = torch.bincount(training.label, minlength=len(training.names.classes))
        self.frequencies = counts / counts.sum()

    def probabilities(self, examples: Examples) -> Float[Tensor, "example class"]:
        """The same row for every example."""
        return self.frequencies.expand(len(examples), -1)
