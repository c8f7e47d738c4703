"""Levenberg-Marquardt in the space of unknowns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.bloch_torrey import USUAL_BLOCKS, Basis
from spinmesh.errors import ConfigError, ReductionError
from spinmesh.inversion.sensitivity import Prediction, jacobian, predict
from spinmesh.inversion.shape_model import ShapeModel
from spinmesh.inversion.target import Target
from spinmesh.inversion.unknowns import Free, Point, Unknowns
from spinmesh.mesh import jacobian_determinants
from spinmesh.noise import MagnitudeNoise
from spinmesh.tissue import Tissue

# A damping this large means that even a tiny step is refused.
DAMPING_LIMIT = 1e8
DAMPING_FLOOR = 1e-6
# The first trust region, in units of the prior's spread: the first steps were the wild ones.
FIRST_DAMPING = 0.1
# The minimum of a part of the measurements is only a start for that of all: this much tolerance.
COARSE = 10.0
# Largest length of a step's bend, as a part of the step's own.
MOST_BENT = 0.75
# Squared residual per measurement below which the fit is as good as the noise allows, or nearly.
NEAR = 4.0
# An accepted step that gains less than this many tolerances has gained next to nothing.
LITTLE = 3.0


@dataclass(frozen=True)
class ReconstructionSpec:
    """How a signal is inverted.

    `noise_floor` (attenuation units) is added in quadrature to the target's sigma: it stands for
    what the shape model and the mesh cannot represent, and keeps noise-free targets finite.
    `minimum_volume` is the smallest element Jacobian allowed, as a fraction of the template's.
    Each of `starts` gets `scouts` iterations; the best `modes` and a spare one go on for
    `iterations` at most, or until `patience` accepted steps in a row gain next to nothing (0: goes
    on); the best `modes` of them become modes of the posterior. `samples` are
    drawn from it: by annealed importance sampling with `moves` moves a temperature, or from the
    Laplace approximation if `moves` is 0. The basis leaves a tenth of the default floor.
    """

    pose: Literal["known", "unknown"] = "known"
    free: tuple[Free, ...] = ()
    iterations: int = 20
    patience: int = 0
    starts: int = 3
    scouts: int = 2
    modes: int = 1
    noise_floor: float = 1e-3
    tolerance: float = 1e-3
    minimum_volume: float = 0.02
    samples: int = 64
    moves: int = 0
    basis: Basis = field(default_factory=lambda: Basis(tolerance=1e-4))

    def __post_init__(self) -> None:
        if self.pose not in ("known", "unknown"):
            raise ConfigError(f"reconstruct: pose {self.pose!r}; give known or unknown.")
        for name in ("iterations", "starts", "modes", "noise_floor", "tolerance"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"reconstruct: {name} is {getattr(self, name)}; give > 0.")
        for name in ("patience", "scouts", "samples", "moves"):
            if getattr(self, name) < 0:
                raise ConfigError(f"reconstruct: {name} is {getattr(self, name)}; give >= 0.")
        labels = [free.label for free in self.free]
        if len(set(labels)) < len(labels):
            raise ConfigError(f"reconstruct: free names a quantity twice: {labels}.")


@dataclass(frozen=True, eq=False)
class State:
    """A point whose mesh is valid, with the signal there.

    `damping` is the trust region, `idle` the number of steps in a row that gained next to nothing.
    """

    point: Point
    prediction: Prediction
    damping: float = FIRST_DAMPING
    idle: int = 0
    converged: bool = False


@dataclass(frozen=True, eq=False)
class Curvature:
    """Half the cost to second order: Fisher information plus prior precision, and the slope."""

    normal: Float[Tensor, "unknown unknown"]
    slope: Float[Tensor, " unknown"]
    jacobian: Float[Tensor, "measurement unknown"]
    weighted: Float[Tensor, "measurement unknown"]  # the same times each signal's information

    @property
    def promise(self) -> float:
        """By how much the full step would lower the cost, were it quadratic (Newton decrement)."""
        return float(self.slope @ torch.linalg.solve(self.normal, self.slope))

    def step(self, damping: float) -> Float[Tensor, " unknown"]:
        """Marquardt's scaling: the trust region follows the curvature of each unknown."""
        return -torch.linalg.solve(self._damped(damping), self.slope)

    def bent(
        self, step: Float[Tensor, " unknown"], change: Float[Tensor, " measurement"], damping: float
    ) -> Float[Tensor, " unknown"]:
        """The step with its geodesic acceleration (Transtrum & Sethna 2012, arXiv 1201.5885).

        `change` is what the straight step did to the signals: what it did beyond the first order
        is taken back to first order. Follows curved valleys that straight steps leave.
        """
        beyond = change - self.jacobian @ step
        return step - torch.linalg.solve(self._damped(damping), self.weighted.T @ beyond)

    def gain(self, step: Float[Tensor, " unknown"]) -> float:
        """By how much the quadratic model says that a step lowers the cost."""
        return float(-step @ (2 * self.slope + self.normal @ step))

    def _damped(self, damping: float) -> Float[Tensor, "unknown unknown"]:
        return self.normal + damping * self.normal.diagonal().diag()


@dataclass(frozen=True)
class Trial:
    """What one trial step did; a row of the history."""

    chi2: float
    prior: float
    length: float
    damping: float
    accepted: bool


class Problem:
    """Target, unknowns and spec together: what a point costs, and which way is down."""

    def __init__(
        self, target: Target, unknowns: Unknowns, spec: ReconstructionSpec, tolerance: float
    ) -> None:
        self.target, self.unknowns, self.spec = target, unknowns, spec
        self.tolerance = tolerance
        self.noise = MagnitudeNoise(target.sigma, spec.noise_floor)

    @classmethod
    def of(
        cls, target: Target, model: ShapeModel, tissue: Tissue, spec: ReconstructionSpec
    ) -> Problem:
        """From the nouns a user has."""
        unknowns = Unknowns(model, tissue, spec.free, spec.pose == "unknown")
        return cls(target, unknowns, spec, spec.tolerance)

    def part(self, index: Tensor) -> Problem:
        """The same problem with the measurements at `index` alone, to be solved less exactly.

        Its basis has the usual size instead of what its tolerance asks for, in half the time.
        """
        target = self.target
        fewer = Target(target.acquisition.select(index), target.attenuation[index], target.sigma)
        spec = replace(self.spec, basis=self.spec.basis.replace(blocks=USUAL_BLOCKS))
        return Problem(fewer, self.unknowns, spec, COARSE * self.tolerance)

    @cached_property
    def _reference(self) -> Float[Tensor, "tet sample"]:
        template = self.unknowns.model.basis.template
        return jacobian_determinants(template.points, template.tets)

    def valid(self, points: Float[Tensor, "point 3"]) -> bool:
        """Whether every element Jacobian exceeds `minimum_volume` of the template's."""
        tets = self.unknowns.model.basis.template.tets
        ratio = jacobian_determinants(points, tets) / self._reference
        return bool(ratio.min() >= self.spec.minimum_volume)

    def state(self, point: Point, damping: float = FIRST_DAMPING, idle: int = 0) -> State | None:
        """Evaluate a point; None if its mesh folds or nearly so."""
        if not self.valid(self.unknowns.shape(point)):
            return None
        prediction = predict(self.unknowns, point, self.target.acquisition, self.spec.basis)
        return State(point, prediction, damping, idle)

    def stage_noise(self, state: State) -> MagnitudeNoise:
        """The noise of this stage of the search: its floor is the RMS misfit until that is small.

        Far away the model is wrong by far more than the noise; without this the prior would weigh
        nothing there and the search run into folded shapes.
        """
        residual = self.noise.residual(self.target.attenuation, state.prediction.attenuation)
        if float(residual.square().mean()) < NEAR:
            return self.noise
        misfit = self.noise.misfit(self.target.attenuation, state.prediction.attenuation)
        return replace(self.noise, floor=max(self.noise.floor, misfit))

    def chi2(self, state: State) -> Float[Tensor, " measurement"]:
        """Squared residuals in units of the final noise."""
        return self.noise.residual(self.target.attenuation, state.prediction.attenuation).square()

    def cost(self, state: State, noise: MagnitudeNoise | None = None) -> float:
        """-2 log posterior up to a constant: Rician deviance plus prior."""
        return self.cost_of(state.point, state.prediction.attenuation, noise or self.noise)

    def cost_of(
        self, point: Point, signal: Float[Tensor, " measurement"], noise: MagnitudeNoise
    ) -> float:
        """The same of a point whose attenuations are known."""
        deviance = noise.deviance(self.target.attenuation, signal)
        own = self.unknowns.gaussian_part(point)
        return float(deviance.sum() + own @ own)

    def curvature(self, state: State, noise: MagnitudeNoise) -> Curvature:
        """The quadratic model of half the cost about a state."""
        signal = state.prediction.attenuation
        J = jacobian(self.unknowns, state.point, state.prediction, self.target.acquisition)
        weighted = noise.information(signal)[:, None] * J
        slope = -J.T @ noise.score(self.target.attenuation, signal)
        return Curvature(
            J.T @ weighted + self.unknowns.precision.diag(),
            slope + self.unknowns.gaussian_part(state.point),
            J,
            weighted,
        )

    def trial(self, state: State, length: float, damping: float, accepted: bool) -> Trial:
        """The row of the history for a step that led to, or stayed at, `state`."""
        own = self.unknowns.gaussian_part(state.point)
        return Trial(float(self.chi2(state).sum()), float(own @ own), length, damping, accepted)


def improve(problem: Problem, state: State, log: Callable[[Trial], None]) -> State:
    """One accepted step, or convergence when none is needed or accepted."""
    noise = problem.stage_noise(state)
    cost = problem.cost(state, noise)
    curvature = problem.curvature(state, noise)
    # A cost below one per measurement is better than the noise asks for.
    worth = problem.tolerance * max(cost, len(problem.target.attenuation))
    if noise is problem.noise and curvature.promise < worth:
        return replace(state, converged=True)
    damping = state.damping

    def tried(step: Tensor) -> tuple[State | None, float]:
        trial = problem.state(problem.unknowns.moved(state.point, step), damping)
        gain = cost - problem.cost(trial, noise) if trial is not None else -1.0
        kept = trial if trial is not None and gain > 0 else state
        log(problem.trial(kept, float(step.norm()), damping, gain > 0))
        return trial, gain

    while damping < DAMPING_LIMIT:
        step = curvature.step(damping)
        trial, gain = tried(step)
        if trial is not None and gain <= 0:
            change = trial.prediction.attenuation - state.prediction.attenuation
            turned = curvature.bent(step, change, damping)
            if float((turned - step).norm()) < MOST_BENT * float(step.norm()):
                trial, gain = tried(turned)
        if trial is not None and gain > 0:
            agreement = gain / curvature.gain(step)
            damping *= 0.2 if agreement > 0.5 else (1.0 if agreement > 0.2 else 3.0)
            idle = state.idle + 1 if gain < LITTLE * worth else 0
            done = 0 < problem.spec.patience <= idle
            damping = max(damping, DAMPING_FLOOR)
            return replace(trial, damping=damping, idle=idle, converged=done)
        if float(step.norm()) < problem.tolerance:
            break
        damping *= 4
    return replace(state, damping=damping, converged=True)


def descend_from(problem: Problem, point: Point) -> State:
    """The minimum below a point, in at most `iterations` steps.

    Raises ReductionError if the point's mesh folds.
    """
    state = problem.state(point)
    if state is None:
        raise ReductionError("reconstruct: the mesh folds at the given point. Start elsewhere.")
    for _ in range(problem.spec.iterations):
        if state.converged:
            break
        state = improve(problem, state, lambda trial: None)
    return state
