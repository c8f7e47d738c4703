"""Several PGSE blocks one after the other: double diffusion encoding and b-tensors of any shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from spinmesh.errors import SequenceError
from spinmesh.sequence.pgse import PGSE
from spinmesh.sequence.waveform import Sequence, refuse_early_echo
from spinmesh.stored import quantity

Direction = tuple[float, float, float]
X, Y, Z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)


@dataclass(frozen=True)
class MultiplePGSE(Sequence):
    """One PGSE block per direction, `mixing` ms from the end of one to the onset of the next.

    Directions are in the sequence's own axes; an acquisition turns its z to the measurement's
    direction. Each block refocuses by itself, so blocks add without cross terms:
    b-tensor = sum_k b_PGSE e_k e_k'.
    """

    axes: ClassVar[int] = 3

    delta: float = quantity("ms")
    Delta: float = quantity("ms")
    directions: tuple[Direction, ...] = quantity()
    mixing: float = quantity("ms", default=0.0)
    ramp: float = quantity("ms", default=0.0)
    TE: float | None = quantity("ms", default=None)

    def __post_init__(self) -> None:
        end = self._end()
        if not self.directions:
            raise SequenceError("MultiplePGSE: no directions. Give one per block.")
        for number, direction in enumerate(self.directions):
            length = float(np.linalg.norm(direction))
            if not abs(length - 1) < 1e-6:
                raise SequenceError(
                    f"MultiplePGSE: direction {number} has length {length:.6g}. Normalise it."
                )
        if not self.mixing >= 0:
            raise SequenceError(f"MultiplePGSE: mixing is {self.mixing} ms; give 0 or more.")
        refuse_early_echo(self, self.TE, end)

    @classmethod
    def double(
        cls, delta: float, Delta: float, mixing: float, second: Direction, **timing
    ) -> MultiplePGSE:
        """Double PGSE: along z, then along `second` (Mitra 1995; Shemesh et al. 2016)."""
        return cls(delta, Delta, (Z, second), mixing, **timing)

    @classmethod
    def linear(cls, delta: float, Delta: float, blocks: int = 1, **timing) -> MultiplePGSE:
        """b-tensor b z z': `blocks` of them along z."""
        return cls(delta, Delta, (Z,) * blocks, **timing)

    @classmethod
    def planar(cls, delta: float, Delta: float, **timing) -> MultiplePGSE:
        """b-tensor b (1 - z z')/2: x, then y."""
        return cls(delta, Delta, (X, Y), **timing)

    @classmethod
    def spherical(cls, delta: float, Delta: float, **timing) -> MultiplePGSE:
        """b-tensor b/3: x, y and z in turn (Mori & van Zijl 1995)."""
        return cls(delta, Delta, (X, Y, Z), **timing)

    @property
    def block(self) -> PGSE:
        """One block."""
        return PGSE(self.delta, self.Delta, self.ramp)

    @property
    def echo_time(self) -> float:
        """Time from the excitation to the echo (ms); by default the blocks fill it."""
        return self._end() if self.TE is None else max(self._end(), self.TE)

    def breakpoints(self) -> tuple[float, ...]:
        """Those of each block, after 0 and before the echo."""
        block = self.block.breakpoints()
        inner = [start + t for start in self._onsets() for t in block]
        return (0.0, *inner, self.echo_time)

    def profile(self, t: Float[ndarray, " time"]) -> Float[ndarray, "time 3"]:
        """Each block's profile times its direction."""
        t = np.asarray(t, dtype=float)
        result = np.zeros((len(t), 3))
        for start, direction in zip(self._onsets(), self.directions, strict=True):
            result += self.block.profile(t - start) * np.array(direction)
        return result

    def _end(self) -> float:
        count = len(self.directions)
        return count * self.block.echo_time + (count - 1) * self.mixing

    def _onsets(self) -> list[float]:
        first = max(0.0, (self.echo_time - self._end()) / 2)
        apart = self.block.echo_time + self.mixing
        return [first + k * apart for k in range(len(self.directions))]
