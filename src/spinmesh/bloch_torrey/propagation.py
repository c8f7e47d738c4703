"""Signals of one program, with the discrete map's exact derivative in both modes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from inspect import signature
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils._pytree import tree_map

from spinmesh.bloch_torrey.derivative import Cotangent, Sweep, Tangent
from spinmesh.bloch_torrey.exponential import (
    Along,
    Frame,
    Pencil,
    Pulse,
    Rest,
    steps_and_polynomial,
)
from spinmesh.bloch_torrey.program import Chunk, Program, Stage, chunks_of

# Complex numbers of the states of shapes worked on together there (256 kB).
CACHED = 2**14


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
        chunks = chunks_of(frame, vectors, rest, program)
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
        return _vmapped(_Propagation, ("laplacian", "moments", "mean"), info, in_dims, inputs)

    @staticmethod
    def jvp(ctx, *tangents):
        primals = ctx.saved_tensors
        moving = [
            torch.zeros_like(primal)[None] if tangent is None else tangent[None]
            for primal, tangent in zip(primals[:3], tangents[:3], strict=True)
        ]
        turning = None if tangents[3] is None else tangents[3][None]
        return _Pushforward.apply(*primals, ctx.program, *moving, turning)[0]

    @staticmethod
    @once_differentiable
    def backward(ctx, cotangent):
        turned = ctx.needs_input_grad[3]
        *gradients, in_vectors = _Pullback.apply(
            *ctx.saved_tensors, ctx.program, turned, cotangent[None]
        )
        return (*(x[0] for x in gradients), in_vectors[0] if turned else None, None, None)


class _Pushforward(torch.autograd.Function):
    """dS along several directions (the first axis) of L, J, mean and, unless None, the vectors."""

    @staticmethod
    def forward(
        laplacian, moments, mean, vectors, rest, program, d_laplacian, d_moments, d_mean, d_vectors
    ):
        along = partial(_pushforward, laplacian, moments, mean, vectors, rest, program)
        directions = (0, 0, 0, None if d_vectors is None else 0)
        return torch.func.vmap(along, directions)(d_laplacian, d_moments, d_mean, d_vectors)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.mark_non_differentiable(output)

    @staticmethod
    def vmap(info, in_dims, *inputs):
        directions = ("d_laplacian", "d_moments", "d_mean", "d_vectors")
        return _vmapped(_Pushforward, directions, info, in_dims, inputs)


class _Pullback(torch.autograd.Function):
    """Gradients in L, J, mean and the vectors, if `turned`, of several Re(conj(cotangent) S)."""

    @staticmethod
    def forward(laplacian, moments, mean, vectors, rest, program, turned, cotangents):
        of = partial(_pullback, laplacian, moments, mean, vectors, rest, program, turned)
        return torch.func.vmap(of)(cotangents)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.mark_non_differentiable(*output)

    @staticmethod
    def vmap(info, in_dims, *inputs):
        return _vmapped(_Pullback, ("cotangents",), info, in_dims, inputs)


def _vmapped(function, joined: tuple[str, ...], info, in_dims, inputs):
    """A vmap: the batch of the arguments `joined` joins their first axis, as it does the result's.

    If any other argument is batched, the batch is worked on one after the other.
    """
    names = [*signature(function.forward).parameters]
    batched = {name for name, dim in zip(names, in_dims, strict=True) if dim is not None}
    if batched <= set(joined):
        results = function.apply(
            *(
                _joined(x, dim, info.batch_size) if name in joined and x is not None else x
                for name, x, dim in zip(names, inputs, in_dims, strict=True)
            )
        )
        results = tree_map(lambda x: x.unflatten(0, (info.batch_size, -1)), results)
    else:
        each = [
            function.apply(
                *(x if d is None else x.select(d, i) for x, d in zip(inputs, in_dims, strict=True))
            )
            for i in range(info.batch_size)
        ]
        results = tree_map(lambda *parts: torch.stack(parts), *each)
    return results, tree_map(lambda _: 0, results)


def _joined(x: Tensor, dim: int | None, count: int) -> Tensor:
    """The batch axis of an argument, or `count` copies of it, made one with its first axis."""
    batch = x.expand(count, *x.shape) if dim is None else x.movedim(dim, 0)
    return batch.flatten(0, 1)


def _pushforward(
    laplacian, moments, mean, vectors, rest, program, d_laplacian, d_moments, d_mean, d_vectors
) -> Tensor:
    frame = Frame.of(laplacian, moments)
    tangent = Tangent.of(frame, d_laplacian, d_moments, d_mean)
    chunks = chunks_of(frame, vectors, rest, program)
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
    for chunk in chunks_of(frame, vectors, rest, program):
        # S is holomorphic in real inputs: the gradient is Re(conj(cotangent) dS).
        weight = cotangent.conj().movedim(1, 0)[..., chunk.index] * chunk.measured
        for sweep in _Halves(frame, mean, chunk, program).sweeps():
            total.add(sweep, weight, chunk.index)
    return total.out_of_frame()


def _in_order(values: list[Tensor], chunks: list[Chunk]) -> Tensor:
    """(compartment, shape, direction, measurement) of all chunks to (shape, compartment, all)."""
    places = [chunk.measured.flatten().nonzero()[:, 0] for chunk in chunks]
    flat = [x.flatten(-2)[..., place] for x, place in zip(values, places, strict=True)]
    rows = torch.cat([c.index.flatten()[place] for c, place in zip(chunks, places, strict=True)])
    return torch.cat(flat, -1)[..., rows.argsort()].movedim(0, 1)


class _Halves:
    """Ket and bra of one chunk: what they start from, and the stages they run through."""

    def __init__(self, frame: Frame, mean: Tensor, chunk: Chunk, program: Program) -> None:
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
        ket = _through(self.ket, self._started(self.initial))
        if self.mirrored:
            return self._mirror(ket), ket
        return _through(self.bra, self._started(self.read_out)), ket

    def sweeps(self) -> Iterator[Sweep]:
        """Everything the signals' derivatives consist of."""
        rest = Rest(self.frame, self.chunk.rest)
        taped_ket: list[list[Tensor]] = []
        ket = _through(self.ket, self._started(self.initial), taped_ket)
        if self.mirrored:
            bra = self._mirror(ket)
            sweep = Sweep.back(self.ket, taped_ket, rest.forward(bra), total=True)
            yield replace(sweep, twice=True, real=self.program.mirror == -1)
        else:
            taped_bra: list[list[Tensor]] = []
            bra = _through(self.bra, self._started(self.read_out), taped_bra)
            yield Sweep.back(self.ket, taped_ket, rest.forward(bra), total=True)
            yield Sweep.back(self.bra, taped_bra, rest.forward(ket), total=False)
        yield Sweep([rest.between(bra, ket)])

    def _started(self, start: Tensor) -> Tensor:
        size = self.chunk.index.shape
        state = start[:, :, None, :, None].to(torch.complex128)
        return state.expand(-1, -1, size[0], -1, size[1])

    def _mirror(self, ket: Tensor) -> Tensor:
        return ket.conj().resolve_conj() if self.program.mirror == -1 else ket


def _through(
    stages: list[Pulse | Rest], state: Tensor, tapes: list[list[Tensor]] | None = None
) -> Tensor:
    """The state after all stages; what each needs for its way back is added to `tapes`."""
    for stage in stages:
        tape: list[Tensor] | None = None if tapes is None else []
        state = stage.forward(state, tape)
        if tapes is not None and tape is not None:
            tapes.append(tape)
    return state


def _propagator(
    frame: Frame, stage: Stage, sign: int, chunk: Chunk, pencils: dict[Any, Pencil]
) -> Pulse | Rest:
    """A stage with its profile times `sign`; pulses of one shift and direction share a pencil."""
    if stage.strength == 0:
        return Rest(frame, chunk.rest.new_full((1, 1), stage.duration))
    steps, polynomial = steps_and_polynomial(stage.duration * stage.strength * chunk.rate)
    shift = polynomial.pole * steps / stage.duration
    along = Along.of(chunk.vectors, stage.level, sign)
    key = (shift, along.line)
    if key not in pencils:
        pencils[key] = Pencil.of(frame, along.direction, shift)
    return Pulse.of(pencils[key], polynomial, steps, along)
