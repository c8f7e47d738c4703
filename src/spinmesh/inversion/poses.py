"""Which training shape, turned how, gives a measured signal; nothing is simulated for it.

Every shell of a signal (one b, one timing) is a sum of even spherical harmonics of the gradient's
direction. The power of each order, which no rotation changes, shortlists shapes; turning the
directions turns a shape.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from dipy.reconst.shm import real_sh_descoteaux_from_index, smooth_pinv, sph_harm_ind_list
from jaxtyping import Float, Int
from torch import Tensor

from spinmesh.bloch_torrey import Signals
from spinmesh.errors import SequenceError
from spinmesh.inversion.descent import DAMPING_FLOOR, DAMPING_LIMIT, FIRST_DAMPING, damped_step
from spinmesh.inversion.target import Target, principal_rotations
from spinmesh.mesh import rotation_matrix
from spinmesh.noise import MagnitudeNoise
from spinmesh.sequence import Acquisition
from spinmesh.units import b_to_s_per_mm2

# Even orders up to 6: 28 functions, which 30 directions determine.
DEGREE, ORDER = sph_harm_ind_list(6)
# Laplace-Beltrami weight of Descoteaux et al. (2007) for 30 directions; keeps order 6 calm.
SMOOTHING = 1e-4
# Turns about the axis of fastest diffusion that are tried; half of them also upside down.
TURNS = 8
# Shapes whose turns are tried, poses that are then refined, and by how many steps.
SHORTLIST, REFINED, REFINEMENTS = 200, 120, 8
# Forward differences, in the prior's unit and rad: the signals are exact to rounding.
DIFFERENCE = 1e-5


def harmonics(direction: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch function"]:
    """Real, orthonormal spherical harmonics of even order (Descoteaux et al. 2007)."""
    x, y, z = direction[..., None, :].unbind(-1)
    polar, azimuth = torch.arctan2(torch.hypot(x, y), z), torch.arctan2(y, x)
    values = real_sh_descoteaux_from_index(
        DEGREE, ORDER, polar.numpy(), azimuth.numpy(), legacy=False
    )
    return torch.from_numpy(values)


@dataclass(frozen=True, eq=False)
class Harmonics:
    """Attenuations of shapes as even spherical harmonics on every shell (one b, one timing)."""

    shells: tuple[tuple[float, float, float], ...]  # b (s/mm^2), delta, Delta (ms)
    coefficients: Float[Tensor, "substrate shell function"]

    @property
    def invariants(self) -> Float[Tensor, "substrate feature"]:
        """Root of the power of each order on each shell: what no rotation of the shape changes."""
        parts = [self.coefficients[..., n == ORDER].norm(dim=-1) for n in np.unique(ORDER)]
        return torch.stack(parts, -1).flatten(1)

    def predict(
        self, substrate: int, acquisition: Acquisition, rotations: Float[Tensor, "batch 3 3"]
    ) -> Float[Tensor, "batch measurement"]:
        """Attenuations of one shape turned by each rotation, without simulating again."""
        screen = Screen.of(acquisition, self)
        coefficients = self.coefficients[substrate].expand(len(rotations), -1, -1)
        return screen.signals(screen.functions(rotations), coefficients)


def shell_keys(acquisition: Acquisition) -> list[tuple[float, float, float]]:
    """(b in s/mm^2, delta, Delta) of each measurement, b rounded to 1 s/mm^2."""
    b = b_to_s_per_mm2(acquisition.b_value).round().tolist()
    delta = acquisition.durations("delta").tolist()
    Delta = acquisition.durations("Delta").tolist()
    return list(zip(b, delta, Delta, strict=True))


def fit_harmonics(
    acquisition: Acquisition, attenuation: Float[Tensor, "substrate measurement"]
) -> Harmonics:
    """Smoothed least squares on every shell."""
    keys = shell_keys(acquisition)
    shells = tuple(sorted(set(keys)))
    parts = []
    for shell in shells:
        index = torch.tensor([i for i, key in enumerate(keys) if key == shell])
        penalty = (SMOOTHING * len(index) / 30) ** 0.5 * ORDER * (ORDER + 1)
        inverse = smooth_pinv(harmonics(acquisition.direction[index]).numpy(), penalty)
        parts.append(attenuation[:, index] @ torch.from_numpy(inverse).T)
    return Harmonics(shells, torch.stack(parts, 1))


@dataclass(frozen=True, eq=False)
class Screen:
    """An acquisition on the shells of known signals; equal directions are evaluated once."""

    directions: Float[Tensor, "direction 3"]
    direction: Int[Tensor, " measurement"]
    shell: Int[Tensor, " measurement"]

    @classmethod
    def of(cls, acquisition: Acquisition, bank: Harmonics) -> Screen:
        """Raises SequenceError if the acquisition has a shell that the signals lack."""
        number = {shell: i for i, shell in enumerate(bank.shells)}
        keys = shell_keys(acquisition)
        for b, delta, Delta in sorted(set(keys) - set(number)):
            raise SequenceError(
                f"alignment: no training signal at b = {b:g} s/mm^2, delta = {delta:g} ms, Delta = "
                f"{Delta:g} ms. Simulate the training shapes with the target's shells."
            )
        rounded = acquisition.direction.round(decimals=6)
        directions, row = torch.unique(rounded, dim=0, return_inverse=True)
        return cls(directions, row, torch.tensor([number[key] for key in keys]))

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
        return value[:, self.direction, self.shell].clamp_min(0)


@dataclass(frozen=True, eq=False)
class Bank:
    """Signals of training shapes; `frames` hold their axes of diffusion, the fastest last."""

    harmonics: Harmonics
    frames: Float[Tensor, "substrate 3 3"]

    @classmethod
    def of(cls, signals: Signals) -> Bank:
        """Of PGSE signals in any directions. Raises SequenceError without shells."""
        attenuation = signals.attenuation
        frames = principal_rotations(signals.acquisition, attenuation)
        return cls(fit_harmonics(signals.acquisition, attenuation), frames)


@dataclass(frozen=True, eq=False)
class Pose:
    """A training shape turned by `rotation`, and the RMS difference of its signal (attenuation)."""

    substrate: int
    rotation: Float[Tensor, "3 3"]
    misfit: float


def nearest_poses(target: Target, bank: Bank, count: int) -> list[Pose]:
    """The training shapes and turns whose signals are nearest to the target's; nearest first.

    Shapes are shortlisted by rotation invariants, turned so that the axes of fastest diffusion
    agree, in `TURNS` turns about it and upside down, and the best turn downhill. A shape may come
    in several turns, since two of them can fit nearly alike. Raises SequenceError if the training
    signals lack a shell of the target.
    """
    acquisition, trained = target.acquisition, bank.harmonics
    screen = Screen.of(acquisition, trained)
    measured = fit_harmonics(acquisition, target.attenuation[None])
    shell = torch.tensor([trained.shells.index(s) for s in measured.shells])
    alike = Harmonics(measured.shells, trained.coefficients[:, shell])
    shapes = (alike.invariants - measured.invariants).norm(dim=1).argsort()[:SHORTLIST]
    turns = principal_rotations(acquisition, target.attenuation[None]) @ _turns()
    rotations = (turns @ bank.frames[shapes, None].mT).flatten(0, 1)
    shapes = shapes.repeat_interleave(len(turns))
    signals = [
        screen.signals(screen.functions(rotation), trained.coefficients[index])
        for index, rotation in zip(shapes.split(256), rotations.split(256), strict=True)
    ]
    misfit = (torch.cat(signals) - target.attenuation).square().mean(1)
    best = misfit.argsort()[: max(REFINED, count)]
    coefficients, no_latents = trained.coefficients[shapes[best]], rotations.new_zeros(len(best), 0)
    unit = MagnitudeNoise(0.0, 1.0)
    refined = descend_together(
        target, screen, lambda y: coefficients, unit, no_latents, rotations[best], REFINEMENTS
    )
    misfit = (refined.cost / len(acquisition)).sqrt()
    return [
        Pose(int(shapes[best[i]]), refined.rotation[i], float(misfit[i]))
        for i in misfit.argsort()[:count].tolist()
    ]


def _turns() -> Float[Tensor, "turn 3 3"]:
    """Turns about the third axis, each also upside down."""
    angle = torch.arange(TURNS, dtype=torch.float64) * (2 * torch.pi / TURNS)
    turns = rotation_matrix(angle[:, None] * torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
    return torch.cat([turns, turns @ torch.diag(torch.tensor([1.0, -1.0, -1.0]).double())])


@dataclass(frozen=True, eq=False)
class Turned:
    """Many shapes turned, with their signals; cost is squared residuals plus |y|^2."""

    y: Float[Tensor, "batch latent"]
    rotation: Float[Tensor, "batch 3 3"]
    functions: Float[Tensor, "batch direction function"]
    signal: Float[Tensor, "batch measurement"]
    residual: Float[Tensor, "batch residual"]  # of measurements, then of the prior

    @property
    def cost(self) -> Float[Tensor, " batch"]:
        """-2 log posterior up to a constant."""
        return self.residual.square().sum(1)


def descend_together(
    target: Target,
    screen: Screen,
    coefficients: Callable[[Tensor], Tensor],
    noise: MagnitudeNoise,
    y: Float[Tensor, "batch latent"],
    rotation: Float[Tensor, "batch 3 3"],
    steps: int,
) -> Turned:
    """Levenberg-Marquardt over latents and turns of many shapes at once.

    `coefficients` gives the harmonics of a batch of latents, which may have no length: then turns
    alone are sought.
    """

    def at(y: Tensor, rotation: Tensor) -> Turned:
        functions = screen.functions(rotation)
        signal = screen.signals(functions, coefficients(y))
        residual = torch.cat([noise.residual(target.attenuation, signal), y], 1)
        return Turned(y, rotation, functions, signal, residual)

    def slopes(state: Turned) -> Float[Tensor, "batch residual unknown"]:
        h, y, shape = DIFFERENCE, state.y, coefficients(state.y)
        ahead = [screen.signals(state.functions, coefficients(y + h * e)) for e in unit]
        turns = [state.rotation @ rotation_matrix(h * e) for e in torch.eye(3).to(y)]
        ahead += [screen.signals(screen.functions(turn), shape) for turn in turns]
        change = (torch.stack(ahead, -1) - state.signal[..., None]) / h
        further = noise.residual(target.attenuation, state.signal + h)
        slope = (further - state.residual[:, : further.shape[1]]) / h
        prior = torch.eye(latent, latent + 3).to(y).expand(len(y), -1, -1)
        return torch.cat([slope[..., None] * change, prior], 1)

    latent = y.shape[1]
    unit = torch.eye(latent).to(y)
    state = at(y, rotation)
    damping = torch.full((len(y), 1, 1), FIRST_DAMPING, dtype=torch.float64)
    for _ in range(steps):
        J = slopes(state)
        step = damped_step(J.mT @ J, (J.mT @ state.residual[..., None])[..., 0], damping)
        turn = rotation_matrix(step[:, latent:])
        trial = at(state.y + step[:, :latent], state.rotation @ turn)
        better = (trial.cost < state.cost)[:, None]
        rows = zip(vars(state).values(), vars(trial).values(), strict=True)
        state = Turned(
            *(torch.where(better.reshape(-1, *[1] * (a.ndim - 1)), b, a) for a, b in rows)
        )
        damping = torch.where(better[..., None], 0.3 * damping, 5 * damping)
        damping = damping.clamp(DAMPING_FLOOR, DAMPING_LIMIT)
    return state
