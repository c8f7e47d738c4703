"""Slab, cylinder and sphere with reflecting walls, in their Laplace eigenbasis.

Modes are psi_n(a r/R) times an angular harmonic of order n, psi_n being cos and sin, J_n or j_n in
d = 1, 2, 3 dimensions and a a root of psi_n'. With lambda = a^2 and R the unit of length, modes
of orders n and n + 1 couple by (Grebenkov 2007, his three cases written as one)

    B = A_n w w' (lambda + lambda' - 2n(n + d - 1)) / (lambda - lambda')^2,
    w^2 = 2 lambda / (lambda - n(n + d - 2)), w^2 = d for the constant mode,

w the value at the wall of the normalised radial mode and A_n the angular factor.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.optimize import brentq
from scipy.special import jvp, spherical_jn
from torch import Tensor

from spinmesh.analytic import modes
from spinmesh.errors import ConfigError
from spinmesh.sequence import Acquisition

# Cut-offs in R times wavenumber; the number of modes doubles with each.
CUTOFFS = tuple(16 * 2 ** (k / 2) for k in range(10))

# A gradient couples order n to the constant only in n steps, so high orders matter less: each
# order shortens the radial series by this much. Every value converges to the same signals; of
# 0, 1, 2 and 4 the last was the fastest on the oracles (0.35 s against 24 s).
ORDER_WEIGHT = 4.0


def slab(
    acquisition: Acquisition, width: float, diffusivity: float, normal, tolerance=modes.TOLERANCE
) -> Float[Tensor, " measurement"]:
    """Between two parallel walls `width` (um) apart, free within the plane."""
    in_plane, across = modes.split_gradient(acquisition, normal)
    restricted = _ball(acquisition, 1, width / 2, diffusivity, across, tolerance)
    return restricted * modes.free_along(acquisition, in_plane, diffusivity)


def cylinder(
    acquisition: Acquisition, radius: float, diffusivity: float, axis, tolerance=modes.TOLERANCE
) -> Float[Tensor, " measurement"]:
    """Within an infinite circular cylinder of `radius` (um), free along `axis`."""
    across, along = modes.split_gradient(acquisition, axis)
    restricted = _ball(acquisition, 2, radius, diffusivity, across, tolerance)
    return restricted * modes.free_along(acquisition, along, diffusivity)


def sphere(
    acquisition: Acquisition, radius: float, diffusivity: float, tolerance=modes.TOLERANCE
) -> Float[Tensor, " measurement"]:
    """Within a sphere of `radius` (um)."""
    across = acquisition.amplitude.detach().cpu().numpy()
    return _ball(acquisition, 3, radius, diffusivity, across, tolerance)


def _ball(acquisition, dimension, radius, diffusivity, across, tolerance) -> Tensor:
    for name, value in (("size", radius), ("diffusivity", diffusivity)):
        if not 0 < value < np.inf:
            raise ConfigError(f"analytic: {name} is {value}; give a finite number > 0.")
    build = partial(_modes, dimension, radius, diffusivity)
    return modes.converged(build, CUTOFFS, acquisition, across, 0.0, tolerance)


def _modes(dimension: int, radius: float, diffusivity: float, cutoff: float) -> modes.Modes:
    order, root = _spectrum(dimension, cutoff)
    square = root**2
    wall = np.full(len(root), float(dimension))
    n, moving = order[1:], square[1:]
    wall[1:] = 2 * moving / (moving - n * (n + dimension - 2))
    low, high = np.nonzero(order[None, :] == order[:, None] + 1)
    n = order[low]
    value = (
        modes.angular_factor(dimension, n)
        * np.sqrt(wall[low] * wall[high])
        * (square[low] + square[high] - 2 * n * (n + dimension - 1))
        / (square[low] - square[high]) ** 2
    )
    moment = np.zeros((len(root), len(root)))
    moment[low, high] = moment[high, low] = radius * value
    return modes.Modes(diffusivity * square / radius**2, moment, (root == 0).astype(float))


@lru_cache(maxsize=64)
def _spectrum(dimension: int, cutoff: float) -> tuple[ndarray, ndarray]:
    """Order and root (mode,), the constant mode first, of all within the cut-off."""
    weight = 0.0 if dimension == 1 else ORDER_WEIGHT
    last = 1 if dimension == 1 else int(cutoff / (1 + ORDER_WEIGHT))
    roots = [_roots(_slope(dimension, n), cutoff - weight * n) for n in range(last + 1)]
    order = np.repeat(np.arange(last + 1), [len(group) for group in roots])
    return np.concatenate([[0], order]), np.concatenate([[0.0], *roots])


def _slope(dimension: int, order: int) -> Callable[[ndarray], ndarray]:
    """psi_order' up to a constant."""
    if dimension == 1:
        return np.cos if order else np.sin
    return partial(jvp, order) if dimension == 2 else partial(spherical_jn, order, derivative=True)


def _roots(function: Callable[[ndarray], ndarray], reach: float) -> list[float]:
    """Every positive root up to `reach`.

    Roots of cos', sin', J_n' and j_n' are more than 3 apart and none is under 1.5, so a grid of
    0.25 brackets each one alone. Where J_n' underflows to 0 the product of signs is 0, no bracket.
    """
    x = np.arange(1.0, reach + 0.25, 0.25)
    y = function(x)
    brackets = np.nonzero(y[:-1] * y[1:] < 0)[0]
    roots = [float(brentq(function, x[i], x[i + 1], xtol=1e-14, rtol=1e-15)) for i in brackets]
    return [root for root in roots if root <= reach]
