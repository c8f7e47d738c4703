"""An acquisition: which sequence, along which direction, how strong, in the scheme's order."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from spinmesh.errors import SequenceError
from spinmesh.sequence.pgse import distinct_pgse
from spinmesh.sequence.waveform import Sequence
from spinmesh.stored import quantity
from spinmesh.units import GAMMA, b_from_s_per_mm2

# bvec files carry 4 to 6 digits; more than this off unit length is not rounding.
UNIT_TOLERANCE = 1e-2
# A frame is computed, not read: what single precision would leave.
FRAME_TOLERANCE = 1e-6
# HCP's 7 T protocol has unweighted images of b = 56 to 64 s/mm^2, most others of 0 to 15.
UNWEIGHTED_BELOW = b_from_s_per_mm2(50.0)
# b goes through a square root where a gradient is computed from it.
ROUNDING = 1e-6
# Phase (rad) left over a distance of 1 um: over a cell of 5 um radius it takes 2.5e-8 off |S|.
REFOCUSED = 1e-4


@dataclass(frozen=True, eq=False)
class Acquisition:
    """`gradient[m]` (mT/m, 3-vector) scales the profile of `sequences[timing[m]]`.

    A vector profile is turned by `frame[m]`, a rotation whose last column is the direction of
    `gradient[m]`, and scaled by its length: g(t) = |gradient| frame profile(t). Without `frame` it
    is the shortest turn from z to the direction. Scalar profiles need no frame.

    Measurements with b <= `unweighted_below` (ms/um^2) count as unweighted; `nominal_b` is theirs
    where a file gives b > 0 without a direction, so that there is no gradient here. `reference` is
    what a measured S0 is: see `with_reference`.
    """

    # Follows from the fields; stored with them for other readers.
    DERIVED: ClassVar = {"b_value": ("measurement", "ms/um^2")}

    sequences: tuple[Sequence, ...]
    timing: Int[Tensor, " measurement"]
    gradient: Float[Tensor, "measurement 3"] = quantity("mT/m")
    frame: Float[Tensor, "measurement 3 3"] | None = None
    unweighted_below: float = quantity("ms/um^2", default=UNWEIGHTED_BELOW)
    nominal_b: Float[Tensor, " measurement"] | None = quantity("ms/um^2", default=None)
    reference: Reference | None = None

    def __post_init__(self) -> None:
        if len(self.gradient) == 0:
            raise SequenceError("acquisition: no measurements. Check the bval or scheme file.")
        if len(self.timing) != len(self.gradient):
            raise SequenceError(
                f"acquisition: {len(self.timing)} timings for {len(self.gradient)} gradients."
            )
        if bool(((self.timing < 0) | (self.timing >= len(self.sequences))).any()):
            raise SequenceError(
                f"acquisition: timings {sorted(set(self.timing.tolist()))} do not all number one "
                f"of its {len(self.sequences)} sequences. They count from 0."
            )
        if not bool(torch.isfinite(self.gradient).all()):
            bad = int((~torch.isfinite(self.gradient)).any(1).nonzero()[0])
            raise SequenceError(f"acquisition: gradient of measurement {bad} is not finite.")
        self._refuse_unrefocused()
        if self.frame is not None:
            self._refuse_wrong_frame(self.frame)

    def _refuse_unrefocused(self) -> None:
        leftover = torch.tensor([s.leftover for s in self.sequences], dtype=torch.float64)
        left = GAMMA * leftover.to(self.timing.device)[self.timing] * self.amplitude
        if bool((left >= REFOCUSED).any()):
            first = int((left >= REFOCUSED).nonzero()[0])
            raise SequenceError(
                f"acquisition: the gradient of measurement {first} does not refocus: it leaves "
                f"q = {float(left[first]):.3g} rad/um (at most {REFOCUSED:g}). Give the effective "
                "waveform, its sign turned after each refocusing pulse, with enough digits."
            )

    def _refuse_wrong_frame(self, frame: Tensor) -> None:
        unit = torch.eye(3, dtype=frame.dtype, device=frame.device)
        bent = (frame @ frame.mT - unit).abs().amax((1, 2))
        bent = bent + (torch.linalg.det(frame) - 1).abs()
        bent = bent + (self.amplitude > 0) * (frame[..., 2] - self.direction).norm(dim=1)
        if bool((bent > FRAME_TOLERANCE).any()):
            first = int((bent > FRAME_TOLERANCE).nonzero()[0])
            raise SequenceError(
                f"acquisition: frame of measurement {first} is not a rotation that takes z to its "
                "gradient's direction."
            )

    def __len__(self) -> int:
        return len(self.gradient)

    @classmethod
    def of(cls, sequence: Sequence, b, direction, frame=None) -> Acquisition:
        """One sequence of any kind at several b (ms/um^2) and directions (measurement, 3).

        `frame` (measurement, 3, 3) fixes the turn of a vector profile about the direction. Raises
        SequenceError for negative b, directions off unit length, or lengths that differ.
        """
        b = _strengths("b-value (ms/um^2)", b)
        return cls._weighted((sequence,), torch.zeros(len(b)).long(), b, direction, frame)

    @classmethod
    def pgse(cls, b, direction, delta, Delta, *, ramp=0.0, TE=None) -> Acquisition:
        """From b (ms/um^2), unit directions (measurement, 3), delta and Delta (ms, scalar or each).

        Raises SequenceError for negative b, directions off unit length, or lengths that differ.
        A direction is read only where b > 0; there it is normalised exactly. `ramp` and `TE` (ms,
        scalar or each) as in PGSE.
        """
        b = _strengths("b-value (ms/um^2)", b)
        pulses = distinct_pgse(b, delta=delta, Delta=Delta, ramp=ramp, TE=TE)
        return cls._weighted(*pulses, b, direction)

    @classmethod
    def from_gradient(cls, amplitude, direction, delta, Delta, *, ramp=0.0, TE=None) -> Acquisition:
        """The same from gradient amplitudes (mT/m) instead of b-values; the same SequenceError."""
        amplitude = _strengths("gradient (mT/m)", amplitude)
        pulses = distinct_pgse(amplitude, delta=delta, Delta=Delta, ramp=ramp, TE=TE)
        return cls(*pulses, amplitude[:, None] * _unit(direction, amplitude))

    @classmethod
    def _weighted(cls, sequences, timing, b: Tensor, direction, frame=None) -> Acquisition:
        """Amplitudes that give b."""
        pairs = zip(timing.tolist(), b.tolist(), strict=True)
        amplitude = torch.tensor([sequences[k].gradient(x) for k, x in pairs], dtype=torch.float64)
        return cls(sequences, timing, amplitude[:, None] * _unit(direction, b), frame)

    @classmethod
    def joined(cls, parts: Iterable[Acquisition]) -> Acquisition:
        """Several acquisitions, one after the other."""
        parts = tuple(parts)
        first = itertools.accumulate((len(part.sequences) for part in parts), initial=0)
        turned = any(part.frame is not None for part in parts)
        return cls(
            tuple(sequence for part in parts for sequence in part.sequences),
            torch.cat([part.timing + number for part, number in zip(parts, first, strict=False)]),
            torch.cat([part.gradient for part in parts]),
            torch.cat([_frame(part) for part in parts]) if turned else None,
        )

    @property
    def amplitude(self) -> Float[Tensor, " measurement"]:
        """Gradient amplitude (mT/m)."""
        return self.gradient.norm(dim=1)

    @property
    def direction(self) -> Float[Tensor, "measurement 3"]:
        """Unit direction; zero where there is no gradient."""
        amplitude = self.amplitude[:, None]
        return torch.where(amplitude > 0, self.gradient / amplitude, 0.0)

    def vectors(self, index: Int[Tensor, " chosen"]) -> Float[Tensor, "chosen 3 axis"]:
        """What a profile's components are multiplied by (mT/m), for sequences of as many `axes`.

        The gradient itself for a scalar profile; the scaled frame for a vector.
        """
        if self.sequences[int(self.timing[index[0]])].axes == 1:
            return self.gradient[index][:, :, None]
        return self.amplitude[index][:, None, None] * _frame(self)[index]

    @cached_property
    def b_value(self) -> Float[Tensor, " measurement"]:
        """b of each measurement (ms/um^2): the trace of its b-tensor."""
        pairs = zip(self.timing.tolist(), self.amplitude.tolist(), strict=True)
        return torch.tensor([self.sequences[k].b_value(g) for k, g in pairs], dtype=torch.float64)

    @property
    def stated_b(self) -> Float[Tensor, " measurement"]:
        """b (ms/um^2) as the file gives it, with or without a direction."""
        return self.b_value if self.nominal_b is None else self.nominal_b

    @property
    def unweighted(self) -> Bool[Tensor, " measurement"]:
        """Which measurements S0 is taken from."""
        return self.stated_b <= self.unweighted_below * (1 + ROUNDING)

    @cached_property
    def b_tensor(self) -> Float[Tensor, "measurement 3 3"]:
        """gamma^2 int (int g)(int g)' dt of each measurement (ms/um^2); exact."""
        result = torch.zeros(len(self), 3, 3, dtype=torch.float64, device=self.gradient.device)
        for number, sequence in enumerate(self.sequences):
            index = (self.timing == number).nonzero()[:, 0]
            if len(index):
                unit = torch.from_numpy(sequence.unit_b_tensor).to(result)
                vectors = self.vectors(index)
                result[index] = vectors @ unit @ vectors.mT
        return result

    def durations(self, name: str) -> Float[Tensor, " measurement"]:
        """`delta`, `Delta` or `echo_time` of each measurement (ms); NaN where it has none."""
        values = [getattr(s, name, float("nan")) for s in self.sequences]
        return torch.tensor(values, dtype=torch.float64)[self.timing]

    def rotated(self, rotation: Float[Tensor, "3 3"]) -> Acquisition:
        """The same acquisition with every gradient turned: g -> R g."""
        turned = any(sequence.axes == 3 for sequence in self.sequences)
        frame = rotation @ _frame(self) if turned else None
        reference = self.reference and self.reference.rotated(rotation)
        return replace(self, gradient=self.gradient @ rotation.T, frame=frame, reference=reference)

    def to(self, device: str) -> Acquisition:
        """The same acquisition with its tensors on another device."""
        return self._each(lambda x: x.to(device), self.reference and self.reference.to(device))

    def select(self, index) -> Acquisition:
        """The measurements at `index` (mask or indices), in that order."""
        return self._each(lambda x: x[index], self.reference and self.reference.select(index))

    def _each(self, change: Callable[[Tensor], Tensor], reference: Reference | None) -> Acquisition:
        """Every array of measurements changed."""
        arrays = {n: getattr(self, n) for n in ("timing", "gradient", "frame", "nominal_b")}
        changed: dict[str, Any] = {n: change(x) for n, x in arrays.items() if x is not None}
        return replace(self, reference=reference, **changed)


@dataclass(frozen=True, eq=False)
class Reference:
    """What a measured S0 is where its measurements have b > 0.

    Row m of `weight` times the attenuations of `acquisition` is what measurement m is divided by; a
    row of zeros divides by 1.
    """

    acquisition: Acquisition
    weight: Float[Tensor, "measurement reference"]

    def rotated(self, rotation: Float[Tensor, "3 3"]) -> Reference:
        """Seen with every gradient turned."""
        return replace(self, acquisition=self.acquisition.rotated(rotation))

    def to(self, device: str) -> Reference:
        """On another device."""
        return Reference(self.acquisition.to(device), self.weight.to(device))

    def select(self, index) -> Reference:
        """That of some measurements."""
        return replace(self, weight=self.weight[index])

    def relative(
        self,
        attenuation: Float[Tensor, "*shape measurement"],
        of_reference: Float[Tensor, "*shape reference"],
    ) -> Float[Tensor, "*shape measurement"]:
        """Attenuations relative to S0 as it is measured."""
        return attenuation / (1 + (of_reference - 1) @ self.weight.T)


def _frame(acquisition: Acquisition) -> Float[Tensor, "measurement 3 3"]:
    """The frames, or the shortest turns from z to the directions; the identity without gradient."""
    if acquisition.frame is not None:
        return acquisition.frame
    along_z = acquisition.direction.new_tensor([0.0, 0.0, 1.0])
    return turned_to(
        torch.where(acquisition.amplitude[:, None] > 0, acquisition.direction, along_z)
    )


def turned_to(direction: Float[Tensor, "rotation 3"]) -> Float[Tensor, "rotation 3 3"]:
    """Shortest rotations that take z to each unit vector (Rodrigues).

    Straight back any half turn is shortest: that about x.
    """
    x, y, z = direction.unbind(1)
    back = z < -1 + FRAME_TOLERANCE**2
    scale = 1 / torch.where(back, 1.0, 1 + z)
    rows = [1 - x * x * scale, -x * y * scale, x, -x * y * scale, 1 - y * y * scale, y, -x, -y, z]
    half_turn = torch.diag(direction.new_tensor([1.0, -1.0, -1.0]))
    return torch.where(back[:, None, None], half_turn, torch.stack(rows, 1).reshape(-1, 3, 3))


def _strengths(what: str, values) -> Float[Tensor, " measurement"]:
    """Finite numbers >= 0, or SequenceError."""
    values = torch.as_tensor(values, dtype=torch.float64).reshape(-1)
    wrong = ~torch.isfinite(values) | (values < 0)
    if bool(wrong.any()):
        first = int(wrong.nonzero()[0])
        raise SequenceError(
            f"acquisition: {what} of measurement {first} is {float(values[first]):g}. "
            "It must be finite and >= 0; check the bval or scheme file."
        )
    return values


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
            f"{first}, length {float(length[first]):.4g}). Give unit vectors, and the strength "
            "that belongs to them."
        )
    return torch.where(on[:, None], direction / torch.where(on, length, 1.0)[:, None], 0.0)
