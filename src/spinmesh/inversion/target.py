"""What is to be reconstructed: measured attenuations and, if known, the shape behind them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.bloch_torrey import Basis, simulate_mesh
from spinmesh.errors import SequenceError
from spinmesh.mesh import Substrates, TetMesh
from spinmesh.noise import add_rician
from spinmesh.sequence import Acquisition
from spinmesh.tissue import Tissue


@dataclass(frozen=True, eq=False)
class Target:
    """Attenuations |S|/S0 in the order of `acquisition`; `sigma` is the noise in the same unit.

    `truth` and `truth_parameters` are kept only to score a reconstruction afterwards.
    """

    acquisition: Acquisition
    attenuation: Float[Tensor, " measurement"]
    sigma: float = 0.0
    truth: TetMesh | None = None
    truth_parameters: Float[Tensor, " parameter"] | None = None

    def __post_init__(self) -> None:
        if self.attenuation.shape != (len(self.acquisition),):
            raise SequenceError(
                f"target: attenuations of shape {tuple(self.attenuation.shape)} for "
                f"{len(self.acquisition)} measurements. Give one number per measurement."
            )
        wrong = ~torch.isfinite(self.attenuation) | (self.attenuation < 0)
        if bool(wrong.any()):
            first = int(wrong.nonzero()[0])
            raise SequenceError(
                f"target: {int(wrong.sum())} attenuations are not finite and >= 0 (first: "
                f"measurement {first}, {float(self.attenuation[first])}). Mask or repair the voxel."
            )
        if not (0 <= self.sigma < float("inf")):
            raise SequenceError(f"target: sigma is {self.sigma}; give a finite number >= 0.")

    @classmethod
    def from_signal(
        cls,
        acquisition: Acquisition,
        magnitude: Float[Tensor, " measurement"],
        unweighted: Float[Tensor, " measurement"] | float,
        sigma: float,
    ) -> Target:
        """From magnitudes, the unweighted S0 and sigma, all in the scanner's unit.

        Raises SequenceError if an S0 is not positive.
        """
        unweighted = torch.as_tensor(unweighted, dtype=magnitude.dtype).expand_as(magnitude)
        if not bool((unweighted > 0).all()):
            first = int((~(unweighted > 0)).nonzero()[0])
            raise SequenceError(
                f"target: unweighted signal of measurement {first} is {float(unweighted[first])}; "
                "attenuation needs S0 > 0. Is the voxel inside the mask?"
            )
        return cls(acquisition, magnitude / unweighted, sigma / float(unweighted.mean()))

    def noisy(self, snr: float, generator: torch.Generator) -> Target:
        """The same target seen with Rician noise at `snr` (of the unweighted signal)."""
        attenuation = add_rician(self.attenuation, snr, generator)
        return Target(self.acquisition, attenuation, 1 / snr, self.truth, self.truth_parameters)


def simulate_target(
    substrate: Substrates,
    tissue: Tissue,
    acquisition: Acquisition,
    basis: Basis,
    snr: float,
    seed: int,
) -> Target:
    """The signal of a table's one shape, with Rician noise at `snr` (inf: none).

    Given on a finer mesh and with another basis than a reconstruction uses, it is no inverse crime.
    """
    mesh = substrate.mesh(0)
    attenuation = simulate_mesh(mesh, tissue, acquisition, basis).attenuation[0]
    target = Target(acquisition, attenuation, 0.0, mesh, substrate.parameters[0])
    if math.isinf(snr):
        return target
    return target.noisy(snr, torch.Generator().manual_seed(seed))
