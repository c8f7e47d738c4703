"""How the signals of a set of images were measured: what a user's signal must share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spinmesh.errors import SequenceError
from spinmesh.noise import MagnitudeNoise, add_rician
from spinmesh.sequence import Acquisition, difference
from spinmesh.settings.synthesise import BundleSettings
from spinmesh.stored import quantity
from spinmesh.units import b_from_s_per_mm2

# A user's noise may differ from the model's by this factor before the posterior is called wrong.
NOISE_FACTOR = 1.25
# Of the largest b: below it two b-tensors are one.
SAME_B = 1e-6
# Two directions across the axons, and along them.
DIRECTIONS = X, Y, Z = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@dataclass(frozen=True, eq=False)
class Protocol:
    """Acquisition, noise and tissue behind the signals of packed bundles.

    `snr` is that of the unweighted signal, `mesh_size` that of the triangles between axons.
    """

    acquisition: Acquisition
    snr: float
    diffusivity: float = quantity("um^2/ms")
    mesh_size: float = quantity("um")

    @classmethod
    def of(cls, bundles: BundleSettings) -> Protocol:
        """That of a set of bundles: every b at every Delta, along x and y across and z along."""
        b = [b_from_s_per_mm2(value) for value in bundles.b_s_per_mm2 for _ in DIRECTIONS]
        directions = DIRECTIONS * len(bundles.b_s_per_mm2)
        acquisition = Acquisition.joined(
            Acquisition.pgse(b, directions, bundles.delta_ms, Delta) for Delta in bundles.Delta_ms
        )
        return cls(acquisition, bundles.snr, bundles.diffusivity_um2_per_ms, bundles.mesh_size_um)

    @property
    def noise(self) -> MagnitudeNoise:
        """Of a measured attenuation."""
        return MagnitudeNoise(1 / self.snr, 0.0)

    def observed(
        self, condition: Float[Tensor, "batch feature"], generator: torch.Generator
    ) -> Float[Tensor, "batch feature"]:
        """Logarithms of attenuations as they would be measured: with new Rician noise."""
        return add_rician(condition.exp(), self.snr, generator).log()

    def scaled(self, condition: Float[Tensor, "batch feature"]) -> Float[Tensor, "batch feature"]:
        """log hypot(S, 1/snr): as the logarithm, but flat where there is nothing but noise."""
        return torch.hypot(condition.exp(), condition.new_tensor(1 / self.snr)).log()

    def refuse_other(self, acquisition: Acquisition) -> None:
        """SequenceError if a signal measured with `acquisition` is of another protocol."""
        first = difference(self.acquisition, acquisition)
        if first is not None:
            raise SequenceError(
                f"synthesise: the signal belongs to another protocol than the model: {first} "
                "(model against signal). Train a model for this protocol, or give the signal of "
                "the model's."
            )

    def doubt(self, sigma: float) -> str | None:
        """What to tell a user whose noise (in attenuation) is not the model's; None if it is."""
        if 1 / NOISE_FACTOR <= sigma * self.snr <= NOISE_FACTOR:
            return None
        consequence = "narrow" if sigma * self.snr > 1 else "wide"
        return (
            f"the signal's SNR is {1 / sigma if sigma > 0 else float('inf'):.3g}, but the model "
            f"was trained for {self.snr:.3g}: intervals are too {consequence}. Train a model for "
            "this SNR."
        )

    def mirrored(self) -> Int[Tensor, " measurement"] | None:
        """Which measurement of a tissue is each measurement of its image mirrored in y.

        None if the acquisition is not symmetric: then the mirrored image has no known signal.
        """
        return self._partners(torch.diag(torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)))

    def transposed(self) -> Int[Tensor, " measurement"] | None:
        """The same for x and y exchanged."""
        return self._partners(torch.eye(3, dtype=torch.float64)[[1, 0, 2]])

    def _partners(self, turn: Tensor) -> Tensor | None:
        b = self.acquisition.b_tensor
        apart = (turn @ b @ turn.T - b[:, None]).abs().amax((2, 3))
        # Equal sequences may stand there under several numbers.
        sequences = self.acquisition.sequences
        first = torch.tensor([sequences.index(sequence) for sequence in sequences])
        timing = first[self.acquisition.timing]
        same = (apart <= SAME_B * b.abs().max()) & (timing == timing[:, None])
        return same.to(torch.uint8).argmax(0) if bool(same.any(0).all()) else None
