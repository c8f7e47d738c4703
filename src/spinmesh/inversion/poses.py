"""Signals of turned shapes without simulating them, by spherical harmonics of the directions.

The power of each order, which no rotation changes, shortlists shapes; turning the directions turns
a shape.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spinmesh.errors import SequenceError
from spinmesh.inversion.descent import DAMPING_FLOOR, DAMPING_LIMIT, FIRST_DAMPING, damped_step
from spinmesh.inversion.target import Target, principal_rotations
from spinmesh.mesh import rotation_matrix
from spinmesh.noise import MagnitudeNoise
from spinmesh.sequence import Acquisition
from spinmesh.sequence.harmonics import Harmonics, fit_harmonics, harmonics, shell_keys

# Shapes whose turns are tried, and turns about the axis of fastest diffusion; as many upside down.
SHORTLIST, TURNS = 200, 8
# Poses that are then refined, and by how many steps.
REFINED, REFINEMENTS = 120, 8
# Forward differences, in the prior's unit and rad: the signals are exact to rounding.
DIFFERENCE = 1e-5


class Screen:
    """An acquisition on the shells of known signals; equal directions are evaluated once.

    Raises SequenceError if the acquisition has a shell that the signals lack.
    """

    def __init__(self, acquisition: Acquisition, trained: Harmonics) -> None:
        number = {shell: i for i, shell in enumerate(trained.shells)}
        keys = shell_keys(acquisition)
        for b, delta, Delta in sorted(set(keys) - set(number)):
            raise SequenceError(
                f"alignment: no training signal at b = {b:g} s/mm^2, delta = {delta:g} ms, Delta = "
                f"{Delta:g} ms. Simulate the training shapes with the target's shells."
            )
        rounded = acquisition.direction.round(decimals=6)
        self.directions, self.row = torch.unique(rounded, dim=0, return_inverse=True)
        self.shell = torch.tensor([number[key] for key in keys])

    def functions(
        self, rotation: Float[Tensor, "batch 3 3"]
    ) -> Float[Tensor, "batch direction function"]:
        """Harmonics of the directions as shapes turned by each rotation see them."""
        return harmonics(torch.einsum("da,bac->bdc", self.directions, rotation))

    def signals(
        self,
        functions: Float[Tensor, "batch direction function"],
        coefficients: Float[Tensor, "batch shell function"],
    ) -> Float[Tensor, "batch measurement"]:
        """Attenuations of shapes with these coefficients."""
        value = torch.einsum("bdf,bsf->bds", functions, coefficients)
        return value[:, self.row, self.shell].clamp_min(0)


def nearest_poses(
    target: Target, trained: Harmonics, frames: Float[Tensor, "substrate 3 3"], count: int
) -> tuple[Int[Tensor, " pose"], Float[Tensor, "pose 3 3"]]:
    """The training shapes and turns whose signals are nearest to the target's; nearest first.

    `frames` are the `principal_rotations` of the training shapes. Shapes are shortlisted by
    rotation invariants, turned so that the axes of fastest diffusion agree, in `TURNS` turns about
    it and upside down, and the best turn downhill. A shape may come in several turns, since two of
    them can fit nearly alike. Raises SequenceError if the training signals lack a shell.
    """
    acquisition, measured = target.acquisition, target.attenuation[None]
    screen, unknown = Screen(acquisition, trained), fit_harmonics(acquisition, measured)
    shells = torch.tensor([trained.shells.index(shell) for shell in unknown.shells])
    alike = Harmonics(unknown.shells, trained.coefficients[:, shells])
    shapes = (alike.invariants - unknown.invariants).norm(dim=1).argsort()[:SHORTLIST]
    angle = torch.arange(TURNS, dtype=torch.float64) * (2 * torch.pi / TURNS)
    turns = rotation_matrix(angle[:, None] * torch.eye(3).to(angle)[2])
    turns = torch.cat([turns, turns @ torch.diag(torch.tensor([1.0, -1.0, -1.0]).to(angle))])
    aligned = principal_rotations(acquisition, measured) @ turns @ frames[shapes, None].mT
    signals = [
        screen.signals(screen.functions(turned), shape.expand(len(turns), -1, -1))
        for turned, shape in zip(aligned, trained.coefficients[shapes], strict=True)
    ]
    misfit = (torch.cat(signals) - measured).square().mean(1)
    best = misfit.argsort()[: max(REFINED, count)]
    shapes, turned = shapes[best // len(turns)], aligned.flatten(0, 1)[best]
    coefficients, no_latents = trained.coefficients[shapes], turned.new_zeros(len(best), 0)
    unit = MagnitudeNoise(0.0, 1.0)
    _, turned, cost = descend_together(
        target, screen, lambda z: coefficients, unit, no_latents, turned, REFINEMENTS
    )
    best = cost.argsort()[:count]
    return shapes[best], turned[best]


def descend_together(
    target: Target,
    screen: Screen,
    coefficients: Callable[[Tensor], Tensor],
    noise: MagnitudeNoise,
    z: Float[Tensor, "batch latent"],
    rotation: Float[Tensor, "batch 3 3"],
    steps: int,
) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch 3 3"], Float[Tensor, " batch"]]:
    """Levenberg-Marquardt over latents and turns of many shapes at once; the cost at the end.

    Cost is squared residuals plus |z|^2. `coefficients` gives the harmonics of a batch of latents,
    which may have no length: then turns alone are sought.
    """

    def residual(signal: Tensor, z: Tensor) -> Float[Tensor, "batch residual"]:
        return torch.cat([noise.residual(target.attenuation, signal), z], 1)

    latent, h = z.shape[1], DIFFERENCE
    axes, prior = torch.eye(3).to(z), torch.eye(latent, latent + 3).to(z)
    functions, shape = screen.functions(rotation), coefficients(z)
    signal = screen.signals(functions, shape)
    here = residual(signal, z)
    damping = torch.full((len(z), 1, 1), FIRST_DAMPING, dtype=torch.float64)
    for _ in range(steps):
        ahead = [
            screen.signals(functions, coefficients(z + h * unit)) for unit in prior[:, :latent]
        ]
        turns = [rotation @ rotation_matrix(h * axis) for axis in axes]
        ahead += [screen.signals(screen.functions(turn), shape) for turn in turns]
        change = torch.stack(ahead, -1) - signal[..., None]
        slope = ((residual(signal + h, z) - here) / h**2)[:, : signal.shape[1], None]
        J = torch.cat([slope * change, prior.expand(len(z), -1, -1)], 1)
        step = damped_step(J.mT @ J, (J.mT @ here[..., None])[..., 0], damping)
        z_there, rotation_there = z + step[:, :latent], rotation @ rotation_matrix(step[:, latent:])
        functions_there, shape_there = screen.functions(rotation_there), coefficients(z_there)
        signal_there = screen.signals(functions_there, shape_there)
        there = residual(signal_there, z_there)
        better = there.square().sum(1) < here.square().sum(1)
        olds = (z, rotation, functions, shape, signal, here, 5 * damping)
        news = (z_there, rotation_there, functions_there, shape_there, signal_there, there)
        z, rotation, functions, shape, signal, here, damping = (
            torch.where(better.reshape(-1, *[1] * (old.ndim - 1)), new, old)
            for new, old in zip((*news, 0.3 * damping), olds, strict=True)
        )
        damping = damping.clamp(DAMPING_FLOOR, DAMPING_LIMIT)
    return z, rotation, here.square().sum(1)
