"""What is to be reconstructed: attenuations, measured or simulated, and how their tensor lies."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.bloch_torrey import Basis, Signals
from spinmesh.bodies import simulate
from spinmesh.errors import SequenceError
from spinmesh.mesh import TetMesh
from spinmesh.noise import add_rician, without_rician_bias
from spinmesh.sequence import Acquisition, difference
from spinmesh.stored import store
from spinmesh.tissue import Tissue

# The diffusion tensor's six numbers must be over-determined.
NEEDED = 12
# Singular values of the tensor's design below this fraction of the largest one: a blind direction.
BLIND = 1e-3
# Of a tensor in um^2/ms: far below any noise, far above rounding.
DIGITS = 9


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

    def noisy(self, snr: float, generator: torch.Generator) -> Target:
        """The same with Rician noise at `snr` of the unweighted signal (inf: none)."""
        attenuation = add_rician(self.attenuation, snr, generator)
        return replace(self, attenuation=attenuation, sigma=1 / snr)

    def select(self, index: Tensor) -> Target:
        """The measurements at `index` (mask or indices), in that order."""
        return Target(self.acquisition.select(index), self.attenuation[index], self.sigma)


def simulate_target(
    mesh: TetMesh, tissue: Tissue, acquisition: Acquisition, basis: Basis, snr: float, seed: int
) -> Target:
    """The signal of a mesh, with Rician noise at `snr` (inf: none).

    Given a finer mesh and another basis than a reconstruction uses, it is no inverse crime.
    """
    attenuation = simulate(mesh, tissue, acquisition, basis).attenuation[0]
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


def principal_rotations(
    acquisition: Acquisition, attenuation: Float[Tensor, "shape measurement"]
) -> Float[Tensor, "shape 3 3"]:
    """Rotations that take the template's axis z to the direction of fastest diffusion."""
    frames = torch.linalg.eigh(diffusion_tensors(acquisition, attenuation)).eigenvectors
    # Columns, fastest last.
    return frames * torch.linalg.det(frames).sign()[:, None, None]


def diffusion_tensors(
    acquisition: Acquisition, attenuation: Float[Tensor, "shape measurement"]
) -> Float[Tensor, "shape 3 3"]:
    """Apparent diffusion tensors (um^2/ms): log A = -B:D, least squares on b-tensors.

    Weighted by A, for a noise of sigma in A is one of sigma/A in log A: of strong gradients the
    directions across a cell count most, which tell its axis. Any waveform has a b-tensor. Raises
    SequenceError with too few measurements or directions.
    """
    usable = (acquisition.b_value > 0) & (attenuation.amin(0) > 0)
    if int(usable.sum()) < NEEDED:
        raise SequenceError(
            f"pose: {int(usable.sum())} measurements with a gradient; the tensor needs {NEEDED}. "
            "Set `pose: known` or acquire more directions."
        )
    i, j = torch.triu_indices(3, 3)
    design = -acquisition.b_tensor[usable][:, i, j] * torch.where(i == j, 1.0, 2.0)
    singular = torch.linalg.svdvals(design)
    if float(singular[-1]) < BLIND * float(singular[0]):
        raise SequenceError(
            "pose: the directions do not determine a diffusion tensor. Set `pose: known` or "
            "acquire directions all around."
        )
    weight = attenuation[:, usable, None]
    six = torch.linalg.lstsq(design * weight, weight.log() * weight).solution[..., 0]
    # Rounding differs with the memory a solve gets; a resumed search has to start at these digits.
    six = six.round(decimals=DIGITS)
    tensors = six.new_zeros(len(six), 3, 3)
    tensors[:, i, j] = tensors[:, j, i] = six
    return tensors
