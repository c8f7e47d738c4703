"""exp(-t(L + i s B)) for many s at once: a polynomial in one resolvent, one pencil a direction.

With v = (sigma - z)/(sigma + z), exp(-z) ~ sum_j c_j v^j on the half-strip Re z >= 0, |Im z| <= a.
The numerical range of t(L + iB), L >= 0 and |tB| <= a symmetric, lies in that strip: the error of
the matrix function is at most 1 + sqrt(2) times the scalar one (Crouzeix & Palencia 2017), whatever
its spectrum. About a + 25 terms give 1e-10 (docs/decisions/0002).

Arrays run over (compartment, shape, direction, mode, measurement), the last being the amplitudes s
along one direction. All operators are in the eigenbasis of L, where resting is a diagonal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.errors import ReductionError
from spinmesh.units import GAMMA

Array = TypeVar("Array", np.ndarray, Tensor)

# Relative error of one propagation; far below any mesh error, above the rounding of ~50 products.
TOLERANCE = 1e-10
# Beyond this half-height the coefficients grow and cancel; the interval is cut into steps instead.
LARGEST_HALF_HEIGHT = 20.0
MOST_TERMS = 80
# Terms that are too few for a digit; the search for a fit starts there.
TERMS_PER_DIGIT = 1.6
GRID = np.array([0, 0.5, 1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 17, LARGEST_HALF_HEIGHT])


@dataclass(frozen=True)
class CayleyPolynomial:
    """exp(-z) ~ sum_j coefficients[j] v^j, v = (pole - z)/(pole + z); `error` on the strip."""

    pole: float
    coefficients: tuple[float, ...]
    error: float

    def of(self, inverse: Callable[[Array], Array], state: Array) -> Array:
        """Applied to a state, `inverse` being x -> (1 + z/pole)^-1 x."""
        result = self.coefficients[0] * state
        for coefficient in self.coefficients[1:]:
            state = 2 * inverse(state) - state
            result = result + coefficient * state
        return result


def steps_and_polynomial(
    half_height: float, tolerance: float = TOLERANCE
) -> tuple[int, CayleyPolynomial]:
    """Number of equal steps and the polynomial of each, for a strip of the given half-height."""
    steps = max(1, int(np.ceil(half_height / LARGEST_HALF_HEIGHT)))
    return steps, cayley_polynomial(half_height_on_grid(half_height / steps), tolerance)


def half_height_on_grid(half_height: float) -> float:
    """Rounded up: strips of about one height share a polynomial."""
    if half_height > LARGEST_HALF_HEIGHT:
        return LARGEST_HALF_HEIGHT * float(np.ceil(half_height / LARGEST_HALF_HEIGHT))
    return float(GRID[np.searchsorted(GRID, half_height)])


@lru_cache
def cayley_polynomial(half_height: float, tolerance: float = TOLERANCE) -> CayleyPolynomial:
    """Shortest least-squares fit, real coefficients, that meets the tolerance on the boundary.

    Raises ReductionError if MOST_TERMS are too few.
    """
    z = _strip_boundary(half_height)
    first = round(-TERMS_PER_DIGIT * math.log10(tolerance)) + int(half_height)
    for degree in range(first, MOST_TERMS, 4):
        for ratio in (0.5, 0.7, 1.0):
            fit = _fit(z, degree, ratio * degree)
            if fit.error < tolerance:
                return fit
    raise ReductionError(
        f"no rational exponential of {MOST_TERMS} terms reaches {tolerance} for half-height "
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


@dataclass(frozen=True, eq=False)
class Frame:
    """L = Q diag(rates) Q', and everything else seen from there."""

    rates: Float[Tensor, "shape mode"]  # 1/ms
    vectors: Float[Tensor, "shape mode mode"]
    moments: Float[Tensor, "shape 3 mode mode"]  # um
    core: Float[Tensor, "shape mode mode"] | None = None

    @classmethod
    def of(cls, laplacian: Tensor, moments: Tensor, core: Tensor | None = None) -> Frame:
        """Of L and the core (shape, mode, mode), J (shape, 3, ...); no derivative is taken of Q."""
        rates, vectors = torch.linalg.eigh(laplacian)
        turned = vectors[:, None].mT @ moments @ vectors[:, None]
        return cls(rates, vectors, turned, None if core is None else vectors.mT @ core @ vectors)

    def along(self, direction: Float[Tensor, "direction 3"]) -> Tensor:
        """n.J of unit directions, (shape, direction, mode, mode)."""
        return torch.einsum("da,saij->sdij", direction, self.moments)


@dataclass(frozen=True, eq=False)
class Along:
    """Gradients of one chunk in one stage: unit directions times amplitudes (mT/m)."""

    direction: Float[Tensor, "direction 3"]
    amplitude: Float[Tensor, "direction measurement"]
    level: Float[Tensor, " axis"]
    line: tuple[float, ...]  # unit vector of the level, up to its sign

    @classmethod
    def of(
        cls,
        vectors: Float[Tensor, "direction measurement 3 axis"],
        level: tuple[float, ...],
        sign: int,
    ) -> Along:
        """The profile at sign * level times `vectors`, parallel within each direction.

        The direction is that of the line: it does not turn with the profile's sign.
        """
        first = next(x for x in level if x != 0)
        strength = math.copysign(math.hypot(*level), first)
        line = tuple(x / strength for x in level)
        gradient = vectors @ vectors.new_tensor(line)
        rows = torch.arange(len(gradient), device=gradient.device)
        longest = gradient[rows, gradient.norm(dim=-1).argmax(1)]
        length = longest.norm(dim=1, keepdim=True)
        direction = torch.where(length > 0, longest / length, 0.0)
        amplitude = sign * strength * torch.einsum("dma,da->dm", gradient, direction)
        signed = vectors.new_tensor([sign * x for x in level])
        return cls(direction, amplitude, signed, tuple(round(x, 12) for x in line))


@dataclass(frozen=True, eq=False)
class PulsePart:
    """A step's part of dS: sum_n left_n' (dL + i gamma amplitude direction.dJ) right_n.

    `basis` W takes left and right to the frame.
    """

    left: Tensor  # (compartment, shape, direction, mode, term, measurement)
    right: Tensor
    basis: Float[Tensor, "shape direction mode mode"]
    along: Along

    def in_frame(self) -> tuple[Tensor, Tensor]:
        """Left and right in the frame."""
        both = [real_product(self.basis, x.flatten(-2)) for x in (self.left, self.right)]
        left, right = (x.unflatten(-1, self.right.shape[-2:]) for x in both)
        return left, right


@dataclass(frozen=True, eq=False)
class RestPart:
    """A rest's part of dS: left' (F dL) right, F the divided differences, entry by entry."""

    left: Tensor  # (compartment, shape, direction, mode, 1, measurement), in the frame
    right: Tensor
    rest: Rest


@dataclass(frozen=True, eq=False)
class CorePart:
    """The core's part of dS: left' dX right, in the frame."""

    left: Tensor  # (compartment, shape, direction, mode, 1, measurement)
    right: Tensor


@dataclass(frozen=True, eq=False)
class Rest:
    """exp(-tL); `duration` (ms) is that of each direction and measurement, or (1, 1) for all."""

    frame: Frame
    duration: Float[Tensor, "direction measurement"]

    def forward(self, state: Tensor, tape: list[Tensor] | None = None) -> Tensor:
        """exp(-tL) x; what `backward` needs is added to the tape."""
        if tape is not None:
            tape.append(state)
        return torch.exp(-self.frame.rates[:, None, :, None] * self.duration[:, None, :]) * state

    def backward(
        self, left: Tensor, tape: list[Tensor]
    ) -> tuple[Tensor, list[PulsePart | RestPart]]:
        """Carry the adjoint state back, collecting the derivative."""
        return self.forward(left), [self.between(left, tape[0])]

    def between(self, left: Tensor, right: Tensor) -> RestPart:
        """The derivative of left' exp(-tL) right."""
        return RestPart(left[..., None, :], right[..., None, :], self)

    def differences(self) -> tuple[Float[Tensor, "shape time mode mode"], Tensor]:
        """d exp(-tL)_ij / dL_ij in the frame, by distinct t, and which t each measurement has.

        Divided differences (Daleckii & Krein 1965), here free of cancellation and overflow.
        """
        distinct, which = torch.unique(self.duration, return_inverse=True)
        t = distinct[:, None, None]
        first, second = self.frame.rates[:, None, :, None], self.frame.rates[:, None, None, :]
        gap = (first - second).abs()
        slope = torch.where(gap > 0, torch.expm1(-t * gap) / gap, -t)
        return torch.exp(-t * torch.minimum(first, second)) * slope, which


@dataclass(frozen=True, eq=False)
class Pencil:
    """L + shift and n.J diagonal at once: W'(L + shift)W = 1, W'(n.J)W = diag(slopes).

    Then (shift + L + i s n.J)^-1 = W diag(1 / (1 + i s slopes)) W' for every s.
    """

    shift: float
    basis: Float[Tensor, "shape direction mode mode"]  # W
    inverse: Float[Tensor, "shape direction mode mode"]  # W^-1
    gram: Float[Tensor, "shape direction mode mode"]  # W'W
    slopes: Float[Tensor, "shape direction mode"]

    @classmethod
    def of(cls, frame: Frame, direction: Float[Tensor, "direction 3"], shift: float) -> Pencil:
        """Real throughout: L + shift is positive and diagonal in the frame."""
        root = (frame.rates + shift).sqrt()[:, None, :, None]
        slopes, vectors = torch.linalg.eigh(frame.along(direction) / (root * root.mT))
        basis = vectors / root
        return cls(shift, basis, vectors.mT * root.mT, basis.mT @ basis, slopes)


@dataclass(frozen=True, eq=False)
class Pulse:
    """exp(-h(L + i s n.J)) `steps` times, by the polynomial in V = 2 shift (shift + K)^-1 - 1."""

    pencil: Pencil
    polynomial: CayleyPolynomial
    steps: int
    resolvent: Tensor  # 2 shift / (1 + i s slopes), (shape, direction, mode, measurement)
    along: Along

    @classmethod
    def of(cls, pencil: Pencil, polynomial: CayleyPolynomial, steps: int, along: Along) -> Pulse:
        """The pencil's pulse with the gradients `along`."""
        phase = GAMMA * pencil.slopes[..., None] * along.amplitude[:, None, :]
        resolvent = 2 * pencil.shift / torch.complex(torch.ones_like(phase), phase)
        return cls(pencil, polynomial, steps, resolvent, along)

    def forward(self, state: Tensor, tape: list[Tensor] | None = None) -> Tensor:
        """All steps on a state in the frame; (1 + V) h_j of each is added to the tape."""
        modal = real_product(self.pencil.inverse, state)
        for _ in range(self.steps):
            terms = None if tape is None else self._terms(modal)
            modal = self._horner(modal, terms)
            if tape is not None and terms is not None:
                tape.append(terms)
        return real_product(self.pencil.basis, modal)

    def backward(
        self, left: Tensor, tape: list[Tensor]
    ) -> tuple[Tensor, list[PulsePart | RestPart]]:
        """Carry the adjoint state back: dV = -(1 / 2 shift) (1 + V) dK (1 + V)."""
        modal, parts = real_product(self.pencil.inverse, left), list[PulsePart | RestPart]()
        for right in reversed(tape):
            terms = self._terms(modal)
            modal = self._powers(modal, terms)
            terms.mul_(-1 / (2 * self.pencil.shift))
            parts.append(PulsePart(terms, right, self.pencil.basis, self.along))
        return real_product(self.pencil.basis, modal), parts

    def _terms(self, state: Tensor) -> Tensor:
        """Room for one (1 + V) x per power, (..., mode, term, measurement)."""
        count = len(self.polynomial.coefficients) - 1
        return state.new_empty((*state.shape[:-1], count, state.shape[-1]))

    def _doubled(self, state: Tensor) -> Tensor:
        """(1 + V) x."""
        return real_product(self.pencil.gram, state).mul_(self.resolvent)

    def _horner(self, start: Tensor, terms: Tensor | None) -> Tensor:
        """h_n = c_n x, h_j = V h_(j+1) + c_j x; term j is (1 + V) h_(j+1)."""
        *rest, last = self.polynomial.coefficients
        state = last * start
        for number, coefficient in reversed(list(enumerate(rest))):
            doubled = self._doubled(state)
            if terms is not None:
                terms[..., number, :] = doubled
            state = doubled.sub_(state).add_(start, alpha=coefficient)
        return state

    def _powers(self, state: Tensor, terms: Tensor) -> Tensor:
        """sum_j c_j V^j y; term j is (1 + V) V^j y."""
        first, *rest = self.polynomial.coefficients
        result = first * state
        for number, coefficient in enumerate(rest):
            doubled = self._doubled(state)
            terms[..., number, :] = doubled
            state = doubled.sub_(state)
            result.add_(state, alpha=coefficient)
        return result


def real_product(matrix: Tensor, state: Tensor) -> Tensor:
    """A x for real A (shape, direction, mode, mode), complex x (row, ..., mode, measurement).

    Rows become columns, so that A is read once for all of them.
    """
    columns = torch.view_as_real(state).movedim(0, -3)
    product = (matrix @ columns.flatten(-3)).reshape(*columns.shape[:-1], 2)
    return torch.view_as_complex(product.movedim(-3, 0))
