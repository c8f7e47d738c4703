"""Signals between the training shapes, by a Gaussian process: where a search starts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.bloch_torrey import Signals
from spinmesh.inversion.alignment import Bank, Screen, nearest_poses
from spinmesh.inversion.shape_model import ShapeModel
from spinmesh.inversion.target import Target
from spinmesh.mesh import rotation_matrix
from spinmesh.noise import MagnitudeNoise

# Correlation lengths tried, in units of the latents' spread; the best by leave-one-out is kept.
LENGTHS = (1.0, 2.0, 4.0)
# Added to the kernel's diagonal: of the signals' variance, far below what latents leave open.
NUGGET = 1e-6
# Principal parts of the harmonics that are interpolated.
PARTS = 150
# Poses of training shapes that are sent downhill together, and for how many steps.
TOGETHER, STEPS = 64, 15
# Forward differences, in the prior's unit and rad: the interpolant is exact to rounding.
DIFFERENCE = 1e-5
FIRST_DAMPING, LEAST_DAMPING = 0.1, 1e-6
# Minima nearer than this in latents (prior units) and in signals (RMS attenuation) are one.
SAME_LATENT, SAME_SIGNAL = 0.3, 0.002


@dataclass(frozen=True, eq=False)
class Emulator:
    """Harmonics of a shape's signals from its latents, in the shape's own frame.

    c(y) = mean + k(y, Y) w: the posterior mean of a Gaussian process with a Matern 5/2 kernel.
    `error` is its leave-one-out error (RMS attenuation) on the training shapes.
    """

    latents: Float[Tensor, "substrate latent"]
    length: float
    mean: Float[Tensor, " coefficient"]
    parts: Float[Tensor, "part coefficient"]
    weights: Float[Tensor, "substrate part"]
    shells: int
    error: float

    @classmethod
    def fit(cls, bank: Bank, latents: Float[Tensor, "substrate latent"]) -> Emulator:
        """To the signals of a bank and the (whitened) latents of its shapes."""
        own = bank.own_frame()
        flat = own.flatten(1)
        mean = flat.mean(0)
        _, singular, directions = torch.linalg.svd(flat - mean, full_matrices=False)
        parts = directions[: min(PARTS, int((singular > 1e-9 * singular[0]).sum()))]
        values = (flat - mean) @ parts.T
        found = []
        for length in LENGTHS:
            kernel = _matern(latents, latents, length)
            inverse = torch.linalg.inv(kernel + NUGGET * torch.eye(len(latents)).to(kernel))
            weights = inverse @ values
            left_out = weights / inverse.diagonal()[:, None]
            found.append((float(left_out.square().sum(1).median()), length, weights))
        square, length, weights = min(found, key=lambda each: each[0])
        # The mean square over the sphere of a function with coefficients c is |c|^2 / 4 pi.
        error = (square / own.shape[1] / (4 * torch.pi)) ** 0.5
        return cls(latents, length, mean, parts, weights, own.shape[1], float(error))

    def harmonics(self, y: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch shell function"]:
        """Coefficients on the shells of the bank."""
        values = _matern(y, self.latents, self.length) @ self.weights
        return (self.mean + values @ self.parts).unflatten(1, (self.shells, -1))


def _matern(
    a: Float[Tensor, "a latent"], b: Float[Tensor, "b latent"], length: float
) -> Float[Tensor, "a b"]:
    """Matern 5/2."""
    r = 5**0.5 * torch.cdist(a, b) / length
    return (1 + r + r.square() / 3) * torch.exp(-r)


@dataclass(frozen=True, eq=False)
class Atlas:
    """What the signals of its training shapes tell about a shape model: where searches start."""

    bank: Bank
    emulator: Emulator

    @classmethod
    def of(cls, model: ShapeModel, signals: Signals) -> Atlas:
        """From the training shapes' signals in the model's order."""
        bank, prior = Bank.of(signals), model.prior
        apart = model.latents[model.training] - prior.mean
        white = torch.linalg.solve(torch.linalg.cholesky(prior.covariance), apart.T).T
        return cls(bank, Emulator.fit(bank, white))


@dataclass(frozen=True, eq=False)
class Guess:
    """A minimum of the emulated misfit."""

    latent: Float[Tensor, " latent"]
    rotation: Float[Tensor, "3 3"]
    cost: float


def guesses(target: Target, atlas: Atlas, floor: float, count: int) -> list[Guess]:
    """The lowest distinct minima of emulated misfit plus prior over latents and turns.

    Levenberg-Marquardt from the `TOGETHER` training shapes and turns with the nearest signals, all
    at once. `floor` is the error of the model that is no noise, to which the emulator's is added.
    Fewer than `count` if there are no more.
    """
    bank, emulator = atlas.bank, atlas.emulator
    noise = MagnitudeNoise(target.sigma, math.hypot(floor, emulator.error))
    poses = nearest_poses(target, bank, TOGETHER)
    screen = Screen.of(target, bank.known)
    y = emulator.latents[[pose.substrate for pose in poses]]
    rotation = torch.stack([pose.rotation for pose in poses])
    descent = _Descent(screen, emulator, noise)
    state = descent.at(y, rotation)
    damping = torch.full((len(y),), FIRST_DAMPING, dtype=torch.float64)
    for _ in range(STEPS):
        state, damping = descent.step(state, damping)
    kept: list[int] = []
    for i in state.cost.argsort().tolist():
        alike = [
            j
            for j in kept
            if float((state.y[i] - state.y[j]).norm()) < SAME_LATENT
            and float((state.signal[i] - state.signal[j]).square().mean().sqrt()) < SAME_SIGNAL
        ]
        if not alike:
            kept.append(i)
        if len(kept) == count:
            break
    return [Guess(state.y[i], state.rotation[i], float(state.cost[i])) for i in kept]


@dataclass(frozen=True, eq=False)
class _State:
    y: Tensor
    rotation: Tensor
    signal: Tensor
    residual: Tensor  # of measurements, then of the prior
    cost: Tensor

    def where(self, better: Tensor, other: _State) -> _State:
        """The other's rows where it is better."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return _State(
            *(torch.where(better.reshape(-1, *[1] * (a.ndim - 1)), b, a) for a, b in pairs)
        )


@dataclass(frozen=True, eq=False)
class _Descent:
    screen: Screen
    emulator: Emulator
    noise: MagnitudeNoise

    def signal(self, y: Tensor, rotation: Tensor) -> Float[Tensor, "batch measurement"]:
        return self.screen.seen(self.emulator.harmonics(y), rotation).clamp_min(0)

    def residual(self, signal: Tensor) -> Float[Tensor, "batch measurement"]:
        return self.noise.residual(self.screen.attenuation, signal)

    def at(self, y: Float[Tensor, "batch latent"], rotation: Float[Tensor, "batch 3 3"]) -> _State:
        """Signals, residuals and cost."""
        signal = self.signal(y, rotation)
        both = torch.cat([self.residual(signal), y], 1)
        return _State(y, rotation, signal, both, both.square().sum(1))

    def step(self, state: _State, damping: Tensor) -> tuple[_State, Tensor]:
        """One damped step of every row; rows that it would not lower stay and are damped more."""
        J = self._jacobian(state)
        normal = J.mT @ J
        slope = (J.mT @ state.residual[..., None])[..., 0]
        damped = normal + torch.diag_embed(damping[:, None] * normal.diagonal(dim1=1, dim2=2))
        step = -torch.linalg.solve(damped, slope)
        latent = state.y.shape[1]
        trial = self.at(
            state.y + step[:, :latent], state.rotation @ rotation_matrix(step[:, latent:])
        )
        better = trial.cost < state.cost
        damping = torch.where(better, 0.3 * damping, 5 * damping).clamp(LEAST_DAMPING, 1e6)
        return state.where(better, trial), damping

    def _jacobian(self, state: _State) -> Float[Tensor, "batch residual unknown"]:
        """Forward differences; the signal's slopes times the residual's."""
        h, y, turn = DIFFERENCE, state.y, state.rotation
        signals = [self.signal(y + h * unit, turn) for unit in torch.eye(y.shape[1]).to(y)]
        signals += [self.signal(y, turn @ rotation_matrix(h * unit)) for unit in torch.eye(3).to(y)]
        slope = (self.residual(state.signal + h) - self.residual(state.signal)) / h
        change = (torch.stack(signals, -1) - state.signal[..., None]) / h
        prior = torch.eye(y.shape[1], change.shape[-1]).to(y).expand(len(y), -1, -1)
        return torch.cat([slope[..., None] * change, prior], 1)
