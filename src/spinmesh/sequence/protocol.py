"""Whether two acquisitions measure the same, and what the S0 of a measured one is."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

from spinmesh.sequence.acquisition import Acquisition, Reference

# Text files of b-values and directions carry four digits or so; b is quadratic in the gradient.
B_TOLERANCE = 2e-3
# ms; a file in seconds has six decimals at best.
TIME_TOLERANCE = 2e-3
# Echo times (ms) that files round differently.
SAME_ECHO = 1e-2


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


def same_echo(acquisition: Acquisition) -> Bool[Tensor, "measurement other"]:
    """Which measurements have the echo time of which others."""
    echo = acquisition.durations("echo_time")
    return (echo[:, None] - echo).abs() < SAME_ECHO


def with_reference(acquisition: Acquisition) -> Acquisition:
    """The acquisition of a measured signal, with what its S0 is.

    That is the mean unweighted signal of the same echo time. One of b > 0 without direction stands
    for the mean over x, y and z, which is that over all directions to first order in b.
    """
    low, b = acquisition.unweighted, acquisition.stated_b
    if not bool((low & (b > 0)).any()):
        return acquisition
    blind = low & (b > 0) & (acquisition.amplitude == 0)
    sighted = (low & ~blind).nonzero()[:, 0]
    gradient = [acquisition.gradient[sighted]]
    for row in blind.nonzero()[:, 0].tolist():
        sequence = acquisition.sequences[int(acquisition.timing[row])]
        gradient.append(torch.eye(3).double() * sequence.gradient(float(b[row])))
    measurement = torch.cat([sighted, blind.nonzero()[:, 0].repeat_interleave(3)])
    drawn = replace(acquisition.select(measurement), nominal_b=None, gradient=torch.cat(gradient))
    share = torch.where(blind[measurement], 1 / 3, 1.0).double()
    weight = same_echo(acquisition)[:, measurement] * share
    weight = weight / weight.sum(1, keepdim=True).clamp_min(1.0)
    weight[blind] = 0.0
    # Most of them are alike, and each costs a simulation.
    table = torch.cat([drawn.timing[:, None], drawn.gradient], 1)
    unique, which = torch.unique(table, dim=0, return_inverse=True)
    first = torch.stack([(which == number).nonzero()[0, 0] for number in range(len(unique))])
    weight = weight @ torch.nn.functional.one_hot(which).double()
    return replace(acquisition, reference=Reference(drawn.select(first), weight))
