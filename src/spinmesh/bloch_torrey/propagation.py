"""Signals of one program, with the discrete map's exact derivative in both modes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from spinmesh.bloch_torrey.derivative import Cotangent, Sweep, Tangent
from spinmesh.bloch_torrey.exponential import half_height_on_grid, steps_and_polynomial
from spinmesh.bloch_torrey.pencil import Along, Frame, Pencil, Pulse, Rest
from spinmesh.bloch_torrey.program import Program, Stage
from spinmesh.units import GAMMA

# Measurements worked on together on a CPU: their states stay in the L2 cache of one core.
CHUNK = 64
# Complex numbers of the states of shapes worked on together there (256 kB).
CACHED = 2**14
# Complex numbers that a sweep may keep for its derivative (1 GB).
KEPT = 2**26
TERMS = 64
# Directions closer than this are one: the phase they differ by is below the propagation's error.
SAME_DIRECTION = 1e-11


def signal(
    laplacian: Float[Tensor, "shape mode mode"],
    moments: Float[Tensor, "shape 3 mode mode"],
    mean: Float[Tensor, "shape compartment mode"],
    vectors: Float[Tensor, "measurement 3 axis"],
    rest: Float[Tensor, " measurement"],
    program: Program,
) -> Tensor:
    """mean_c' prod_i exp(-dt_i (L + i gamma f_i.J)) initial, (shape, compartment, measurement).

    `vectors[m, :, a]` (mT/m) is what axis a of the profile is multiplied by, `rest` (ms) the time
    without gradient in the middle. Differentiable once in L, J, mean and vectors, in forward and
    reverse mode, and a `vmap` over shapes is a batch: one adjoint sweep serves every derivative.
    """
    few = max(1, CACHED // (len(rest) * laplacian.shape[-1]))
    if laplacian.device.type == "cpu" and len(laplacian) > few:
        # So few at a time that the states of a chunk stay in the cache.
        shapes = zip(laplacian.split(few), moments.split(few), mean.split(few), strict=True)
        return torch.cat([signal(*shape, vectors, rest, program) for shape in shapes])
    result: Tensor = _Propagation.apply(laplacian, moments, mean, vectors, rest, program)
    return result


class _Propagation(torch.autograd.Function):
    """The signal; its derivatives are functions of their own, so that each has its batch rule."""

    @staticmethod
    def forward(laplacian, moments, mean, vectors, rest, program):
        frame = Frame.of(laplacian, moments)
        chunks = _chunks(frame, vectors, rest, program)
        values = []
        for chunk in chunks:
            bra, ket = _Halves(frame, mean, chunk, program).states()
            values.append((bra * Rest(frame, chunk.rest).forward(ket)).sum(-2))
        return _in_order(values, chunks)

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.program = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def vmap(info, in_dims, *inputs):
        return _batched(_Propagation, info.batch_size, in_dims, inputs, {0: 0, 1: 0, 2: 0})

    @staticmethod
    def jvp(ctx, *tangents):
        primals = ctx.saved_tensors
        moving = [
            torch.zeros_like(primal) if tangent is None else tangent
            for primal, tangent in zip(primals[:3], tangents[:3], strict=True)
        ]
        turning = None if tangents[3] is None else tangents[3][None]
        return _Pushforward.apply(*primals, ctx.program, *(x[None] for x in moving), turning)[0]

    @staticmethod
    @once_differentiable
    def backward(ctx, cotangent):
        turned = ctx.needs_input_grad[3]
        result = _Pullback.apply(*ctx.saved_tensors, ctx.program, turned, cotangent[None])
        return (*(x[0] for x in result[:3]), result[3][0] if turned else None, None, None)


class _Pushforward(torch.autograd.Function):
    """dS along several directions (the first axis) of L, J, mean and, unless None, the vectors."""

    @staticmethod
    def forward(*inputs):
        directions = tuple(None if x is None else 0 for x in inputs[6:])
        return torch.func.vmap(partial(_pushforward, *inputs[:6]), directions)(*inputs[6:])

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.mark_non_differentiable(output)

    @staticmethod
    def vmap(info, in_dims, *inputs):
        along = {0: 0, 1: 0, 2: 0, 6: 1, 7: 1, 8: 1}
        if all(dim is None for dim in in_dims[:5]):
            along = {number: 0 for number in (6, 7, 8, 9) if inputs[number] is not None}
        return _batched(_Pushforward, info.batch_size, in_dims, inputs, along)


class _Pullback(torch.autograd.Function):
    """Gradients in L, J, mean and the vectors, if `turned`, of several Re(conj(cotangent) S)."""

    @staticmethod
    def forward(*inputs):
        return torch.func.vmap(partial(_pullback, *inputs[:7]))(inputs[7])

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.mark_non_differentiable(*output)

    @staticmethod
    def vmap(info, in_dims, *inputs):
        if all(dim is None for dim in in_dims[:5]):
            return _batched(_Pullback, info.batch_size, in_dims, inputs, {7: 0})
        # The vectors' gradient is a sum over shapes, which must not mix.
        along = {} if inputs[6] else {0: 0, 1: 0, 2: 0, 7: 1}
        return _batched(_Pullback, info.batch_size, in_dims, inputs, along)


def _batched(function, count: int, in_dims, inputs, along: dict[int, int]):
    """A vmap: the batch joins axis `along[i]` of argument i; of any other, it is taken in turn.

    That axis runs over shapes or over directions, which results have as well.
    """
    batch = {number for number, dim in enumerate(in_dims) if dim is not None}
    if not batch <= along.keys():
        pairs = [*zip(inputs, in_dims, strict=True)]
        each = [
            function.apply(*(x if dim is None else x.select(dim, i) for x, dim in pairs))
            for i in range(count)
        ]
        if isinstance(each[0], Tensor):
            return torch.stack(each), 0
        return tuple(torch.stack(parts) for parts in zip(*each, strict=True)), (0,) * len(each[0])
    folded = list(inputs)
    for number, axis in along.items():
        x, dim = inputs[number], in_dims[number]
        moved = x.expand(count, *x.shape) if dim is None else x.movedim(dim, 0)
        folded[number] = moved.movedim(0, axis).flatten(axis, axis + 1)
    result, axis = function.apply(*folded), max(along.values())
    if isinstance(result, Tensor):
        return result.unflatten(axis, (count, -1)), axis
    if axis == 0:
        return tuple(x.unflatten(0, (count, -1)) for x in result), (0,) * len(result)
    # With shapes in the batch the vectors' gradient is empty, and the same for all.
    *own, vectors = result
    return (*(x.unflatten(axis, (count, -1)) for x in own), vectors), (axis, axis, axis, None)


def _pushforward(
    laplacian, moments, mean, vectors, rest, program, d_laplacian, d_moments, d_mean, d_vectors
) -> Tensor:
    frame = Frame.of(laplacian, moments)
    tangent = Tangent.of(frame, d_laplacian, d_moments, d_mean)
    chunks = _chunks(frame, vectors, rest, program)
    values = []
    for chunk in chunks:
        turned = None if d_vectors is None else d_vectors[chunk.index]
        sweeps = _Halves(frame, mean, chunk, program).sweeps()
        first, *others = [tangent.along(sweep, turned) for sweep in sweeps]
        values.append(sum(others, first))
    return _in_order(values, chunks)


def _pullback(
    laplacian, moments, mean, vectors, rest, program, turned, cotangent
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    frame = Frame.of(laplacian, moments)
    total = Cotangent.zero(frame, mean, vectors if turned else vectors[:0])
    for chunk in _chunks(frame, vectors, rest, program):
        # S is holomorphic in real inputs: the gradient is Re(conj(cotangent) dS).
        weight = cotangent.conj().movedim(1, 0)[..., chunk.index] * chunk.own
        for sweep in _Halves(frame, mean, chunk, program).sweeps():
            total.add(sweep, weight, chunk.index)
    return total.out_of_frame()


@dataclass(frozen=True, eq=False)
class _Chunk:
    """Directions and the measurements along each, padded by repetition to equal numbers."""

    index: Int[Tensor, "direction measurement"]
    own: Bool[Tensor, "direction measurement"]  # False where padded
    vectors: Float[Tensor, "direction measurement 3 axis"]  # mT/m
    rest: Float[Tensor, "direction measurement"]  # ms, in the middle
    rate: float  # bound on |K - L| at level 1, rad/ms


def _in_order(values: list[Tensor], chunks: list[_Chunk]) -> Tensor:
    """(compartment, shape, direction, measurement) of all chunks to (shape, compartment, all)."""
    kept = [chunk.own.flatten().nonzero()[:, 0] for chunk in chunks]
    flat = [x.flatten(-2)[..., own] for x, own in zip(values, kept, strict=True)]
    rows = torch.cat([c.index.flatten()[own] for c, own in zip(chunks, kept, strict=True)])
    return torch.cat(flat, -1)[..., rows.argsort()].movedim(0, 1)


class _Halves:
    """Ket and bra of one chunk: what they start from, and the stages they run through."""

    def __init__(self, frame: Frame, mean: Tensor, chunk: _Chunk, program: Program) -> None:
        self.frame, self.chunk, self.program = frame, chunk, program
        self.read_out = (mean @ frame.vectors).movedim(1, 0)
        self.initial = self.read_out.sum(0, keepdim=True)
        pencils: dict[Any, Pencil] = {}

        def propagators(stages: tuple[Stage, ...], sign: int = 1) -> list[Pulse | Rest]:
            return [_propagator(frame, stage, sign, chunk, pencils) for stage in stages]

        self.ket = propagators(program.ket)
        # Of the total signal the bra is known from the ket; of a compartment's it is not.
        self.mirrored = program.mirror is not None and len(self.read_out) == 1
        if program.mirror is not None and not self.mirrored:
            self.bra = propagators(program.ket, program.mirror)
        else:
            self.bra = propagators(program.bra)

    def states(self) -> tuple[Tensor, Tensor]:
        """Bra and ket on either side of the middle rest."""
        ket = self._started(self.initial)
        for stage in self.ket:
            ket = stage.forward(ket)
        if self.mirrored:
            return self._mirror(ket), ket
        bra = self._started(self.read_out)
        for stage in self.bra:
            bra = stage.forward(bra)
        return bra, ket

    def sweeps(self) -> Iterator[Sweep]:
        """Everything the signals' derivatives consist of."""
        rest = Rest(self.frame, self.chunk.rest)
        ket, taped_ket = _taped(self.ket, self._started(self.initial))
        if self.mirrored:
            bra = self._mirror(ket)
            own = Sweep.back(self.ket, taped_ket, rest.forward(bra), total=True)
            yield replace(own, twice=True, real=self.program.mirror == -1)
        else:
            bra, taped_bra = _taped(self.bra, self._started(self.read_out))
            yield Sweep.back(self.ket, taped_ket, rest.forward(bra), total=True)
            yield Sweep.back(self.bra, taped_bra, rest.forward(ket), total=False)
        yield Sweep([rest.between(bra, ket)])

    def _started(self, start: Tensor) -> Tensor:
        size = self.chunk.index.shape
        state = start[:, :, None, :, None].to(torch.complex128)
        return state.expand(-1, -1, size[0], -1, size[1])

    def _mirror(self, ket: Tensor) -> Tensor:
        return ket.conj().resolve_conj() if self.program.mirror == -1 else ket


def _taped(stages: list[Pulse | Rest], state: Tensor) -> tuple[Tensor, list[list[Tensor]]]:
    """The state after all stages, and what each needs for its way back."""
    tapes = []
    for stage in stages:
        state, tape = stage.taped(state)
        tapes.append(tape)
    return state, tapes


def _propagator(
    frame: Frame, stage: Stage, sign: int, chunk: _Chunk, known: dict[Any, Pencil]
) -> Pulse | Rest:
    """A stage with its profile times `sign`; pulses of one shift and direction share a pencil."""
    if stage.strength == 0:
        return Rest(frame, chunk.rest.new_full((1, 1), stage.duration))
    steps, polynomial = steps_and_polynomial(stage.duration * stage.strength * chunk.rate)
    shift = polynomial.pole * steps / stage.duration
    along = Along.of(chunk.vectors, stage.level, sign)
    key = (shift, along.line)
    if key not in known:
        known[key] = Pencil.of(frame, along.direction, shift)
    return Pulse.of(known[key], polynomial, steps, along)


def _chunks(frame: Frame, vectors: Tensor, rest: Tensor, program: Program) -> list[_Chunk]:
    """Directions of about equal phase together, as many as the cache or the memory takes."""
    groups = _directions(vectors.detach())
    rates = _phase_rates(frame, vectors.detach())
    shapes, size = frame.rates.shape
    areas = [stage.duration * stage.strength for stage in program.stages]
    steps = sum(steps_and_polynomial(area * float(rates.max()))[0] for area in areas)
    most = max(1, KEPT // (shapes * size * (size + TERMS * steps)))
    if vectors.device.type == "cpu":
        most = min(most, CHUNK)
    groups = [part for group in groups for part in group.split(most)]
    keyed = []
    for group in groups:
        rate = float(rates[group].max())
        strip = half_height_on_grid(max(areas, default=0.0) * rate)
        keyed.append((strip, len(group), rate, group))
    keyed.sort(key=lambda item: item[:2])
    result: list[list] = []
    for item in keyed:
        last = result[-1] if result else []
        if last and last[0][0] == item[0] and (len(last) + 1) * item[1] <= most:
            last.append(item)
        else:
            result.append([item])
    return [_chunk(items, vectors, rest) for items in result]


def _chunk(items: list, vectors: Tensor, rest: Tensor) -> _Chunk:
    """Pad the groups to one length."""
    most = max(len(item[3]) for item in items)
    index = torch.stack([torch.cat([g, g[:1].expand(most - len(g))]) for *_, g in items])
    own = torch.stack([torch.arange(most, device=index.device) < len(g) for *_, g in items])
    return _Chunk(index, own, vectors[index], rest[index], max(item[2] for item in items))


def _directions(vectors: Tensor) -> list[Int[Tensor, " measurement"]]:
    """Measurements whose vectors are multiples of each other, together."""
    flat = vectors.flatten(1)
    length = flat.norm(dim=1, keepdim=True)
    unit = (torch.where(length > 0, flat / length, 0.0) / SAME_DIRECTION).round()
    first = unit.gather(1, (unit != 0).to(torch.int8).argmax(1, keepdim=True))
    number = torch.unique(unit * torch.where(first < 0, -1, 1), dim=0, return_inverse=True)[1]
    order = number.argsort(stable=True)
    return list(order.split(torch.bincount(number).tolist()))


def _phase_rates(frame: Frame, vectors: Tensor) -> Float[Tensor, " measurement"]:
    """Bound on |gamma g.J| at level 1 (rad/ms): by the extents along x, y, z, and by their root."""
    squares = frame.moments @ frame.moments
    whole = torch.linalg.eigvalsh(squares.sum(1))[:, -1].max().clamp_min(0).sqrt()
    # The columns of a vector profile's frame have equal length.
    bound = whole * vectors[..., 0].norm(dim=1)
    if vectors.shape[-1] == 1:
        each = torch.linalg.eigvalsh(frame.moments).abs().amax((0, 2))
        bound = torch.minimum(bound, vectors[..., 0].abs() @ each)
    return GAMMA * bound
