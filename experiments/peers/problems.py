"""Two bodies whose signals are known exactly: a sphere, and a cylinder across its axis."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from experiments.peers.settings import Peers
from spinmesh import analytic
from spinmesh.mesh import SweptDisk, TetMesh, ball, swept_disk
from spinmesh.sequence import Acquisition

DIFFUSIVITY = 2.0
"""um^2/ms."""
DELTA_MS, BIG_DELTA_MS = 10.0, 40.0
SPHERE_UM, CYLINDER_UM = 5.0, 2.0
# Along its axis nothing happens, so that any length will do.
LENGTH_UM = 4.0


@dataclass(frozen=True, eq=False)
class Problem:
    """A body, what is measured in it, and the signals S/S0 that it has.

    `mesh(refinement, order)` has straight (1) or curved (2) tets; of the first `flat` coordinates
    of a walker the distance from the origin may not pass `radius` (um).
    """

    name: str
    radius: float
    flat: int
    mesh: Callable[[int, int], TetMesh]
    acquisition: Acquisition
    exact: Float[Tensor, " measurement"]


def problems(settings: Peers) -> list[Problem]:
    """The sphere and the cylinder."""
    angle = torch.arange(settings.directions).double() * math.pi / settings.directions
    round_ = torch.stack([angle.cos(), angle.sin(), torch.zeros_like(angle)], 1)
    # One direction of the sphere is as good as any other; these lie in no plane of symmetry.
    tilted = torch.nn.functional.normalize(round_ + torch.tensor([0.0, 0.0, 0.3]).double(), dim=1)
    ball_measured, rod_measured = (_pgse(settings, n) for n in (tilted, round_))
    exact = analytic.sphere(ball_measured, SPHERE_UM, DIFFUSIVITY)
    across = analytic.cylinder(rod_measured, CYLINDER_UM, DIFFUSIVITY, axis=(0.0, 0.0, 1.0))
    return [
        Problem("sphere", SPHERE_UM, 3, _ball, ball_measured, exact),
        Problem("cylinder", CYLINDER_UM, 2, _rod, rod_measured, across),
    ]


def _pgse(settings: Peers, directions: Float[Tensor, "direction 3"]) -> Acquisition:
    b = torch.tensor(settings.b_values).double().repeat_interleave(len(directions))
    n = directions.repeat(len(settings.b_values), 1)
    return Acquisition.pgse(b, n, DELTA_MS, BIG_DELTA_MS)


def _ball(refinement: int, order: int) -> TetMesh:
    return ball(SPHERE_UM, refinement, order)


def _rod(refinement: int, order: int) -> TetMesh:
    size = SweptDisk(rings=1, layers=1, radius_um=CYLINDER_UM, length_um=LENGTH_UM)
    return swept_disk(size.refined(2**refinement).replace(order=order))
