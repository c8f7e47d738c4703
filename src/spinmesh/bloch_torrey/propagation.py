"""Signals of one program, with the discrete map's exact derivative in both modes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from spinmesh.bloch_torrey.derivative import Cotangent, Sweep, Tangent
from spinmesh.bloch_torrey.exponential import (
    Along,
    CorePart,
    Frame,
    Pencil,
    Pulse,
    Rest,
    real_product,
    steps_and_polynomial,
)
from spinmesh.bloch_torrey.program import CHUNK, Chunk, Program, Stage, chunks_of
from spinmesh.errors import SpinmeshError

# Complex numbers of the states of shapes worked on together there (256 kB).
CACHED = 2**14
NO_BATCH = "signal: no vmap over models. Stack them along the first axis of their operators."


def signal(
    laplacian: Float[Tensor, "shape mode mode"],
    moments: Float[Tensor, "shape 3 mode mode"],
    mean: Float[Tensor, "shape compartment mode"],
    core: Float[Tensor, "shape mode mode"] | None,
    vectors: Float[Tensor, "measurement 3 axis"],
    rest: Float[Tensor, " measurement"],
    program: Program,
) -> Tensor:
    """mean_c' prod_i exp(-dt_i (L + i gamma f_i.J)) initial, (shape, compartment, measurement).

    `vectors[m, :, a]` (mT/m) is what axis a of the profile is multiplied by, `rest` (ms) the time
    without gradient in the middle, where a `core` is observed. Differentiable once in L, J, mean,
    core and vectors, in forward and reverse mode; under a `vmap` over directions one adjoint sweep
    serves every derivative.
    """
    few = max(1, CACHED // (min(len(rest), CHUNK) * laplacian.shape[-1]))
    if laplacian.device.type == "cpu" and len(laplacian) > few:
        # So few at a time that the states of a chunk stay in the cache.
        cores = itertools.repeat(None) if core is None else core.split(few)
        shapes = zip(laplacian.split(few), moments.split(few), mean.split(few), cores, strict=False)
        return torch.cat([signal(*shape, vectors, rest, program) for shape in shapes])
    result: Tensor = _Propagation.apply(laplacian, moments, mean, core, vectors, rest, program)
    return result


class _Propagation(torch.autograd.Function):
    """The signal, with its exact derivatives of first order."""

    @staticmethod
    def forward(laplacian, moments, mean, core, vectors, rest, program):
        frame = Frame.of(laplacian, moments, core)
        chunks = chunks_of(frame, vectors, rest, program)
        values = []
        for chunk in chunks:
            halves = _Halves(frame, mean, chunk, program)
            bra, ket = halves.states()
            values.append((bra * halves.across(ket)).sum(-2))
        return _in_order(values, chunks)

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.program = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def vmap(info, in_dims, *inputs):
        raise SpinmeshError(NO_BATCH)

    @staticmethod
    def jvp(ctx, *tangents):
        moving = [
            primal if primal is None else _or_zero(tangent, primal)[None]
            for primal, tangent in zip(ctx.saved_tensors[:4], tangents[:4], strict=True)
        ]
        turning = None if tangents[4] is None else tangents[4][None]
        return _Pushforward.apply(*ctx.saved_tensors, ctx.program, *moving, turning)[0]

    @staticmethod
    @once_differentiable
    def backward(ctx, cotangent):
        """Gradients of Re(conj(cotangent) S) in L, J, mean, core and the vectors."""
        laplacian, moments, mean, core, vectors, rest = ctx.saved_tensors
        frame, turned = Frame.of(laplacian, moments, core), ctx.needs_input_grad[4]
        total = Cotangent.zero(frame, mean, vectors if turned else vectors[:0])
        for chunk in chunks_of(frame, vectors, rest, ctx.program):
            # S is holomorphic in real inputs: the gradient is Re(conj(cotangent) dS).
            weight = cotangent.conj().movedim(1, 0)[..., chunk.index] * chunk.measured
            for sweep in _Halves(frame, mean, chunk, ctx.program).sweeps():
                total.add(sweep, weight, chunk.index)
        *gradients, in_core, in_vectors = total.out_of_frame()
        last = None if core is None else in_core, in_vectors if turned else None
        return (*gradients, *last, None, None)


class _Pushforward(torch.autograd.Function):
    """dS along several directions (the first axis) of L, J, mean and, unless None, the vectors.

    A function of its own because torch then works on plain tensors: 20 % less time.
    """

    @staticmethod
    def forward(laplacian, moments, mean, core, vectors, rest, program, *directions):
        frame = Frame.of(laplacian, moments, core)
        chunks = chunks_of(frame, vectors, rest, program)

        def along(*operators_and_vectors):
            *operators, d_vectors = operators_and_vectors
            tangent, values = Tangent.of(frame, *operators), []
            for chunk, parts in zip(chunks, sweeps, strict=True):
                turned = None if d_vectors is None else d_vectors[chunk.index]
                first, *others = [tangent.along(sweep, turned) for sweep in parts]
                values.append(sum(others, first))
            return _in_order(values, chunks)

        sweeps = [_Halves(frame, mean, chunk, program).sweeps() for chunk in chunks]
        axes = tuple(None if x is None else 0 for x in directions)
        return torch.func.vmap(along, axes)(*directions)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.mark_non_differentiable(output)

    @staticmethod
    def vmap(info, in_dims, *inputs):
        """Over directions: their batch joins the first axis."""
        if any(dim is not None for dim in in_dims[:7]):
            raise SpinmeshError(NO_BATCH)
        count = info.batch_size
        joined = [
            x if x is None else _batch(x, dim, count).flatten(0, 1)
            for x, dim in zip(inputs[7:], in_dims[7:], strict=True)
        ]
        result = _Pushforward.apply(*inputs[:7], *joined)
        return result.unflatten(0, (count, -1)), 0


def _or_zero(tangent: Tensor | None, primal: Tensor) -> Tensor:
    return torch.zeros_like(primal) if tangent is None else tangent


def _batch(x: Tensor, dim: int | None, count: int) -> Tensor:
    """The batch axis first; `count` copies of what has none."""
    return x.expand(count, *x.shape) if dim is None else x.movedim(dim, 0)


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
        if self.program.mirror is not None:
            # Real states through the mirror image of the ket's stages; their sum is the ket.
            rows = _through(self.ket, self._started(self.read_out))
            return self._mirror(rows), rows.sum(0, keepdim=True)
        ket = _through(self.ket, self._started(self.initial))
        return _through(self.bra, self._started(self.read_out)), ket

    def across(self, state: Tensor) -> Tensor:
        """A state on the other side of the middle rest; of a core, what is in it half way."""
        if self.frame.core is None:
            return Rest(self.frame, self.chunk.rest).forward(state)
        return self.half.forward(self._seen(state))

    @property
    def half(self) -> Rest:
        """Half the middle rest."""
        return Rest(self.frame, self.chunk.rest / 2)

    def _seen(self, state: Tensor) -> Tensor:
        """X exp(-t/2 L) of a state."""
        assert self.frame.core is not None
        return real_product(self.frame.core[:, None], self.half.forward(state))

    def sweeps(self) -> Iterator[Sweep]:
        """Everything the signals' derivatives consist of."""
        taped_ket: list[list[Tensor]] = []
        ket = _through(self.ket, self._started(self.initial), taped_ket)
        if self.mirrored:
            bra = self._mirror(ket)
            sweep = Sweep.back(self.ket, taped_ket, self.across(bra), total=True)
            yield replace(sweep, twice=True, real=self.program.mirror == -1)
        else:
            taped_bra: list[list[Tensor]] = []
            bra = _through(self.bra, self._started(self.read_out), taped_bra)
            yield Sweep.back(self.ket, taped_ket, self.across(bra), total=True)
            yield Sweep.back(self.bra, taped_bra, self.across(ket), total=False)
        if self.frame.core is None:
            yield Sweep([Rest(self.frame, self.chunk.rest).between(bra, ket)])
        else:
            half, both = self.half, [self.half.forward(x)[..., None, :] for x in (bra, ket)]
            rests = half.between(bra, self._seen(ket)), half.between(self._seen(bra), ket)
            yield Sweep([*rests, CorePart(*both)])

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
