"""What a network is told of a signal: the combinations that the tissue changes above the noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.bundles.protocol import Protocol
from spinmesh.errors import ConfigError

# Noisy signals from which the covariance of the noise is taken, at least.
ENOUGH = 4000
# A combination is kept if the tissue's variance exceeds this part of the noise's.
LEAST_SIGNAL = 0.05


@dataclass(frozen=True, eq=False)
class Features:
    """(log-scaled signal - mean) @ weight: numbers of unit variance, the clearest first."""

    mean: Float[Tensor, " feature"]
    weight: Float[Tensor, "feature component"]
    protocol: Protocol | None = None

    @property
    def count(self) -> int:
        """How many the network is told."""
        return self.weight.shape[1]

    def __call__(
        self, condition: Float[Tensor, "batch feature"]
    ) -> Float[Tensor, "batch component"]:
        """Of logarithms of attenuations."""
        if condition.shape[1] != len(self.mean):
            raise ConfigError(
                f"synthesise: a signal of {condition.shape[1]} features for a model of "
                f"{len(self.mean)}. Give images and signals of the model's protocol."
            )
        return (self._scaled(condition) - self.mean.to(condition)) @ self.weight.to(condition)

    def _scaled(self, condition: Tensor) -> Tensor:
        return condition if self.protocol is None else self.protocol.scaled(condition)


def learn_features(
    condition: Float[Tensor, "image feature"], protocol: Protocol | None, seed: int
) -> Features:
    """Standardised features or, with noise, combinations that maximise signal over noise.

    The latter are generalised eigenvectors of the covariances of tissue and noise (the maximum
    noise fraction of Green et al. 1988), both estimated from the training conditions.
    """
    if protocol is None or math.isinf(protocol.snr):
        mean, spread = condition.mean(0), condition.std(0, correction=0)
        # A feature that never changes tells nothing; it becomes zero instead of 0/0.
        return Features(mean, torch.where(spread > 0, 1 / spread, 0.0).diag(), protocol)
    generator = torch.Generator().manual_seed(seed)
    condition = condition.double().repeat(math.ceil(ENOUGH / len(condition)), 1)
    clean = protocol.scaled(condition)
    noisy = protocol.scaled(protocol.observed(condition, generator))
    unit, vectors = torch.linalg.eigh((noisy - clean).T.cov())
    whiten = vectors / unit.sqrt()
    ratio, turn = torch.linalg.eigh((clean @ whiten).T.cov())
    # The clearest in any case: a network is told one number at least.
    kept = (ratio > LEAST_SIGNAL) | (ratio == ratio.max())
    weight = (whiten @ turn)[:, kept] / (1 + ratio[kept]).sqrt()
    return Features(noisy.mean(0).float(), weight.flip(1).float(), protocol)
