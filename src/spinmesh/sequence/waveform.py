"""What every gradient sequence can answer, derived from its profile alone.

A profile is the effective gradient (signs flipped by refocusing pulses) relative to its amplitude:
one number along the measurement's direction, or a 3-vector in the sequence's own axes. Between
breakpoints it is smooth, and all below follows from quadrature there: 16 Gauss nodes integrate
polynomials up to degree 31 and a quarter period of a sinusoid to rounding, so b is exact.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from spinmesh.errors import SequenceError
from spinmesh.units import GAMMA

# Nodes on [0, 1], weights, and the matrix that integrates an interpolant from 0 to each node.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_NODES, _WEIGHTS = (1 + _NODES) / 2, _WEIGHTS / 2
_LEGENDRE = np.polynomial.legendre.Legendre
_TO_NODE = np.linalg.solve(
    np.polynomial.legendre.legvander(2 * _NODES - 1, 15).T,
    [_LEGENDRE.basis(k).integ(lbnd=-1)(2 * _NODES - 1) / 2 for k in range(16)],
).T

# Pairs of steps on a piece where the profile is curved; a third of it where it is straight. With 8
# the error is below 1e-6 of S0 on the cells of docs/methods/sequences.md, section 4.
PAIRS = 8
# Levels and times closer than this fraction are one: far above rounding, far below 1e-10, the
# propagation's tolerance.
EQUAL = 1e-12


class Sequence(ABC):
    """A gradient profile. A new member states profile, breakpoints and echo time; no more."""

    axes: ClassVar[int] = 1
    """1: the profile scales the measurement's gradient vector. 3: it is a vector of its own."""

    @abstractmethod
    def profile(self, t: Float[ndarray, " time"]) -> Float[ndarray, "time axis"]:
        """Effective gradient relative to its amplitude at times t (ms)."""

    @abstractmethod
    def breakpoints(self) -> tuple[float, ...]:
        """Times (ms) from 0 to the echo between which the profile is smooth, in order.

        A sinusoid has at least one per quarter period.
        """

    @property
    @abstractmethod
    def echo_time(self) -> float:
        """Time from the excitation, or the start of the profile, to the read-out (ms)."""

    @property
    def label(self) -> str:
        """Words for a figure: the kind unless PGSE, and its times."""
        kind = type(self).__name__
        if not hasattr(self, "Delta"):
            return f"{kind}, TE {self.echo_time:g} ms"
        times = f"δ {getattr(self, 'delta', 0.0):g} ms, Δ {self.Delta:g} ms"
        return times if kind == "PGSE" else f"{kind}, {times}"

    def b_value(self, g: float) -> float:
        """b (ms/um^2) at gradient amplitude g (mT/m): the trace of the b-tensor, exact."""
        return float(np.trace(self.unit_b_tensor)) * g**2

    def gradient(self, b: float) -> float:
        """Gradient amplitude (mT/m) that gives b (ms/um^2); SequenceError if none does."""
        unit = float(np.trace(self.unit_b_tensor))
        if b > 0 and not unit > 0:
            raise SequenceError(f"{self}: its profile is zero, so no amplitude gives b = {b:g}.")
        return float((b / unit) ** 0.5) if b > 0 else 0.0

    @cached_property
    def unit_b_tensor(self) -> Float[ndarray, "axis axis"]:
        """gamma^2 int q q' dt with q the integral of the profile, for 1 mT/m; exact."""
        lengths, values = self._pieces()
        area = lengths[:, None] * np.einsum("n,pna->pa", _WEIGHTS, values)
        start = np.cumsum(area, 0) - area
        q = start[:, None] + lengths[:, None, None] * np.einsum("nm,pma->pna", _TO_NODE, values)
        result = GAMMA**2 * np.einsum("p,n,pna,pnb->ab", lengths, _WEIGHTS, q, q)
        return np.asarray(result)

    @cached_property
    def leftover(self) -> float:
        """|int profile dt| (ms); zero for a sequence that refocuses."""
        lengths, values = self._pieces()
        return float(np.linalg.norm(np.einsum("p,n,pna->a", lengths, _WEIGHTS, values)))

    def steps(
        self, pairs: int = PAIRS
    ) -> tuple[Float[ndarray, " step"], Float[ndarray, "step axis"]]:
        """Durations (ms) and levels of a piecewise-constant profile with the same signal.

        Exact where the profile is piecewise constant. A curved piece becomes `pairs` pairs of
        equal steps, a straight one a third as many. The levels of a pair are mean -+ 4 M1/h^2, with
        M1 the first moment about the centre of its length h: Blanes and Moan's (2006) fourth-order
        commutator-free exponentials, which for this equation are real waveforms. q is exact after
        each pair.
        """
        start, lengths = self._intervals()
        parts = self._parts(self._at_nodes(start, lengths), pairs)
        number = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
        lengths = np.repeat(lengths / parts, parts)
        values = self._at_nodes(np.repeat(start, parts) + number * lengths, lengths)
        mean = np.einsum("n,pna->pa", _WEIGHTS, values)
        tilt = 4 * np.einsum("n,pna->pa", _WEIGHTS * (_NODES - 0.5), values)
        levels = np.stack([mean - tilt, mean + tilt], 1).reshape(-1, self.axes)
        return _merged(np.repeat(lengths / 2, 2), levels)

    def _parts(self, values: ndarray, pairs: int) -> Int[ndarray, " piece"]:
        """One pair of steps where the profile is constant, more where it varies."""
        mean = np.einsum("n,pna->pa", _WEIGHTS, values)[:, None]
        slope = 12 * np.einsum("n,pna->pa", _WEIGHTS * (_NODES - 0.5), values)[:, None]
        varies = np.abs(values - mean).max((1, 2)) > EQUAL
        bends = np.abs(values - mean - slope * (_NODES - 0.5)[:, None]).max((1, 2)) > EQUAL
        return np.where(bends, pairs, np.where(varies, -(-pairs // 3), 1))

    def _intervals(self) -> tuple[Float[ndarray, " piece"], Float[ndarray, " piece"]]:
        """Starts and lengths of the smooth pieces; empty ones are left out."""
        times = np.array(self.breakpoints())
        lengths = np.diff(times)
        if not (lengths >= -EQUAL * times[-1]).all():
            raise SequenceError(f"{self}: its breakpoints are not in order: {times.tolist()}.")
        lasting = lengths > EQUAL * times[-1]
        return times[:-1][lasting], lengths[lasting]

    def _pieces(self) -> tuple[Float[ndarray, " piece"], Float[ndarray, "piece node axis"]]:
        """Lengths of the smooth pieces and the profile at their Gauss nodes."""
        start, lengths = self._intervals()
        return lengths, self._at_nodes(start, lengths)

    def _at_nodes(self, start: ndarray, lengths: ndarray) -> Float[ndarray, "piece node axis"]:
        nodes = start[:, None] + lengths[:, None] * _NODES
        return self.profile(nodes.ravel()).reshape(len(start), len(_NODES), self.axes)


def refuse_early_echo(sequence: Sequence, TE: float | None, end: float) -> None:
    """SequenceError if the echo is before the gradient's `end` (ms)."""
    # Camino files round TE, delta and Delta each to their last digit: 1e-6 ms is less than any.
    if TE is not None and not TE - end >= -1e-6:
        raise SequenceError(
            f"{type(sequence).__name__}: echo time {TE} ms is before the gradient's end at "
            f"{end:g} ms. Lengthen TE."
        )


def _merged(durations: ndarray, levels: ndarray) -> tuple[ndarray, ndarray]:
    """Neighbours of one level joined; rounded, so that equal steps are equal to the last digit."""
    levels = levels.round(12) + 0.0
    first = np.concatenate([[True], (levels[1:] != levels[:-1]).any(1)])
    return np.add.reduceat(durations, first.nonzero()[0]).round(12), levels[first]
