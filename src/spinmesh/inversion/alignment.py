"""Which training shape, turned how, gives a measured signal."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spinmesh.bloch_torrey import Signals
from spinmesh.inversion.harmonics import Harmonics, fit_harmonics, harmonics
from spinmesh.inversion.pose import principal_rotation, principal_rotations
from spinmesh.inversion.target import Target
from spinmesh.mesh import rotation_matrix

# Turns about the axis of fastest diffusion that are tried; half of them also upside down.
TURNS = 8
# Shapes, nearest in what no rotation changes, whose turns are tried; poses that are then refined.
SHORTLIST, REFINED = 200, 120
# Refinements of a pose, each by the best of small turns that halve from TURN (rad).
HALVINGS, ROUNDS, TURN = 5, 3, 0.35
# Points on the sphere that carry harmonics of order 6 from one frame to another.
CARRIERS = 60


@dataclass(frozen=True, eq=False)
class Bank:
    """Signals of training shapes, each turned so that its fastest diffusion is along z.

    `frames` take those axes to the shapes' own.
    """

    known: Harmonics
    frames: Float[Tensor, "substrate 3 3"]

    @classmethod
    def of(cls, signals: Signals) -> Bank:
        """Of PGSE signals in any directions. Raises SequenceError without shells."""
        acquisition, attenuation = signals.acquisition, signals.attenuation
        known = fit_harmonics(acquisition, attenuation)
        frames = principal_rotations(acquisition, attenuation)
        points = _sphere(CARRIERS)
        turned = harmonics(torch.einsum("nab,pb->npa", frames, points))
        values = torch.einsum("npf,nsf->nps", turned, known.coefficients)
        back = torch.linalg.pinv(harmonics(points))
        coefficients = torch.einsum("fp,nps->nsf", back, values)
        return cls(Harmonics(known.shells, coefficients), frames)

    def own_frame(self) -> Float[Tensor, "substrate shell function"]:
        """Harmonics of the shapes as they lie in the table."""
        points = _sphere(CARRIERS)
        turned = harmonics(torch.einsum("nba,pb->npa", self.frames, points))
        values = torch.einsum("npf,nsf->nps", turned, self.known.coefficients)
        return torch.einsum("fp,nps->nsf", torch.linalg.pinv(harmonics(points)), values)


@dataclass(frozen=True, eq=False)
class Pose:
    """A training shape turned by `rotation`, and the RMS difference of its signal (attenuation)."""

    substrate: int
    rotation: Float[Tensor, "3 3"]
    misfit: float


def nearest_poses(target: Target, bank: Bank, count: int) -> list[Pose]:
    """The training shapes and turns whose signals are nearest to the target's; nearest first.

    Shapes are shortlisted by rotation invariants, turned so that the axes of fastest diffusion
    agree, in `TURNS` turns about it and upside down, and the best are refined. A shape may come in
    several turns, since two of them can fit nearly alike. Raises SequenceError if the training
    signals lack a shell of the target.
    """
    acquisition, known = target.acquisition, bank.known
    screen = Screen.of(target, known)
    own = fit_harmonics(acquisition, target.attenuation[None])
    shell = torch.tensor([known.shells.index(s) for s in own.shells])
    nearby = Harmonics(own.shells, known.coefficients[:, shell])
    distance = (nearby.invariants - own.invariants).norm(dim=1)
    shapes = distance.argsort()[:SHORTLIST]
    turns = principal_rotation(acquisition, target.attenuation) @ _turns()
    misfit = screen.misfit(
        shapes[:, None].expand(-1, len(turns)), turns.expand(len(shapes), -1, 3, 3)
    )
    order = misfit.flatten().argsort()[: max(REFINED, count)]
    chosen, rotation = shapes[order // len(turns)], turns[order % len(turns)]
    misfit, rotation = _refined(screen, chosen, rotation, misfit.flatten()[order])
    return [
        Pose(int(chosen[i]), rotation[i] @ bank.frames[chosen[i]].T, float(misfit[i]))
        for i in misfit.argsort()[:count].tolist()
    ]


@dataclass(frozen=True, eq=False)
class Screen:
    """A target against the bank: equal directions of different shells are evaluated once."""

    known: Harmonics
    attenuation: Float[Tensor, " measurement"]
    directions: Float[Tensor, "direction 3"]
    direction: Int[Tensor, " measurement"]
    shell: Int[Tensor, " measurement"]

    @classmethod
    def of(cls, target: Target, known: Harmonics) -> Screen:
        acquisition = target.acquisition
        rounded = acquisition.direction.round(decimals=6)
        directions, row = torch.unique(rounded, dim=0, return_inverse=True)
        return cls(known, target.attenuation, directions, row, known.shell_of(acquisition))

    def misfit(
        self, shape: Int[Tensor, "*batch"], rotation: Float[Tensor, "*batch 3 3"]
    ) -> Float[Tensor, "*batch"]:
        """RMS difference of attenuations for shapes of the bank, turned."""
        flat = zip(shape.reshape(-1).split(256), rotation.reshape(-1, 3, 3).split(256), strict=True)
        apart = [self.attenuations(*some) - self.attenuation for some in flat]
        return torch.cat([x.square().mean(1).sqrt() for x in apart]).reshape(shape.shape)

    def attenuations(
        self, shape: Int[Tensor, " batch"], rotation: Float[Tensor, "batch 3 3"]
    ) -> Float[Tensor, "batch measurement"]:
        """What shapes of the bank, turned, would give."""
        return self.seen(self.known.coefficients[shape], rotation)

    def seen(
        self,
        coefficients: Float[Tensor, "batch shell function"],
        rotation: Float[Tensor, "batch 3 3"],
    ) -> Float[Tensor, "batch measurement"]:
        """What shapes with these harmonics, turned, would give."""
        turned = harmonics(torch.einsum("ma,bac->bmc", self.directions, rotation))
        value = torch.einsum("bdf,bsf->bds", turned, coefficients)
        return value[:, self.direction, self.shell]


def _refined(
    screen: Screen, shape: Tensor, rotation: Tensor, misfit: Tensor
) -> tuple[Tensor, Tensor]:
    """Coordinate descent over small turns about the three axes, for all poses at once."""
    unit = torch.eye(3, dtype=torch.float64)
    for halving in range(HALVINGS):
        steps = rotation_matrix(torch.cat([unit, -unit]) * TURN / 2**halving)
        for _ in range(ROUNDS):
            trials = steps @ rotation[:, None]
            found = screen.misfit(shape[:, None].expand(-1, len(steps)), trials)
            least, best = found.min(1)
            better = least < misfit
            if not bool(better.any()):
                break
            taken = trials[torch.arange(len(shape)), best]
            rotation = torch.where(better[:, None, None], taken, rotation)
            misfit = torch.where(better, least, misfit)
    return misfit, rotation


def _turns() -> Float[Tensor, "turn 3 3"]:
    """Turns about the third axis, each also upside down."""
    angle = torch.arange(TURNS, dtype=torch.float64) * (2 * torch.pi / TURNS)
    axis = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    turns = rotation_matrix(angle[:, None] * axis)
    upside_down = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    return torch.cat([turns, turns @ upside_down])


def _sphere(count: int) -> Float[Tensor, "count 3"]:
    """Evenly spread directions on half a sphere (a spiral); even functions need no more."""
    i = torch.arange(count, dtype=torch.float64) + 0.5
    z, angle = 1 - i / count, torch.pi * (1 + 5**0.5) * i
    ring = (1 - z**2).sqrt()
    return torch.stack([ring * angle.cos(), ring * angle.sin(), z], 1)
