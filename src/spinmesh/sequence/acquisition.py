"""An acquisition: which sequence, along which direction, how strong, in the scheme's order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spinmesh.errors import SequenceError
from spinmesh.sequence.pgse import PGSE

# bvec files carry 4 to 6 digits; more than this off unit length is not rounding.
UNIT_TOLERANCE = 1e-2


@dataclass(frozen=True, eq=False)
class Acquisition:
    """`gradient[m]` (mT/m, 3-vector) scales the profile of `sequences[timing[m]]`."""

    sequences: tuple[PGSE, ...]
    timing: Int[Tensor, " measurement"]
    gradient: Float[Tensor, "measurement 3"]

    def __post_init__(self) -> None:
        if len(self.gradient) == 0:
            raise SequenceError("acquisition: no measurements. Check the bval or scheme file.")
        if len(self.timing) != len(self.gradient):
            raise SequenceError(
                f"acquisition: {len(self.timing)} timings for {len(self.gradient)} gradients."
            )
        if not bool(torch.isfinite(self.gradient).all()):
            bad = int((~torch.isfinite(self.gradient)).any(1).nonzero()[0])
            raise SequenceError(f"acquisition: gradient of measurement {bad} is not finite.")

    def __len__(self) -> int:
        return len(self.gradient)

    @classmethod
    def pgse(cls, b, direction, delta, Delta) -> Acquisition:
        """From b (ms/um^2), unit directions (measurement, 3), delta and Delta (ms, scalar or each).

        Raises SequenceError for negative b, directions off unit length, or lengths that differ.
        A direction is read only where b > 0; there it is normalised exactly.
        """
        b = torch.as_tensor(b, dtype=torch.float64).reshape(-1)
        _refuse_negative("b-value (ms/um^2)", b)
        sequences, timing = _timings(len(b), delta, Delta)
        pairs = zip(timing.tolist(), b.tolist(), strict=True)
        amplitude = torch.tensor([sequences[k].gradient(x) for k, x in pairs], dtype=torch.float64)
        return cls(sequences, timing, amplitude[:, None] * _unit(direction, b))

    @classmethod
    def from_gradient(cls, amplitude, direction, delta, Delta) -> Acquisition:
        """The same from gradient amplitudes (mT/m) instead of b-values."""
        amplitude = torch.as_tensor(amplitude, dtype=torch.float64).reshape(-1)
        _refuse_negative("gradient (mT/m)", amplitude)
        sequences, timing = _timings(len(amplitude), delta, Delta)
        return cls(sequences, timing, amplitude[:, None] * _unit(direction, amplitude))

    @property
    def amplitude(self) -> Float[Tensor, " measurement"]:
        """Gradient amplitude (mT/m)."""
        return self.gradient.norm(dim=1)

    @property
    def direction(self) -> Float[Tensor, "measurement 3"]:
        """Unit direction; zero where there is no gradient."""
        amplitude = self.amplitude[:, None]
        return torch.where(amplitude > 0, self.gradient / amplitude, 0.0)

    @cached_property
    def b_value(self) -> Float[Tensor, " measurement"]:
        """b of each measurement (ms/um^2)."""
        pairs = zip(self.timing.tolist(), self.amplitude.tolist(), strict=True)
        return torch.tensor([self.sequences[k].b_value(g) for k, g in pairs], dtype=torch.float64)

    def durations(self, name: str) -> Float[Tensor, " measurement"]:
        """`delta`, `Delta` or `echo_time` of each measurement (ms)."""
        values = torch.tensor([getattr(s, name) for s in self.sequences], dtype=torch.float64)
        return values[self.timing]

    def rotated(self, rotation: Float[Tensor, "3 3"]) -> Acquisition:
        """The same acquisition with every gradient turned: g -> R g."""
        return Acquisition(self.sequences, self.timing, self.gradient @ rotation.T)

    def to(self, device: str) -> Acquisition:
        """The same acquisition with its tensors on another device."""
        return Acquisition(self.sequences, self.timing.to(device), self.gradient.to(device))

    def select(self, index) -> Acquisition:
        """The measurements at `index` (mask or indices), in that order."""
        return Acquisition(self.sequences, self.timing[index], self.gradient[index])


def _refuse_negative(what: str, values: Tensor) -> None:
    wrong = ~torch.isfinite(values) | (values < 0)
    if bool(wrong.any()):
        first = int(wrong.nonzero()[0])
        raise SequenceError(
            f"acquisition: {what} of measurement {first} is {float(values[first]):g}. "
            "It must be finite and >= 0; check the bval or scheme file."
        )


def _timings(count: int, delta, Delta) -> tuple[tuple[PGSE, ...], Tensor]:
    """The distinct sequences, and which of them each measurement uses."""
    durations = []
    for name, value in (("delta", delta), ("Delta", Delta)):
        value = torch.as_tensor(value, dtype=torch.float64).reshape(-1)
        if len(value) not in (1, count):
            raise SequenceError(
                f"acquisition: {len(value)} values of {name} for {count} measurements. "
                "Give one value, or one per measurement."
            )
        durations.append(value.expand(count))
    unique, timing = torch.unique(torch.stack(durations, 1), dim=0, return_inverse=True)
    return tuple(PGSE(*pair) for pair in unique.tolist()), timing


def _unit(direction, strength: Tensor) -> Float[Tensor, "measurement 3"]:
    """Directions of exact unit length where there is a gradient, zero elsewhere."""
    direction = torch.as_tensor(direction, dtype=torch.float64)
    if direction.shape != (len(strength), 3):
        raise SequenceError(
            f"acquisition: {len(strength)} measurements but directions of shape "
            f"{tuple(direction.shape)}. Give one 3-vector per measurement."
        )
    length = direction.norm(dim=1)
    on = strength > 0
    off = on & ~((length - 1).abs() <= UNIT_TOLERANCE)
    if bool(off.any()):
        first = int(off.nonzero()[0])
        raise SequenceError(
            f"acquisition: {int(off.sum())} directions are not unit vectors (first: measurement "
            f"{first}, length {float(length[first]):.4g}). Normalise the bvec file, or check that "
            "it belongs to this bval file."
        )
    return torch.where(on[:, None], direction / torch.where(on, length, 1.0)[:, None], 0.0)
