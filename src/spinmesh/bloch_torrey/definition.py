"""The matrix formalism as it is written down: what the fast engine has to give, one matrix
exponential at a time.

On mass-orthonormal functions the Bloch-Torrey equation is nu' = -(L + i gamma g(t).J) nu. Where g
is constant its solution is a matrix exponential: Callaghan, J. Magn. Reson. 129 (1997); in finite
elements Li et al., NeuroImage 202 (2019) and NMR Biomed. 33 (2020); with permeable membranes
Agdestein, Tran & Li, NMR Biomed. 35 (2022). Slow, and meant to be read: `simulate` is the engine.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Complex, Float
from numpy import ndarray
from torch import Tensor
from torch.linalg import matrix_exp as expm

from spinmesh.errors import SequenceError
from spinmesh.reduction import ReducedModel
from spinmesh.sequence import PGSE, Acquisition, Sequence
from spinmesh.units import GAMMA

Steps = Callable[[Sequence], tuple[Float[ndarray, " step"], Float[ndarray, "step axis"]]]


def pgse_signal(
    reduced: ReducedModel, pgse: PGSE, gradient: Float[Tensor, " 3"]
) -> Complex[Tensor, " compartment"]:
    """Signal of each compartment (um^3 times spin density) for one gradient (mT/m).

    `reduced.laplacian` L holds stiffness, membranes and relaxation (1/ms), `moments` J are in um.
    Raises SequenceError unless the pulses are rectangular and fill the echo time.
    """
    if pgse.ramp != 0 or pgse.onset > 0:
        raise SequenceError(f"definition: {pgse} has ramps or dead time. Use `matrix_formalism`.")
    L, K = reduced.laplacian.to(torch.complex128), generator(reduced, gradient)
    nu = expm(-pgse.delta * K) @ reduced.initial.to(K.dtype)
    nu = expm(-(pgse.Delta - pgse.delta) * L) @ nu
    nu = expm(-pgse.delta * K.conj()) @ nu
    return reduced.mean.to(K.dtype) @ nu


def matrix_formalism(
    reduced: ReducedModel, acquisition: Acquisition, steps: Steps = Sequence.steps
) -> Complex[Tensor, "compartment measurement"]:
    """Signal of each compartment for any profile that `steps` makes piecewise constant.

    `steps` gives durations (ms) and levels of a sequence; by default those that the engine uses.
    In um^3 times spin density; of one shape.
    """
    signals = []
    for row, number in enumerate(acquisition.timing.tolist()):
        vectors = acquisition.vectors(torch.tensor([row]))[0]
        nu = reduced.initial.to(torch.complex128)
        for duration, level in zip(*steps(acquisition.sequences[number]), strict=True):
            nu = expm(-duration * generator(reduced, vectors @ torch.from_numpy(level))) @ nu
        signals.append(reduced.mean.to(nu.dtype) @ nu)
    return torch.stack(signals, -1)


def generator(reduced: ReducedModel, gradient: Float[Tensor, " 3"]) -> Complex[Tensor, "mode mode"]:
    """K = L + i gamma g.J (1/ms)."""
    return reduced.laplacian + 1j * GAMMA * torch.tensordot(gradient, reduced.moments, 1)
