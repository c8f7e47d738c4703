"""Whether two acquisitions measure the same."""

from __future__ import annotations

from spinmesh.sequence.acquisition import Acquisition

# Text files of b-values and directions carry four digits or so; b is quadratic in the gradient.
B_TOLERANCE = 2e-3
# ms; a file in seconds has six decimals at best.
TIME_TOLERANCE = 2e-3


def difference(one: Acquisition, other: Acquisition) -> str | None:
    """The first difference in words, or None: counts, kinds of sequence, timings, b-tensors.

    A gradient and its opposite count as equal: |S| does not know them apart.
    """
    if len(one) != len(other):
        return f"{len(one)} measurements against {len(other)}"
    kinds = [[type(a.sequences[k]).__name__ for k in a.timing.tolist()] for a in (one, other)]
    for number, (a, b) in enumerate(zip(*kinds, strict=True)):
        if a != b:
            return f"measurement {number} is {a} against {b}"
    for name in ("delta", "Delta"):
        a, b = one.durations(name), other.durations(name)
        off = ((a - b).abs() > TIME_TOLERANCE) | (a.isnan() != b.isnan())
        if bool(off.any()):
            first = int(off.nonzero()[0])
            return f"{name} of measurement {first} is {a[first]:g} ms against {b[first]:g} ms"
    distance = (one.b_tensor - other.b_tensor).abs().amax((1, 2))
    off = distance > B_TOLERANCE * one.b_value.max().clamp_min(1.0)
    if bool(off.any()):
        first = int(off.nonzero()[0])
        b = [round(float(a.b_value[first]), 4) for a in (one, other)]
        return f"the b-tensor of measurement {first} differs (b {b[0]} against {b[1]} ms/um^2)"
    return None
