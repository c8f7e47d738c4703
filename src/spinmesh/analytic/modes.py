"""The matrix formalism in an exact basis: what every restricted geometry here ends in.

The signal of a PGSE is S = v^H exp(-(Delta - delta) Lambda) v with v = exp(-delta K) u and
K = Lambda + i gamma g B (Callaghan, J. Magn. Reson. 129, 1997; Grebenkov, Rev. Mod. Phys. 79,
2007). The second pulse is the complex conjugate of the first run backwards and K is symmetric,
so one exponential serves both pulses and S is real and positive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from scipy.linalg import expm
from torch import Tensor

from spinmesh.errors import ConfigError, ReductionError, SequenceError
from spinmesh.sequence import PGSE, Acquisition
from spinmesh.sequence import Sequence as Waveform
from spinmesh.units import GAMMA

# Largest change of an attenuation on refining the basis; ten times under the stated 1e-8.
TOLERANCE = 1e-9

# More modes would take minutes per measurement; the answer is then an error, not a wait.
MOST_MODES = 1500


@dataclass(frozen=True, eq=False)
class Modes:
    """Orthonormal decaying modes of a body that is symmetric about the gradient's direction.

    `rate` includes relaxation. `excess`, if given, is the diffusivity along a free axis, beyond
    the part that multiplies the whole signal: it adds q_z(t)^2 `excess` to the generator.
    """

    rate: Float[ndarray, " mode"]  # 1/ms
    moment: Float[ndarray, "mode mode"]  # um, of the coordinate along the gradient
    initial: Float[ndarray, " mode"]  # also the read-out
    excess: Float[ndarray, "mode mode"] | None = None  # um^2/ms

    def attenuation(self, sequence: PGSE, across: float, along: float, tolerance: float) -> float:
        """S(g)/S(0) for gradient components (mT/m) across and along the free axis.

        Time before the first pulse equals that after the second, so S keeps the form v^H .. v.
        """
        delta, gap = sequence.delta, sequence.Delta - sequence.delta
        unweighted = np.exp(-sequence.echo_time * self.rate) @ self.initial**2
        initial = np.exp(-sequence.onset * self.rate) * self.initial
        K = np.diag(self.rate) + 1j * GAMMA * across * self.moment
        if self.excess is None or along == 0:
            v = expm(-delta * K) @ initial
            return float(np.exp(-gap * self.rate) @ np.abs(v) ** 2 / unweighted)
        growth = (GAMMA * along) ** 2 * self.excess
        v = _ordered_pulse(K, growth, initial, delta, 100 * tolerance)
        between = np.diag(self.rate) + delta**2 * growth
        return float((v.conj() @ expm(-gap * between) @ v).real / unweighted)


def converged(
    build: Callable[..., Modes],
    sizes: Sequence[float] | Sequence[int],
    acquisition: Acquisition,
    across: Float[ndarray, " measurement"],
    along: Float[ndarray, " measurement"],
    tolerance: float,
) -> Float[Tensor, " measurement"]:
    """S(g)/S(0) with the basis refined, measurement by measurement, until S stands still.

    `across` and `along` (the free axis) are gradient components in mT/m. Raises ReductionError if
    the last size, or `MOST_MODES`, is not enough for `tolerance`.
    """
    # Rounded at 1e-10 mT/m (under 1e-11 in S) so that equal strengths are computed once.
    timing = acquisition.timing.cpu().numpy()
    rows = np.stack(np.broadcast_arrays(timing, across, along), 1).round(10)
    cases, place = np.unique(rows, axis=0, return_inverse=True)
    value, todo = np.full(len(cases), np.nan), np.arange(len(cases))
    count, moved = 0, np.inf
    for size in sizes:
        modes = build(size)
        if len(modes.rate) > MOST_MODES:
            break
        count, before = len(modes.rate), value[todo]
        for i in todo:
            which, g_across, g_along = cases[i]
            sequence = _rectangular(acquisition.sequences[int(which)])
            value[i] = modes.attenuation(sequence, g_across, g_along, tolerance)
        change = np.abs(value[todo] - before)
        todo, moved = todo[~(change < tolerance)], float(change.max())
        if len(todo) == 0:
            return torch.from_numpy(value[place.reshape(-1)]).to(acquisition.gradient.device)
    raise ReductionError(
        f"analytic: {len(todo)} of {len(cases)} attenuations still move by up to {moved:.1e} "
        f"with {count} modes (tolerance {tolerance:.1e}). Lower the gradient, lengthen "
        "the pulse, shrink the body or raise `tolerance`."
    )


def _rectangular(sequence: Waveform) -> PGSE:
    """The sequence itself; SequenceError if it is not a PGSE of rectangular pulses."""
    if isinstance(sequence, PGSE) and sequence.ramp == 0:
        return sequence
    raise SequenceError(
        f"analytic: {sequence} is not a PGSE with rectangular pulses, which is what the solutions "
        "in restricted bodies hold for. `free` takes any sequence."
    )


def _ordered_pulse(
    K: ndarray, growth: ndarray, initial: ndarray, delta: float, tolerance: float
) -> ndarray:
    """Solve v' = -(K + t^2 growth) v from `initial` over one pulse.

    Commutator-free steps (Blanes & Moan, Appl. Numer. Math. 56, 2006), their number doubled until
    v moves by less than `tolerance`. Fourth order, but the fast modes reduce it to the third.
    """
    nodes = 0.5 + 3**0.5 / 6 * np.array([-1, 1])
    shares = 0.25 + 3**0.5 / 6 * np.array([[1, -1], [-1, 1]])
    before = np.full(len(initial), np.inf, dtype=complex)
    for steps in (8, 16, 32, 64, 128, 256):
        h = delta / steps
        v: ndarray = initial.astype(complex)
        for start in h * np.arange(steps):
            for square in shares @ (start + nodes * h) ** 2:
                v = expm(-h * (K / 2 + square * growth)) @ v
        if np.abs(v - before).max() < tolerance * np.linalg.norm(initial):
            return v
        before = v
    raise ReductionError(
        f"analytic: {steps} steps do not resolve the pulse of {delta} ms. Raise `tolerance`."
    )


def split_gradient(acquisition: Acquisition, axis) -> tuple[ndarray, ndarray]:
    """Strengths (measurement,) across and along `axis`, in mT/m.

    The axis is a 3-vector of any length; ConfigError if it is zero.
    """
    axis = np.asarray(axis, dtype=float)
    if axis.shape != (3,) or not 0 < np.linalg.norm(axis) < np.inf:
        raise ConfigError(f"analytic: axis is {axis.tolist()}; give a 3-vector that is not zero.")
    axis = axis / np.linalg.norm(axis)
    gradient = acquisition.gradient.detach().cpu().numpy()
    along = gradient @ axis
    return np.linalg.norm(gradient - along[:, None] * axis, axis=1), np.abs(along)


def free_along(acquisition: Acquisition, gradient: ndarray, diffusivity: float) -> Tensor:
    """exp(-b D) of the gradient component (mT/m) along which nothing restricts."""
    pairs = zip(acquisition.timing.tolist(), gradient.tolist(), strict=True)
    b = torch.tensor([acquisition.sequences[k].b_value(g) for k, g in pairs], dtype=torch.float64)
    return torch.exp(-diffusivity * b).to(acquisition.gradient.device)
