"""Diffusion-MRI signals from reduced operators."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from spinmesh.bloch_torrey.program import AT_REST, runs
from spinmesh.bloch_torrey.propagation import signal
from spinmesh.reduction import ReducedModel
from spinmesh.sequence import Acquisition
from spinmesh.stored import quantity, store

# Unit of a signal that is not divided by S0.
SPINS = "um^3 (times relative spin density)"


@store("spinmesh/signals", version=4, stage="simulate")
@dataclass(frozen=True, eq=False)
class Signals:
    """Complex signals of substrates under one acquisition, and those without gradient.

    Both in um^3 times relative spin density; `unweighted` has each measurement's own timing.
    """

    acquisition: Acquisition
    signal: Complex[Tensor, "substrate measurement"] = quantity(SPINS, finite=True)
    unweighted: Float[Tensor, "substrate measurement"] = quantity(SPINS, finite=True)

    @classmethod
    def of(cls, reduced: ReducedModel, acquisition: Acquisition) -> Signals:
        """Of a reduced model or a batch of them, computed on its device; without gradients."""
        return cls._computed((simulate_reduced, unweighted), reduced, acquisition)

    @classmethod
    def of_compartments(cls, reduced: ReducedModel, acquisition: Acquisition) -> Signals:
        """As `of`, with a row for each of the means of every model."""
        return cls._computed((simulate_compartments, _unweighted_rows), reduced, acquisition)

    @classmethod
    def _computed(
        cls, pair: Iterable[Callable[..., Tensor]], reduced: ReducedModel, acquisition: Acquisition
    ) -> Signals:
        there = acquisition.to(str(reduced.mean.device))
        with torch.no_grad():
            parts = [of(reduced, there).cpu() for of in pair]
        return cls(acquisition, *(part.reshape(-1, len(acquisition)) for part in parts))

    @property
    def attenuation(self) -> Float[Tensor, "substrate measurement"]:
        """|signal| relative to the same timing without gradient."""
        return self.signal.abs() / self.unweighted

    def __len__(self) -> int:
        return len(self.signal)

    def rows(self) -> list[Signals]:
        """Those of each substrate alone."""
        pairs = zip(self.signal.split(1), self.unweighted.split(1), strict=True)
        return [Signals(self.acquisition, *pair) for pair in pairs]


def simulate_reduced(
    reduced: ReducedModel, acquisition: Acquisition
) -> Complex[Tensor, "*shape measurement"]:
    """Signal of each measurement (um^3 times spin density), summed over compartments."""
    # Of the sum, one state tells both halves of a mirrored sequence.
    return _signals(reduced, reduced.initial[..., None, :], acquisition).squeeze(-2)


def simulate_compartments(
    reduced: ReducedModel, acquisition: Acquisition
) -> Complex[Tensor, "*shape compartment measurement"]:
    """Signal of each compartment.

    Both are differentiable in the reduced operators and in the acquisition's gradient, forward and
    reverse; leading axes of the operators are a batch of shapes.
    """
    return _signals(reduced, reduced.mean, acquisition)


def _signals(reduced: ReducedModel, mean: Tensor, acquisition: Acquisition) -> Tensor:
    """One call of `signal` for each program of the acquisition."""
    laplacian, moments, mean, core, batch = _flat(reduced, mean)
    parts, rows = [], []
    for run in runs(acquisition):
        parts.append(signal(laplacian, moments, mean, core, run.vectors, run.rest, run.program))
        rows.append(run.rows)
    ordered = torch.cat(parts, -1)[..., torch.cat(rows).argsort()]
    return ordered.reshape(*batch, *ordered.shape[1:])


def _flat(
    reduced: ReducedModel, mean: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, torch.Size]:
    """Operators with exactly one axis of shapes, and the axes they had."""
    batch, size = reduced.laplacian.shape[:-2], reduced.laplacian.shape[-1]
    return (
        reduced.laplacian.reshape(-1, size, size),
        reduced.moments.reshape(-1, 3, size, size),
        mean.reshape(-1, *mean.shape[-2:]),
        None if reduced.core is None else reduced.core.reshape(-1, size, size),
        batch,
    )


def unweighted(
    reduced: ReducedModel, acquisition: Acquisition
) -> Float[Tensor, "*shape measurement"]:
    """Signal (um^3 times spin density) at each measurement's echo time without any gradient."""
    whole = replace(reduced, mean=reduced.initial[..., None, :])
    return _unweighted_rows(whole, acquisition).squeeze(-2)


def _unweighted_rows(
    reduced: ReducedModel, acquisition: Acquisition
) -> Float[Tensor, "*shape compartment measurement"]:
    """The same of each compartment."""
    device = acquisition.gradient.device
    echo = [sequence.echo_time for sequence in acquisition.sequences]
    rest = torch.tensor(echo, dtype=torch.float64, device=device)
    laplacian, moments, mean, core, batch = _flat(reduced, reduced.mean)
    vectors = torch.zeros(len(rest), 3, 1, dtype=torch.float64, device=device)
    values = signal(laplacian, moments, mean, core, vectors, rest, AT_REST).real
    return values[..., acquisition.timing].reshape(*batch, *values.shape[1:-1], -1)
