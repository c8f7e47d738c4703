"""Diffusion-MRI signals from reduced operators."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from spinmesh.bloch_torrey.propagation import intervals_of, signal
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
    parts: list[Tensor] = []
    order: list[Tensor] = []
    for number, sequence in enumerate(acquisition.sequences):
        chosen = (acquisition.timing == number).nonzero()[:, 0]
        if len(chosen):
            parts.append(_one_sequence(reduced, sequence, acquisition.gradient[chosen]))
            order.append(chosen)
    return torch.cat(parts, 1)[:, torch.argsort(torch.cat(order))]


def _one_sequence(
    reduced: ReducedModel, sequence: PGSE, gradient: Float[Tensor, "measurement 3"]
) -> Complex[Tensor, "compartment measurement"]:
    """Product of exp(-dt (L + i gamma f g.J)) over the intervals on which f is constant."""
    phase = GAMMA * torch.einsum("md,djk->mjk", gradient, reduced.moments)
    times = sequence.breakpoints()
    durations = [after - before for before, after in pairwise(times)]
    levels = [sequence.profile((before + after) / 2) for before, after in pairwise(times)]
    rate = GAMMA * float(gradient.norm(dim=1).max()) * _extent(reduced.moments)
    return signal(reduced.laplacian, phase, reduced.mean, intervals_of(durations, levels, rate))


def _extent(moments: Float[Tensor, "3 mode mode"]) -> float:
    """Bound on |n.J| for any unit n: the root of the largest eigenvalue of Jx^2 + Jy^2 + Jz^2."""
    squares = torch.einsum("djk,dkl->jl", moments.detach(), moments.detach())
    return float(torch.linalg.eigvalsh(squares)[-1].clamp_min(0).sqrt())


def unweighted(reduced: ReducedModel, acquisition: Acquisition) -> Float[Tensor, " measurement"]:
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
