"""Propagation through piecewise-constant gradients, and its exact discrete derivative."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from spinmesh.bloch_torrey.exponential import CayleyPolynomial, steps_and_polynomial

# Measurements whose k x k resolvents are worked on together: small enough to stay in the L2 cache
# of one core, large enough to hide the cost of a call (measured in docs/decisions/0002).
CHUNK = 16


@dataclass(frozen=True)
class Interval:
    """A stretch of `steps` equal steps of length `step` (ms) with the profile at `level`."""

    step: float
    steps: int
    level: float
    polynomial: CayleyPolynomial


def intervals_of(
    durations: list[float], levels: list[float], phase_rate: float
) -> tuple[Interval, ...]:
    """Steps and polynomials for each interval; `phase_rate` bounds |B| at level 1 (rad/ms)."""
    result = []
    for duration, level in zip(durations, levels, strict=True):
        steps, polynomial = steps_and_polynomial(duration * abs(level) * phase_rate)
        result.append(Interval(duration / steps, steps, level, polynomial))
    return tuple(result)


def signal(
    laplacian: Float[Tensor, "mode mode"],
    phase: Float[Tensor, "measurement mode mode"],
    mean: Float[Tensor, "compartment mode"],
    intervals: tuple[Interval, ...],
) -> Tensor:
    """mean_c' prod_i exp(-dt_i (L + i f_i B_m)) initial, (compartment, measurement), complex.

    `phase[m]` is B_m = gamma g_m.J. Differentiable once in L, B and mean, in forward and reverse
    mode: with V the Cayley variable of K, dV = -(h / 2 sigma)(1 + V) dK (1 + V), so the states of
    the forward and of the adjoint sweep give the derivative with no further solve.
    """
    result: Tensor = _Propagation.apply(laplacian, phase, mean, intervals)
    return result


class _Propagation(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(laplacian, phase, mean, intervals):
        initial = mean.sum(0).to(torch.complex128)
        read_out = mean.to(torch.complex128)
        parts = []
        for chunk in _chunks(phase):
            state = initial.expand(len(chunk), -1)
            for interval, cayley in _cayley(laplacian, chunk, intervals):
                for _ in range(interval.steps):
                    state = _horner(cayley, interval.polynomial, state)[-1]
            parts.append(read_out @ state.T)
        return torch.cat(parts, 1)

    @staticmethod
    def setup_context(ctx, inputs, output):
        laplacian, phase, mean, ctx.intervals = inputs
        ctx.save_for_backward(laplacian, phase, mean)
        ctx.save_for_forward(laplacian, phase, mean)

    @staticmethod
    def jvp(ctx, d_laplacian, d_phase, d_mean, _):
        laplacian, phase, mean = ctx.saved_tensors
        parts = []
        for number, part in enumerate(_partials(laplacian, phase, mean, ctx.intervals)):
            chunk = slice(number * CHUNK, number * CHUNK + part.final.shape[0])
            tangent = part.first.new_zeros(part.first.shape[:2])
            if d_laplacian is not None:
                own = d_laplacian.flatten().to(part.laplacian)
                tangent = tangent + part.laplacian.flatten(2) @ own
            if d_phase is not None:
                own = d_phase[chunk].to(part.phase)
                tangent = tangent + (part.phase * own).sum((-1, -2))
            if d_mean is not None:
                own = d_mean.to(part.final)
                tangent = tangent + own @ part.final.mT + part.first @ own.sum(0)
            parts.append(tangent)
        return torch.cat(parts, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx, cotangent):
        laplacian, phase, mean = ctx.saved_tensors
        d_laplacian, d_phase = torch.zeros_like(laplacian), []
        d_mean = torch.zeros_like(mean)
        # S is holomorphic in real inputs: the gradient is Re(conj(cotangent) dS).
        weight = cotangent.conj()
        for number, part in enumerate(_partials(laplacian, phase, mean, ctx.intervals)):
            own = weight[:, number * CHUNK : number * CHUNK + part.final.shape[0]]
            d_laplacian = d_laplacian + torch.einsum("cm,cmij->ij", own, part.laplacian).real
            d_phase.append(torch.einsum("cm,cmij->mij", own, part.phase).real)
            first = torch.einsum("cm,cmk->k", own, part.first).real
            d_mean = d_mean + (own @ part.final).real + first
        return d_laplacian, torch.cat(d_phase), d_mean, None


@dataclass(frozen=True, eq=False)
class _Partial:
    """Derivatives of a chunk's signals, (compartment, measurement, ...)."""

    laplacian: Tensor  # mode, mode
    phase: Tensor  # mode, mode
    final: Tensor  # (measurement, mode): the state that is read out
    first: Tensor  # (compartment, measurement, mode): the read-out carried back to the start


def _partials(laplacian, phase, mean, intervals) -> Iterator[_Partial]:
    initial = mean.sum(0).to(torch.complex128)
    for chunk in _chunks(phase):
        operators = list(_cayley(laplacian, chunk, intervals))
        sweeps, state = [], initial.expand(len(chunk), -1)
        for interval, cayley in operators:
            for _ in range(interval.steps):
                states = _horner(cayley, interval.polynomial, state)
                sweeps.append((interval, cayley, state, states))
                state = states[-1]
        yield _adjoint(sweeps, state, mean.to(torch.complex128))


def _adjoint(sweeps, final: Tensor, mean: Tensor) -> _Partial:
    """Carry each compartment's read-out back through the sweeps, collecting the derivatives."""
    count, size = final.shape
    by_laplacian, by_phase, first = [], [], []
    for read_out in mean:
        state = read_out.expand(count, size)
        own_laplacian = torch.zeros_like(final[:, :, None] * final[:, None, :])
        own_phase = torch.zeros_like(own_laplacian)
        for interval, cayley, start, states in reversed(sweeps):
            polynomial = interval.polynomial
            left, state = _powers(cayley, polynomial, state)
            right = _doubled(polynomial, start, states)
            outer = left.transpose(0, 1).mT @ right.transpose(0, 1)
            outer = outer * (-interval.step / (2 * polynomial.pole))
            own_laplacian = own_laplacian + outer
            if interval.level != 0:
                own_phase = own_phase + 1j * interval.level * outer
        by_laplacian.append(own_laplacian)
        by_phase.append(own_phase)
        first.append(state)
    return _Partial(torch.stack(by_laplacian), torch.stack(by_phase), final, torch.stack(first))


def _chunks(phase: Tensor) -> tuple[Tensor, ...]:
    return phase.split(CHUNK if phase.device.type == "cpu" else len(phase))


def _cayley(laplacian, phase, intervals) -> Iterator[tuple[Interval, Tensor]]:
    """Each interval with its V = 2 s (s + L + i f B)^-1 - 1, s = sigma / h.

    A reversed gradient gives the complex conjugate, and no gradient one matrix for all.
    """
    known: dict[tuple[float, float], Tensor] = {}
    unit = torch.eye(laplacian.shape[-1], dtype=torch.complex128, device=laplacian.device)
    for interval in intervals:
        shift, level = interval.polynomial.pole / interval.step, abs(interval.level)
        if (shift, level) not in known:
            operator = laplacian.to(torch.complex128)
            if level != 0:
                operator = torch.complex(laplacian.expand_as(phase), level * phase)
            known[shift, level] = 2 * shift * torch.linalg.inv(shift * unit + operator) - unit
        cayley = known[shift, level]
        yield interval, cayley.conj().resolve_conj() if interval.level < 0 else cayley


def _apply(cayley: Tensor, state: Tensor) -> Tensor:
    """V x for one matrix per measurement, or one for all (V is symmetric)."""
    if cayley.ndim == 2:
        return state @ cayley
    return (cayley @ state[..., None])[..., 0]


def _horner(cayley: Tensor, polynomial: CayleyPolynomial, start: Tensor) -> list[Tensor]:
    """h_n = c_n x, h_j = V h_(j+1) + c_j x; the last one is the result."""
    *rest, last = polynomial.coefficients
    states = [last * start]
    for coefficient in reversed(rest):
        states.append(_apply(cayley, states[-1]) + coefficient * start)
    return states


def _doubled(polynomial: CayleyPolynomial, start: Tensor, states: list[Tensor]) -> Tensor:
    """(1 + V) h_(j+1) for j = 0..n-1, from the states alone."""
    ascending = torch.stack(states[::-1])
    c = torch.tensor(polynomial.coefficients[:-1], dtype=ascending.dtype, device=start.device)
    return ascending[1:] + ascending[:-1] - c[:, None, None] * start


def _powers(cayley: Tensor, polynomial: CayleyPolynomial, state: Tensor) -> tuple[Tensor, Tensor]:
    """(1 + V) V^j y for j = 0..n-1, and sum_j c_j V^j y."""
    power, powers = state, [state]
    for _ in polynomial.coefficients[1:]:
        power = _apply(cayley, power)
        powers.append(power)
    stacked = torch.stack(powers)
    c = torch.tensor(polynomial.coefficients, dtype=stacked.dtype, device=state.device)
    return stacked[:-1] + stacked[1:], torch.einsum("j,jmk->mk", c, stacked)
