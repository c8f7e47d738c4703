"""Settings of the comparison with other ways to a signal."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from spinmesh.settings.setting import Setting


class Reduced(Setting):
    """spinmesh: a mesh and the tolerance of its basis."""

    refinement: PositiveInt
    """Times that the coarsest mesh is halved."""
    tolerance: PositiveFloat
    """Error of a signal that the basis may cause."""


class ByHand(Setting):
    """Finite elements as one writes them with scikit-fem, and Crank-Nicolson steps."""

    degree: Literal[1, 2]
    """Of the elements; 2: curved tets of ten nodes."""
    refinement: PositiveInt
    """Times that the coarsest mesh is halved."""
    step_ms: PositiveFloat
    """Of time; pulse and pause are whole numbers of it."""


class Walk(Setting):
    """Random walkers."""

    walkers: PositiveInt
    """How many."""
    step_ms: PositiveFloat
    """Of time; pulse and pause are whole numbers of it."""


class Peers(Setting):
    """Which accuracies of each way are compared."""

    run: str = Field("peers", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run; its results go to results/<run>/."""
    seed: int = Field(1, ge=0)
    """Of the random walks."""
    b_values: tuple[PositiveFloat, ...] = (0.5, 1.0, 2.0, 4.0, 8.0)
    """In ms/um^2."""
    directions: PositiveInt = 4
    """For each b-value; within a cylinder they are perpendicular to its axis."""
    reduced: tuple[Reduced, ...]
    """spinmesh."""
    by_hand: tuple[ByHand, ...]
    """scikit-fem."""
    walks: tuple[Walk, ...]
    """Monte Carlo."""
