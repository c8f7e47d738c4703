"""What is to be reconstructed: attenuations that were measured, or simulated to be found again."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.bloch_torrey import Basis, Signals, simulate_mesh
from spinmesh.errors import SequenceError
from spinmesh.mesh import TetMesh
from spinmesh.noise import add_rician, rician_mean
from spinmesh.sequence import Acquisition, difference
from spinmesh.stored import store
from spinmesh.tissue import Tissue

# Halvings of an interval of a few sigma: what is left is rounding.
HALVINGS = 60


@store("spinmesh/target", version=4, stage="simulate")
@dataclass(frozen=True, eq=False)
class Target:
    """Attenuations |S|/S0 in the order of `acquisition`; `sigma` is the noise in the same unit."""

    acquisition: Acquisition
    attenuation: Float[Tensor, " measurement"]
    sigma: float = 0.0

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
        """The same with Rician noise at `snr` of the unweighted signal (inf: none)."""
        attenuation = add_rician(self.attenuation, snr, generator)
        return replace(self, attenuation=attenuation, sigma=1 / snr)

    def select(self, index: Tensor) -> Target:
        """Some of the measurements."""
        return Target(self.acquisition.select(index), self.attenuation[index], self.sigma)


def simulate_target(
    mesh: TetMesh, tissue: Tissue, acquisition: Acquisition, basis: Basis, snr: float, seed: int
) -> Target:
    """The signal of a mesh, with Rician noise at `snr` (inf: none).

    Given a finer mesh and another basis than a reconstruction uses, it is no inverse crime.
    """
    attenuation = simulate_mesh(mesh, tissue, acquisition, basis).attenuation[0]
    return Target(acquisition, attenuation).noisy(snr, torch.Generator().manual_seed(seed))


def refuse_other_protocol(signals: Signals, acquisition: Acquisition) -> None:
    """SequenceError if training signals were simulated for another acquisition than the target's.

    A shape model itself knows shapes only and goes with every acquisition.
    """
    first = difference(signals.acquisition, acquisition)
    if first is not None:
        raise SequenceError(
            f"reconstruct: the training signals belong to another protocol than the target: "
            f"{first}. Simulate the training shapes with the target's acquisition, or leave the "
            "training signals out."
        )


def region_signal(
    magnitudes: Float[Tensor, "voxel measurement"], sigma: float
) -> tuple[Float[Tensor, " measurement"], float]:
    """Mean of a region's magnitudes without its bias, and its sigma: that of a voxel / sqrt(n)."""
    count = len(magnitudes)
    mean = magnitudes.mean(0)
    if count == 1:
        return mean, sigma
    return without_rician_bias(mean, sigma), sigma / math.sqrt(count)


def without_rician_bias(
    magnitude: Float[Tensor, " measurement"], sigma: float
) -> Float[Tensor, " measurement"]:
    """The signal S with E[magnitude | S] = magnitude (Koay & Basser 2006); 0 in the noise floor.

    For averages over many voxels: the mean of Rician magnitudes keeps their bias while its spread
    shrinks, so it is no Rician magnitude of smaller sigma.
    """
    if sigma == 0:
        return magnitude
    low, high = torch.zeros_like(magnitude), magnitude.clamp_min(0.0)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        above = rician_mean(middle, sigma) > magnitude
        high = torch.where(above, middle, high)
        low = torch.where(above, low, middle)
    return (low + high) / 2
