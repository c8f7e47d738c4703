"""Diffusion-MRI signals from reduced operators."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from spinmesh.errors import SequenceError
from spinmesh.reduction import ReducedModel
from spinmesh.sequence import PGSE, Acquisition
from spinmesh.units import GAMMA


@dataclass(frozen=True, eq=False)
class Signals:
    """Complex signals of substrates under one acquisition, and those without gradient.

    Both in um^3 times relative spin density; `unweighted` has each measurement's own timing.
    """

    acquisition: Acquisition
    signal: Complex[Tensor, "substrate measurement"]
    unweighted: Float[Tensor, "substrate measurement"]

    @property
    def attenuation(self) -> Float[Tensor, "substrate measurement"]:
        """|signal| relative to the same timing without gradient."""
        return self.signal.abs() / self.unweighted

    def __len__(self) -> int:
        return len(self.signal)


def simulate(reduced: ReducedModel, acquisition: Acquisition) -> Complex[Tensor, " measurement"]:
    """Signal of each measurement (um^3 times spin density), summed over compartments."""
    return simulate_compartments(reduced, acquisition).sum(0)


def simulate_compartments(
    reduced: ReducedModel, acquisition: Acquisition
) -> Complex[Tensor, "compartment measurement"]:
    """Signal of each compartment; differentiable in the reduced operators, forward and reverse."""
    signal: list[Tensor] = []
    order: list[Tensor] = []
    for number, sequence in enumerate(acquisition.sequences):
        chosen = (acquisition.timing == number).nonzero()[:, 0]
        if len(chosen):
            signal.append(_pgse(reduced, sequence, acquisition.gradient[chosen]))
            order.append(chosen)
    return torch.cat(signal, 1)[:, torch.argsort(torch.cat(order))]


def _pgse(
    reduced: ReducedModel, pgse: PGSE, gradient: Float[Tensor, "measurement 3"]
) -> Complex[Tensor, "compartment measurement"]:
    """Two pulses with free diffusion between (matrix formalism, Callaghan 1997).

    K is complex symmetric, so the second pulse acts on the read-out as exp(-delta conj K).
    """
    L = reduced.laplacian.to(torch.complex128)
    K = L + 1j * GAMMA * torch.einsum("md,djk->mjk", gradient, reduced.moments)
    pulse = torch.linalg.matrix_exp(-pgse.delta * K)
    between = torch.linalg.matrix_exp(-(pgse.Delta - pgse.delta) * L)
    nu = pulse @ reduced.initial.to(L)
    read_out = torch.einsum("mjk,ck->cmj", pulse.conj(), reduced.mean.to(L))
    return torch.einsum("cmj,mj->cm", read_out, nu @ between)


def unweighted(
    reduced: ReducedModel, acquisition: Acquisition
) -> Float[Tensor, " measurement"]:
    """Signal at each measurement's echo time without any gradient."""
    if not acquisition.sequences:
        raise SequenceError("acquisition: no sequence. Give at least one measurement.")
    values = [
        reduced.initial
        @ torch.linalg.matrix_exp(-sequence.echo_time * reduced.laplacian)
        @ reduced.initial
        for sequence in acquisition.sequences
    ]
    return torch.stack(values)[acquisition.timing]
