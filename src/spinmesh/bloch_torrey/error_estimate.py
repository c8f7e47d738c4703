"""What a reduced basis misses: residuals of reduced states, and the change they make to signals."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Complex, Float, Int
from numpy import ndarray
from torch import Tensor

from spinmesh.bloch_torrey.program import mirrored
from spinmesh.bloch_torrey.signal import simulate, unweighted
from spinmesh.bloch_torrey.time_stepping import restricted_pade
from spinmesh.reduction import Projection, ReducedModel, Span
from spinmesh.sequence import Acquisition, Sequence
from spinmesh.units import GAMMA

# Measurements that residuals and the error estimate look at, at most (at least 2 per sequence).
REPRESENTATIVES = 24
# States per sequence whose residuals are taken, at least: 4 in each interval of a PGSE.
SAMPLES = 12
# A step of the states' time stepping turns phases by this much at most (rad): a per cent or so.
PHASE_STEP = 3.0


def representatives(acquisition: Acquisition) -> Acquisition:
    """Few measurements that stand for all: strongest first, then those farthest from the chosen.

    Within a sequence the signal depends smoothly on the gradient, and g and -g give conjugate
    signals, so the distance of two gradients is that of the nearer sign.
    """
    if len(acquisition) <= REPRESENTATIVES:
        return acquisition
    used = torch.unique(acquisition.timing).tolist()
    each = max(2, REPRESENTATIVES // len(used))
    rows = [(acquisition.timing == number).nonzero()[:, 0] for number in used]
    return acquisition.select(
        torch.cat([these[_farthest(acquisition.vectors(these).flatten(1), each)] for these in rows])
    )


def _farthest(points: Float[Tensor, "point component"], count: int) -> Int[Tensor, " chosen"]:
    """Greedy farthest-point choice, starting from the origin, up to sign."""
    distance, chosen = points.norm(dim=1), []
    for _ in range(min(count, len(points))):
        chosen.append(int(distance.argmax()))
        last = points[chosen[-1]]
        distance = torch.minimum(distance, (points - last).norm(dim=1))
        distance = torch.minimum(distance, (points + last).norm(dim=1))
    return torch.tensor(chosen)


@dataclass(frozen=True, eq=False)
class States:
    """Reduced magnetisations met on the way, and the gradient (mT/m) on at that moment."""

    values: Complex[ndarray, "mode state"]
    gradient: Float[ndarray, "3 state"]


def reduced_states(reduced: ReducedModel, acquisition: Acquisition) -> States:
    """States of all measurements along their sequences, and of the adjoint where it differs.

    The operator is complex symmetric, so the adjoint solution runs through the reversed profile;
    where that is the profile up to its sign it gives nothing new.
    """
    values, gradients = [], []
    for number, sequence in enumerate(acquisition.sequences):
        chosen = (acquisition.timing == number).nonzero()[:, 0]
        if len(chosen):
            vectors = acquisition.vectors(chosen)
            for profile in _directions(sequence):
                steps = [(length, vectors @ torch.from_numpy(level)) for length, level in profile]
                for state, gradient in _along(reduced, steps):
                    values.append(state.numpy())
                    gradients.append(gradient.numpy())
    return States(np.concatenate(values).T, np.concatenate(gradients).T)


def _directions(sequence: Sequence) -> list[list[tuple[float, Float[ndarray, " axis"]]]]:
    """Durations and levels; once more backwards unless that is the same profile up to its sign."""
    lengths, levels = sequence.steps()
    forward = [*zip(lengths.tolist(), levels, strict=True)]
    return [forward] if mirrored(lengths, levels) else [forward, forward[::-1]]


def _along(
    reduced: ReducedModel, steps: list[tuple[float, Float[Tensor, "m 3"]]]
) -> list[tuple[Complex[Tensor, "m mode"], Float[Tensor, "m 3"]]]:
    """Some states of each interval by L-stable steps of order 3: they need not be exact."""
    step = restricted_pade(3)
    samples = int(np.ceil(SAMPLES / len(steps)))
    size = len(reduced.laplacian)
    unit = torch.eye(size, dtype=torch.complex128)
    state = reduced.initial.to(torch.complex128).expand(len(steps[0][1]), -1)[..., None]
    result = []
    for length, gradient in steps:
        phase = GAMMA * torch.einsum("md,djk->mjk", gradient, reduced.moments)
        # The Frobenius norm over sqrt(k) is a typical size; single phases may turn faster.
        rate = float(phase.flatten(1).norm(dim=1).max()) / size**0.5
        each = max(1, int(np.ceil(length * rate / (PHASE_STEP * samples))))
        operator = torch.complex(reduced.laplacian.expand_as(phase), phase)
        inverse = torch.linalg.inv(unit + step.pole * length / (each * samples) * operator)
        for _ in range(samples):
            result.append((state[..., 0], gradient))
            for _ in range(each):
                state = step.of(partial(torch.matmul, inverse), state)
        result.append((state[..., 0], gradient))
    return result


def residual_block(
    projection: Projection, reduced: ReducedModel, acquisition: Acquisition, columns: int
) -> Float[ndarray, "dof column"]:
    """`columns` random combinations of the residuals of all states.

    Random combinations find the dominant directions of many vectors without ever forming them
    (Halko, Martinsson & Tropp 2011), and no symmetry can hide a direction from them.
    """
    states = reduced_states(reduced, acquisition)
    random = np.random.default_rng(projection.size)
    mixture = random.standard_normal((2 * states.values.shape[1], columns))
    return projection.residual(states.values, states.gradient, mixture)


@dataclass(frozen=True, eq=False)
class Answers:
    """The signals that two models are compared by."""

    signal: Complex[Tensor, " measurement"]
    reference: Float[Tensor, " measurement"]  # without gradient

    @classmethod
    def of(cls, reduced: ReducedModel, acquisition: Acquisition) -> Answers:
        """Of one model."""
        return cls(simulate(reduced, acquisition), unweighted(reduced, acquisition))


@dataclass(frozen=True, eq=False)
class Judged:
    """A basis and the answers it gives, which both its own and the next estimate compare."""

    projection: Projection
    reduced: ReducedModel
    answers: Answers

    @classmethod
    def of(cls, projection: Projection, acquisition: Acquisition) -> Judged:
        """Project once, simulate once."""
        reduced = projection.reduced
        return cls(projection, reduced, Answers.of(reduced, acquisition))

    @property
    def span(self) -> Span:
        """The frozen basis."""
        return self.projection.span

    @property
    def size(self) -> int:
        """Number of modes k."""
        return self.projection.size


def largest_change(first: Answers, second: Answers) -> float:
    """Largest change of any signal, and of any unweighted one, relative to the unweighted one."""
    change = torch.maximum(
        (second.signal - first.signal).abs(), (second.reference - first.reference).abs()
    )
    return float((change / second.reference).max())
