"""What the sweeps of a signal add up to: tangents (forward mode) and cotangents (reverse mode)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.bloch_torrey.exponential import (
    CorePart,
    Frame,
    Pulse,
    PulsePart,
    Rest,
    RestPart,
    real_product,
)
from spinmesh.units import GAMMA


@dataclass(frozen=True, eq=False)
class Sweep:
    """Contributions to dS and the adjoint state carried back to the start.

    `total`: the start is the initial state, the sum over compartments; else each one's read-out.
    `twice` and `real`: dS = 2 e or 2 Re e of what the contributions give, for a mirrored sequence.
    """

    parts: list[PulsePart | RestPart | CorePart]
    start: Tensor | None = None  # (compartment, shape, direction, mode, measurement)
    total: bool = True
    twice: bool = False
    real: bool = False

    @classmethod
    def back(
        cls, stages: list[Pulse | Rest], tapes: list[list[Tensor]], left: Tensor, total: bool
    ) -> Sweep:
        """Carry an adjoint state back through all stages."""
        parts: list[PulsePart | RestPart | CorePart] = []
        for stage, tape in zip(reversed(stages), reversed(tapes), strict=True):
            left, of_stage = stage.backward(left, tape)
            parts += of_stage
        return cls(parts, left, total)

    def zero(self) -> Tensor:
        """No derivative: a sweep through no stage at all."""
        return torch.zeros(()) if self.start is None else torch.zeros_like(self.start[..., 0, :])

    def folded(self, value: Tensor) -> Tensor:
        """dS of e; of a weight w, the w' such that Re(w dS) = Re(w' e)."""
        if self.real:
            return (2 * value.real).to(value.dtype)
        return 2 * value if self.twice else value


@dataclass(frozen=True, eq=False)
class Tangent:
    """A direction in the space of operators, seen from the frame."""

    frame: Frame
    operators: Tensor  # (shape, 4 mode mode): dL, dJx, dJy, dJz
    mean: Tensor  # (compartment, shape, mode)
    core: Tensor | None = None  # (shape, 1 mode mode)

    @classmethod
    def of(
        cls, frame: Frame, laplacian: Tensor, moments: Tensor, mean: Tensor, core: Tensor | None
    ) -> Tangent:
        """From dL, dX (shape, mode, mode), dJ (shape, 3, ...) and dm (shape, compartment, mode)."""
        Q = frame.vectors
        operators = torch.cat([laplacian[:, None], moments], 1)
        operators = Q[:, None].mT @ operators @ Q[:, None]
        square = None if core is None else (Q.mT @ core @ Q).flatten(-2)[:, None]
        return cls(frame, operators.flatten(-2), (mean @ Q).movedim(1, 0), square)

    def along(self, sweep: Sweep, vectors: Tensor | None) -> Tensor:
        """dS (compartment, shape, direction, measurement); `vectors` are the moving gradients."""
        first, *rest = [self._part(part, vectors) for part in sweep.parts] or [sweep.zero()]
        value = sum(rest, first)
        if sweep.start is not None:
            mean = self.mean.sum(0, keepdim=True) if sweep.total else self.mean
            value = value + (sweep.start * mean[:, :, None, :, None]).sum(-2)
        return sweep.folded(value)

    def _part(self, part: PulsePart | RestPart | CorePart, vectors: Tensor | None) -> Tensor:
        if isinstance(part, CorePart):
            assert self.core is not None
            return _contracted(_outer(part.left, part.right), self.core)[..., 0]
        if isinstance(part, RestPart):
            differences, which = part.rest.differences()
            outer = _outer(part.left, part.right) * differences[:, which]
            return _contracted(outer, self.operators[:, :1])[..., 0]
        along, outer = part.along, _outer(*part.in_frame())
        moved = _contracted(outer, self.operators)
        turned = _dot(moved[..., 1:], along.amplitude[..., None] * along.direction[:, None])
        if vectors is not None:
            fixed = _contracted(outer, self.frame.moments.flatten(-2))
            turned = turned + _dot(fixed, vectors @ along.level)
        return moved[..., 0] + 1j * GAMMA * turned


def _outer(left: Tensor, right: Tensor) -> Tensor:
    """sum_n left_n right_n', (compartment, shape, direction, measurement, mode, mode)."""
    return left.movedim(-1, 3) @ right.movedim(-1, 3).mT


def _along_moments(part: PulsePart, frame: Frame) -> Tensor:
    """sum_n left_n' J_a right_n, (axis, compartment, shape, direction, measurement)."""
    left, right = part.in_frame()
    images = [
        real_product(frame.moments[:, axis, None], right.flatten(-2)).unflatten(
            -1, right.shape[-2:]
        )
        for axis in range(3)
    ]
    return torch.stack([(left * image).sum((3, 4)) for image in images])


def _contracted(outer: Tensor, operators: Tensor) -> Tensor:
    """<outer, A> for each operator A, (compartment, shape, direction, measurement, operator)."""
    flat = outer.flatten(-2)
    operators = operators.to(flat.dtype).mT
    return torch.stack([flat[:, i] @ operators[i] for i in range(len(operators))], 1)


def _dot(values: Tensor, vectors: Tensor) -> Tensor:
    return (values * vectors).sum(-1)


@dataclass(eq=False)
class Cotangent:
    """Gradients of a real function, summed over chunks."""

    frame: Frame
    laplacian: Tensor
    moments: Tensor
    mean: Tensor  # (compartment, shape, mode)
    core: Tensor
    vectors: Tensor  # empty if their gradient is not asked for

    @classmethod
    def zero(cls, frame: Frame, mean: Tensor, vectors: Tensor) -> Cotangent:
        """Nothing yet."""
        Q, J = torch.zeros_like(frame.vectors), torch.zeros_like(frame.moments)
        rows = torch.zeros_like(mean.movedim(1, 0))
        return cls(frame, Q, J, rows, torch.zeros_like(Q), torch.zeros_like(vectors))

    def add(self, sweep: Sweep, weight: Tensor, index: Tensor) -> None:
        """Re(weight dS), the weights zero where measurements are padding."""
        weight = sweep.folded(weight)
        for part in sweep.parts:
            if isinstance(part, RestPart):
                self._add_rest(part, weight)
            elif isinstance(part, CorePart):
                self.core = self.core + _summed(part, weight).sum(1)
            else:
                self._add_pulse(part, weight, index)
        if sweep.start is not None:
            read = (sweep.start * weight[..., None, :]).real.sum((2, 4))
            self.mean = self.mean + (read.sum(0, keepdim=True) if sweep.total else read)

    def _add_rest(self, part: RestPart, weight: Tensor) -> None:
        differences, which = part.rest.differences()
        for number in range(differences.shape[1]):
            at_time = weight * (which == number)
            self.laplacian = self.laplacian + differences[:, number] * _summed(part, at_time).sum(1)

    def _add_pulse(self, part: PulsePart, weight: Tensor, index: Tensor) -> None:
        W, along = part.basis, part.along
        self.laplacian = self.laplacian + (W @ _summed(part, weight) @ W.mT).sum(1)
        turned = 1j * GAMMA * weight
        moments = W @ _summed(part, turned * along.amplitude) @ W.mT
        self.moments = self.moments + torch.einsum("da,sdij->saij", along.direction, moments)
        if len(self.vectors):
            turn = turned * _along_moments(part, self.frame)
            moved = turn.real.sum((1, 2)).movedim(0, -1)[..., None] * along.level
            rows = index.flatten()
            self.vectors = self.vectors.index_add(0, rows, moved.flatten(0, 1))

    def out_of_frame(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Gradients in L, J, mean, core and vectors as they were given."""
        Q = self.frame.vectors
        moments = Q[:, None] @ self.moments @ Q[:, None].mT
        mean = self.mean.movedim(0, 1) @ Q.mT
        laplacian, core = (Q @ square @ Q.mT for square in (self.laplacian, self.core))
        return laplacian, moments, mean, core, self.vectors


def _summed(
    part: PulsePart | RestPart | CorePart, weight: Tensor
) -> Float[Tensor, "shape direction mode mode"]:
    """Re sum_m weight_m sum_n left_n right_n', summed over compartments: one real product."""
    left, right = torch.broadcast_tensors(part.left * weight[:, :, :, None, None, :], part.right)
    return _flat(left.conj().resolve_conj()) @ _flat(right).mT


def _flat(terms: Tensor) -> Tensor:
    """(compartment, shape, direction, mode, term, measurement) to real (..., mode, all else)."""
    return torch.view_as_real(terms.movedim(0, 3).contiguous()).flatten(3)
