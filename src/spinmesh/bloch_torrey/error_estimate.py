"""What a reduced basis misses: residuals of reduced states, and the change they make to signals."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from jaxtyping import Complex, Float, Int
from numpy import ndarray
from torch import Tensor

from spinmesh.bloch_torrey.exponential import steps_and_polynomial
from spinmesh.bloch_torrey.program import halves, mirrored
from spinmesh.bloch_torrey.signal import Signals
from spinmesh.reduction import Projection, ReducedModel
from spinmesh.sequence import Acquisition, Sequence
from spinmesh.units import GAMMA

Steps = list[tuple[float, list[float]]]

# Measurements that residuals and the error estimate look at, at most (at least 2 per sequence).
REPRESENTATIVES = 24
# Measurements whose states a block takes residuals of: at random others for each block.
MEASUREMENTS = 8
# States per sequence whose residuals are taken, at least: 4 in each interval of a PGSE.
SAMPLES = 12
# Error ratio of successive bases assumed before it is seen, and believed at most.
FIRST_RATIO, LARGEST_RATIO = 0.5, 0.8
# Error of one step of the states: they need not be exact.
ROUGH = 0.01


def representatives(acquisition: Acquisition, most: int = REPRESENTATIVES) -> Acquisition:
    """Few measurements that stand for all: strongest first, then those farthest from the chosen.

    Within a sequence the signal depends smoothly on the gradient, and g and -g give conjugate
    signals, so the distance of two gradients is that of the nearer sign.
    """
    return acquisition.select(representative_rows(acquisition, most))


def representative_rows(acquisition: Acquisition, most: int) -> Int[Tensor, " chosen"]:
    """Which ones `representatives` are."""
    if len(acquisition) <= most:
        return torch.arange(len(acquisition))
    used = torch.unique(acquisition.timing).tolist()
    each = max(2, most // len(used))
    rows = [(acquisition.timing == number).nonzero()[:, 0] for number in used]
    chosen = (_farthest(acquisition.vectors(these).flatten(1), each) for these in rows)
    return torch.cat([these[place] for these, place in zip(rows, chosen, strict=True)])


def _farthest(points: Float[Tensor, "point component"], count: int) -> Int[Tensor, " chosen"]:
    """Greedy farthest-point choice, starting from the origin, up to sign."""
    distance, chosen = points.norm(dim=1), []
    for _ in range(min(count, len(points))):
        chosen.append(int(distance.argmax()))
        last = points[chosen[-1]]
        distance = torch.minimum(distance, (points - last).norm(dim=1))
        distance = torch.minimum(distance, (points + last).norm(dim=1))
    return torch.tensor(chosen)


def reduced_states(
    reduced: ReducedModel, acquisition: Acquisition
) -> tuple[Complex[ndarray, "mode state"], Float[ndarray, "3 state"]]:
    """States of all measurements along their sequences, and the gradient (mT/m) on at the time.

    And those of the adjoint where it differs: the operator is complex symmetric, so the adjoint
    solution runs through the reversed profile; where that is the profile up to its sign it gives
    nothing new. With a core it starts in the middle, from what is observed there of the state that
    comes from the other end (`_observed`).
    """
    states = []
    for number, sequence in enumerate(acquisition.sequences):
        rows = (acquisition.timing == number).nonzero()[:, 0]
        if len(rows):
            parts, mirror = _parts(sequence, reduced.core is not None)
            vectors = acquisition.vectors(rows)
            ways = [parts] if mirror else [parts, [part[::-1] for part in parts[::-1]]]
            for way in ways:
                state = reduced.initial.to(torch.complex128).expand(len(rows), -1)
                for number, steps in enumerate(way):
                    if number:
                        state = _observed(reduced, state)
                    gradients = [(time, vectors @ vectors.new_tensor(f)) for time, f in steps]
                    states += _along(reduced, state, gradients)
                    state = states[-1][0]
    values, fields = (torch.cat(parts).T.numpy() for parts in zip(*states, strict=True))
    return values, fields


def _parts(sequence: Sequence, core: bool) -> tuple[list[Steps], bool]:
    """The steps, with a core before and after the middle; and whether they mirror themselves."""
    durations, levels = sequence.steps()
    if not core:
        steps = [*zip(durations.tolist(), levels.tolist(), strict=True)]
        return [steps], mirrored(durations, levels) is not None
    program, rest = halves(sequence)
    sides = ([(s.duration, list(s.level)) for s in side] for side in (program.ket, program.after))
    before, after = sides
    half = [(rest / 2, [0.0] * levels.shape[1])] if rest or not (before and after) else []
    return [before + half, half + after], program.mirror is not None


def _observed(reduced: ReducedModel, state: Complex[Tensor, "m mode"]) -> Tensor:
    """What is in the core, scaled so that without decay it is as long as the excited state."""
    assert reduced.core is not None
    excited = reduced.initial
    scale = excited.norm() / (reduced.core @ excited).norm()
    return state @ (scale * reduced.core).to(state.dtype)


def _along(
    reduced: ReducedModel,
    start: Complex[Tensor, "m mode"],
    steps: list[tuple[float, Float[Tensor, "m 3"]]],
) -> list[tuple[Complex[Tensor, "state mode"], Float[Tensor, "state 3"]]]:
    """Some states of each interval."""
    samples = int(np.ceil(SAMPLES / len(steps)))
    size = len(reduced.laplacian)
    unit = torch.eye(size, dtype=torch.complex128)
    state = start[..., None]
    result = []
    for length, gradient in steps:
        # Without gradient one operator serves all.
        on = gradient if gradient.any() else gradient[:1]
        phase = GAMMA * torch.einsum("md,djk->mjk", on, reduced.moments)
        # The Frobenius norm over sqrt(k) is a typical size; single phases may turn faster.
        rate = float(phase.flatten(1).norm(dim=1).max()) / size**0.5
        each, polynomial = steps_and_polynomial(length * rate / samples, ROUGH)
        operator = torch.complex(reduced.laplacian.expand_as(phase), phase)
        scale = length / (each * samples * polynomial.pole)
        inverse = torch.linalg.inv(unit + scale * operator)
        for number in range(samples + 1):
            result.append((state[..., 0], gradient))
            for _ in range(each if number < samples else 0):
                state = polynomial.of(partial(torch.matmul, inverse), state)
    return result


def residual_block(
    projection: Projection, acquisition: Acquisition, columns: int
) -> Float[ndarray, "dof column"]:
    """`columns` random combinations of the residuals of some measurements' states.

    Random combinations find the dominant directions of many vectors without ever forming them
    (Halko, Martinsson & Tropp 2011), and no symmetry can hide a direction from them.
    """
    random = np.random.default_rng(projection.size)
    some = torch.from_numpy(random.permutation(len(acquisition))[:MEASUREMENTS])
    states, gradient = reduced_states(projection.reduced, acquisition.select(some))
    mixture = random.standard_normal((2 * states.shape[1], columns))
    return projection.residual(states, gradient, mixture)


def largest_change(first: Signals, second: Signals) -> float:
    """Largest change of any signal, and of any unweighted one, relative to the unweighted one."""
    change = torch.maximum(
        (second.signal - first.signal).abs(), (second.unweighted - first.unweighted).abs()
    )
    return float((change / second.unweighted).max())


def estimated_error(previous: float, change: float) -> float:
    """Of a basis that a larger one changes by `change`, a smaller one by `previous` (0: unknown).

    The change is the error up to that of the larger basis, which the ratio of the two tells.
    """
    ratio = min(change / previous, LARGEST_RATIO) if previous > 0 else FIRST_RATIO
    return change / (1 - ratio)
