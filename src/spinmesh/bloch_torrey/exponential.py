"""exp(-z) as a polynomial in one Cayley variable: one real pole serves forward and adjoint.

With v = (sigma - z)/(sigma + z), exp(-z) ~ sum_j c_j v^j on the half-strip
{Re z >= 0, |Im z| <= a}. The Bloch-Torrey operator t(L + iB), L >= 0 and |tB| <= a symmetric, has
its numerical range in that strip, so by Crouzeix and Palencia (2017) the error of the matrix
function is at most 1 + sqrt(2) times the scalar one, whatever its spectrum: exceptional points and
stiff modes do no harm. About a + 25 terms give 1e-10 (docs/decisions/0002).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from spinmesh.errors import ReductionError

# Relative error of one propagation; far below any mesh error, above the rounding of ~50 products.
TOLERANCE = 1e-10
# Beyond this half-height the coefficients grow and cancel; the interval is cut into steps instead.
LARGEST_HALF_HEIGHT = 20.0
MOST_TERMS = 80
GRID = np.array([0, 0.5, 1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 17, LARGEST_HALF_HEIGHT])


@dataclass(frozen=True)
class CayleyPolynomial:
    """exp(-z) ~ sum_j coefficients[j] v^j, v = (pole - z)/(pole + z); `error` on the strip."""

    pole: float
    coefficients: tuple[float, ...]
    error: float


def steps_and_polynomial(half_height: float) -> tuple[int, CayleyPolynomial]:
    """Number of equal steps and the polynomial of each, for a strip of the given half-height."""
    steps = max(1, int(np.ceil(half_height / LARGEST_HALF_HEIGHT)))
    return steps, cayley_polynomial(half_height_on_grid(half_height / steps))


def half_height_on_grid(half_height: float) -> float:
    """Rounded up: strips of about one height share a polynomial."""
    if half_height > LARGEST_HALF_HEIGHT:
        return LARGEST_HALF_HEIGHT * float(np.ceil(half_height / LARGEST_HALF_HEIGHT))
    return float(GRID[np.searchsorted(GRID, half_height)])


@lru_cache
def cayley_polynomial(half_height: float) -> CayleyPolynomial:
    """Shortest least-squares fit, real coefficients, that meets TOLERANCE on the boundary."""
    z = _strip_boundary(half_height)
    for degree in range(16 + int(half_height), MOST_TERMS, 4):
        for ratio in (0.5, 0.7, 1.0):
            fit = _fit(z, degree, ratio * degree)
            if fit.error < TOLERANCE:
                return fit
    raise ReductionError(
        f"no rational exponential of {MOST_TERMS} terms reaches {TOLERANCE} for half-height "
        f"{half_height}. Shorten the pulses' steps (LARGEST_HALF_HEIGHT)."
    )


def _strip_boundary(half_height: float) -> np.ndarray:
    """Samples of the half-strip's boundary; by the maximum principle the error peaks there."""
    left = 1j * half_height * np.cos(np.linspace(0, np.pi, 401))
    side = np.concatenate([[0.0], np.geomspace(1e-4, 1e6, 800)])
    # Real coefficients: the lower side is the mirror image of the upper one.
    return np.concatenate([left, side + 1j * half_height])


def _fit(z: np.ndarray, degree: int, pole: float) -> CayleyPolynomial:
    v = (pole - z) / (pole + z)
    powers = np.vander(v, degree + 1, increasing=True)
    system = np.concatenate([powers.real, powers.imag])
    target = np.concatenate([np.exp(-z).real, np.exp(-z).imag])
    coefficients = np.linalg.lstsq(system, target, rcond=1e-14)[0]
    error = float(np.abs(powers @ coefficients - np.exp(-z)).max())
    return CayleyPolynomial(pole, tuple(coefficients.tolist()), error)
