"""Latent spaces of shapes: principal components with a network or without, and an autoencoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from spinmesh.errors import MeshError
from spinmesh.learning import perceptron_of
from spinmesh.shapes.basis import SpectralBasis
from spinmesh.stored import quantity, store

# A component whose spread is below this fraction of the first one's is rounding, not shape.
NEGLIGIBLE_SPREAD = 1e-8
# Scores of this many spreads are where asinh turns from linear to logarithmic.
SQUEEZE = 3.0


@dataclass(frozen=True, eq=False)
class Components:
    """Mean and principal components of the coefficients of training shapes.

    The functions of the basis are M-orthonormal, so that components weigh by volume. A shape's
    scores are its coordinates along the components, `spread` their standard deviations.
    """

    basis: SpectralBasis
    mean: Float[Tensor, " coefficient"] = quantity("um^(5/2)")
    directions: Float[Tensor, "score coefficient"] = quantity("1")
    spread: Float[Tensor, " score"] = quantity("um^(5/2)")

    @classmethod
    def of(
        cls, basis: SpectralBasis, blocks: Iterable[Float[Tensor, "_ coefficient"]], most: int
    ) -> Components:
        """At most `most` components of shapes' coefficients, those that are rounding left out.

        One block of shapes is in memory at a time, and they may differ in length: of those before
        it, their mean and the triangle of a QR decomposition (Ross et al. 2008), whose singular
        values are those of all rows.
        """
        count, mean, rows = 0, torch.zeros(()), torch.zeros(())
        for block in blocks:
            centre, total = block.mean(0), count + len(block)
            if count == 0:
                mean, rows = centre, block - centre
            else:
                between = (count * len(block) / total) ** 0.5 * (centre - mean)
                rows = torch.cat([rows, block - centre, between[None]])
                rows = torch.linalg.qr(rows, mode="r").R
                mean = mean + len(block) / total * (centre - mean)
            count = total
        _, singular, directions = torch.linalg.svd(rows, full_matrices=False)
        spread = singular / (count - 1) ** 0.5
        count = min(most, int((spread > NEGLIGIBLE_SPREAD * spread[0]).sum()))
        return cls(basis, mean, directions[:count], spread[:count])

    def scores(self, points: Float[Tensor, "*batch point 3"]) -> Float[Tensor, "*batch score"]:
        """Scores (um^(5/2)) of shapes on the template."""
        return (self.basis.encode(points).flatten(-2) - self.mean) @ self.directions.T

    def points(self, scores: Float[Tensor, "*batch score"]) -> Float[Tensor, "*batch point 3"]:
        """Points (um) of shapes with these scores."""
        flat = self.mean + scores @ self.directions
        return self.basis.decode(flat.unflatten(-1, (-1, 3)))

    def whitened(self, scores: Float[Tensor, "*batch score"], count: int) -> Tensor:
        """The leading scores in units of their spread."""
        if len(self.spread) < count:
            raise MeshError(
                f"shape model: the training shapes span {len(self.spread)} dimensions, fewer than "
                f"latent = {count}. Sample more substrates or lower `latent`."
            )
        return scores[..., :count] / self.spread[:count]

    def linear(self, z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch score"]:
        """The inverse of `whitened`, with zeros for the scores that it leaves out."""
        count = z.shape[-1]
        rest = z.new_zeros(*z.shape[:-1], len(self.spread) - count)
        return torch.cat([z * self.spread[:count], rest], -1)


@store("spinmesh/shape_model", version=3, stage="reconstruct")
@dataclass(frozen=True, eq=False)
class ShapeModel(ABC):
    """Latent numbers z <-> point coordinates on one template; a priori z is standard normal.

    `latents` are those of every shape of the table the model was trained from, `training` marks the
    ones it learned from. `errors` holds the RMS point distance (um) on held-out shapes of the
    decoder, of PCA with as many numbers, and of the mean training shape.
    """

    components: Components = quantity()
    latents: Float[Tensor, "substrate latent"] = quantity()
    training: Bool[Tensor, " substrate"] = quantity()
    errors: Mapping[str, float] = quantity("um")
    loss_history: Float[Tensor, "report 3"] = quantity()  # epoch, training loss, validation loss

    @abstractmethod
    def decoded_scores(self, z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch score"]:
        """Principal scores; smooth in z."""

    @abstractmethod
    def encoded_scores(
        self, scores: Float[Tensor, "*batch score"]
    ) -> Float[Tensor, "*batch latent"]:
        """Latent numbers of shapes with these principal scores."""

    @property
    def basis(self) -> SpectralBasis:
        """What shapes are expanded in."""
        return self.components.basis

    @property
    def mean_points(self) -> Float[Tensor, "point 3"]:
        """The mean training shape (um): the mean of the points, not the decoded mean latent."""
        return self.basis.decode(self.components.mean.unflatten(-1, (-1, 3)))

    def decode(self, z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch point 3"]:
        """Points (um); differentiable in z by forward and reverse mode."""
        return self.components.points(self.decoded_scores(z))

    def encode(self, points: Float[Tensor, "*batch point 3"]) -> Float[Tensor, "*batch latent"]:
        """Latent numbers of shapes on the template."""
        return self.encoded_scores(self.components.scores(points))

    def decoded(self, points: Float[Tensor, "*batch point 3"]) -> Float[Tensor, "*batch point 3"]:
        """What is left of shapes (um) in their latent numbers."""
        return self.decode(self.encode(points))


@final
@dataclass(frozen=True, eq=False)
class PrincipalModel(ShapeModel):
    """The leading whitened scores; a network, if there is one, predicts from them what is left out.

    (A network in the encoder as well fitted the training shapes ten times better and validation
    shapes worse: there are hundreds of shapes, not the publication's 26,000.)
    """

    # Of the network, whose output is in units of the first spread; none: principal components.
    weights: Mapping[str, Tensor] = quantity()

    @cached_property
    def network(self) -> nn.Sequential:
        """Latents to what is added to the scores of PCA."""
        return perceptron_of(self.weights)

    def decoded_scores(self, z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch score"]:
        linear = self.components.linear(z)
        return linear + self.components.spread[0] * self.network(z) if self.weights else linear

    def encoded_scores(self, scores: Float[Tensor, "*batch score"]) -> Tensor:
        return self.components.whitened(scores, self.latents.shape[-1])


@final
@dataclass(frozen=True, eq=False)
class VariationalModel(ShapeModel):
    """Encoder and decoder learned together, with latents drawn towards a standard normal law.

    Scores over `unit`, the root of the template's volume (um^1.5), are um RMS. They are passed
    through asinh: the leading ones are a hundred times the last ones, which tell the number of
    beads.
    """

    encoder_weights: Mapping[str, Tensor] = quantity()
    decoder_weights: Mapping[str, Tensor] = quantity()
    centre: Float[Tensor, " score"] = quantity()  # of the scores over unit
    input_spread: Float[Tensor, " score"] = quantity()
    unit: float = quantity("um^(3/2)")

    @cached_property
    def encoder(self) -> nn.Sequential:
        """Squeezed scores to means and logarithmic variances."""
        return perceptron_of(self.encoder_weights)

    @cached_property
    def decoder(self) -> nn.Sequential:
        """Latents to scores over unit, less their mean."""
        return perceptron_of(self.decoder_weights)

    def decoded_scores(self, z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch score"]:
        return self.unit * (self.centre + self.decoder(z))

    def encoded_scores(self, scores: Float[Tensor, "*batch score"]) -> Tensor:
        return self.encoder(squeezed(scores / self.unit, self.input_spread)).chunk(2, -1)[0]


def squeezed(x: Float[Tensor, "*batch score"], spread: Float[Tensor, " score"]) -> Tensor:
    """What the variational encoder sees."""
    return torch.asinh(SQUEEZE * x / spread) / SQUEEZE**0.5
