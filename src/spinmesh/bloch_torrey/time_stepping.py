"""Implicit time stepping of the full finite-element system: the judge of the reduced model.

Nothing is shared with the reduced model but the sparse matrices: no basis, no projection, another
approximation of the exponential.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from math import comb, factorial
from typing import TypeVar

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from spinmesh.bloch_torrey.signal import Signals
from spinmesh.errors import ReductionError
from spinmesh.fem import assemble
from spinmesh.mesh import TetMesh
from spinmesh.reduction import factorise
from spinmesh.sequence import Acquisition, Sequence
from spinmesh.tissue import Tissue
from spinmesh.units import GAMMA

Solve = Callable[[ndarray], ndarray]
Array = TypeVar("Array", ndarray, Tensor)


@dataclass(frozen=True)
class Step:
    """exp(-z) ~ sum_j coefficients[j] X^j with X = 1/(1 + pole z): one factorisation per step."""

    pole: float
    coefficients: tuple[float, ...]

    def of(self, inverse: Callable[[Array], Array], state: Array) -> Array:
        """sum_j coefficients[j] X^j applied to a state, `inverse` being X."""
        result = self.coefficients[0] * state
        for coefficient in self.coefficients[1:]:
            state = inverse(state)
            result = result + coefficient * state
        return result


@lru_cache
def restricted_pade(order: int = 5) -> Step:
    """The L-stable restricted Pade approximation of Norsett (1974) with one real pole.

    1/pole is a root of the Laguerre polynomial of degree `order` (Hairer & Wanner 1996, table
    IV.6.4), which makes the numerator one degree lower than the denominator: stiff modes vanish,
    and the order is still `order`. Raises ReductionError for other orders than 2, 3 and 5.
    """
    if order not in (2, 3, 5):
        raise ReductionError(f"time stepping: order {order}. Give 2, 3 or 5 (those are L-stable).")
    roots = np.polynomial.laguerre.lagroots([0.0] * order + [1.0])
    pole = 1 / float(roots[{2: 1, 3: 1, 5: 2}[order]])
    # Numerator: the series of (1 + pole z)^order exp(-z), whose term z^order vanishes.
    numerator = [
        sum(comb(order, i) * pole**i * (-1) ** (n - i) / factorial(n - i) for i in range(n + 1))
        for n in range(order)
    ]
    # z = (1/X - 1)/pole, so z^n X^order = pole^-n (1 - X)^n X^(order - n).
    x = np.polynomial.Polynomial([0.0, 1.0])
    total = sum(
        (c * ((1 - x) / pole) ** n * x ** (order - n) for n, c in enumerate(numerator)), 0 * x
    )
    return Step(pole, tuple(total.coef.tolist()))


def intervals(sequence: Sequence, parts: int) -> list[tuple[float, Float[ndarray, " axis"]]]:
    """Durations (ms) and levels of the profile, each interval between breakpoints in `parts`.

    The level is that at the part's middle: exact where the profile is constant, of second order in
    the part's length where it varies.
    """
    result = []
    for start, end in pairwise(sequence.breakpoints()):
        if end > start:
            length = (end - start) / parts
            middles = start + (np.arange(parts) + 0.5) * length
            result += [(length, level) for level in sequence.profile(middles)]
    return result


def step_signal(
    mesh: TetMesh,
    tissue: Tissue,
    acquisition: Acquisition,
    steps_per_interval: int = 32,
    order: int = 5,
) -> Signals:
    """Signals (um^3 times spin density) of the full system M w' = -(S + Q + R + i gamma f g.J) w.

    `steps_per_interval` equal L-stable steps between neighbouring breakpoints, with one sparse
    factorisation per step length and gradient (-g by conjugates); of order 2 only where the profile
    varies between its breakpoints. Expensive and simple: meant to judge, on small meshes. Raises
    ReductionError for fewer steps than 1, MeshError or ConfigError as `assemble`.
    """
    if steps_per_interval < 1:
        raise ReductionError(f"time stepping: {steps_per_interval} steps. Give at least 1.")
    matrices = assemble(mesh, tissue)
    moments = matrices.moments_about(mesh.points[mesh.vertices].mean(0).tolist())

    def operator(gradient: Float[ndarray, " 3"]) -> sp.csr_matrix:
        """S + Q + R + i gamma g.J; real if there is no gradient."""
        phases = (1j * GAMMA * g * J for g, J in zip(gradient, moments, strict=True) if g != 0)
        return sum(phases, matrices.decay)

    propagate = partial(_propagate, matrices.mass, operator, restricted_pade(order))
    signal = np.zeros(len(acquisition), dtype=complex)
    reference = np.zeros(len(acquisition))
    for number, sequence in enumerate(acquisition.sequences):
        parts = intervals(sequence, steps_per_interval)
        rest = [(length, np.zeros(3)) for length, _ in parts]
        reference[(acquisition.timing == number).numpy()] = propagate(rest).real
        for row in (acquisition.timing == number).nonzero()[:, 0]:
            vectors = acquisition.vectors(row[None])[0].numpy()
            gradients = [(length, vectors @ level) for length, level in parts]
            signal[int(row)] = propagate(gradients)
    return Signals(acquisition, torch.from_numpy(signal)[None], torch.from_numpy(reference)[None])


def _propagate(
    mass: sp.csr_matrix,
    operator: Callable[[ndarray], sp.csr_matrix],
    step: Step,
    parts: list[tuple[float, Float[ndarray, " 3"]]],
) -> complex:
    """1' M w after all parts (duration in ms, gradient in mT/m), from w = 1."""
    state = np.ones(mass.shape[0], dtype=complex)
    solvers: dict[tuple[float, ...], Solve] = {}
    for length, gradient in parts:
        # Equal parts differ in the last digits; one factorisation serves them.
        key = (round(length, 12), *(gradient.round(9) + 0.0))
        opposite = (round(length, 12), *(-gradient.round(9) + 0.0))
        if opposite in solvers:
            state = step.of(solvers[opposite], state.conj()).conj()
            continue
        if key not in solvers:
            solvers[key] = _solver(mass, step.pole * length * operator(gradient))
        state = step.of(solvers[key], state)
    return complex((mass @ state).sum())


def _solver(mass: sp.csr_matrix, scaled: sp.csr_matrix) -> Solve:
    """x -> (M + scaled)^-1 M x, for complex x whatever the matrix."""
    factor = factorise(mass + scaled)
    if np.iscomplexobj(scaled.data):
        return lambda x: np.asarray(factor.solve(mass @ x))

    def real(x: ndarray) -> ndarray:
        image = mass @ x
        both = factor.solve(np.stack([image.real, image.imag], 1))
        return np.asarray(both[:, 0] + 1j * both[:, 1])

    return real
