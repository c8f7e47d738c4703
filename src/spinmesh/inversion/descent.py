"""Levenberg-Marquardt in the space of unknowns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.bloch_torrey import USUAL_BLOCKS
from spinmesh.inversion.forward import Prediction, jacobian, predict
from spinmesh.inversion.target import Target
from spinmesh.inversion.unknowns import Point, Unknowns
from spinmesh.mesh import jacobian_determinants
from spinmesh.noise import MagnitudeNoise
from spinmesh.settings.reconstruct import Reconstruct
from spinmesh.shapes import ShapeModel
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
# Of a step: the state it led to or stayed at, its length, its damping, whether it was taken.
Log = Callable[["State", float, float, bool], None]


def damped_step(
    normal: Float[Tensor, "*batch unknown unknown"],
    slope: Float[Tensor, "*batch unknown"],
    damping: float | Float[Tensor, "*batch 1 1"],
) -> Float[Tensor, "*batch unknown"]:
    """Levenberg-Marquardt's step down the slope, the trust region scaled by each curvature."""
    damped = normal + damping * torch.diag_embed(normal.diagonal(dim1=-2, dim2=-1))
    return -torch.linalg.solve(damped, slope[..., None])[..., 0]


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

    def plain(self) -> dict[str, Any]:
        """What a checkpoint holds of it: all but the prediction, which follows from the point."""
        names = ("damping", "idle", "converged")
        point = list(vars(self.point).values())
        return {"point": point} | {name: getattr(self, name) for name in names}


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
        """The damped step."""
        return damped_step(self.normal, self.slope, damping)

    def bent(
        self, step: Float[Tensor, " unknown"], change: Float[Tensor, " measurement"], damping: float
    ) -> Float[Tensor, " unknown"]:
        """The step with its geodesic acceleration (Transtrum & Sethna 2012, arXiv 1201.5885).

        `change` is what the straight step did to the signals: what it did beyond the first order
        is taken back to first order. Follows curved valleys that straight steps leave.
        """
        beyond = change - self.jacobian @ step
        return step + damped_step(self.normal, self.weighted.T @ beyond, damping)

    def gain(self, step: Float[Tensor, " unknown"]) -> float:
        """By how much the quadratic model says that a step lowers the cost."""
        return float(-step @ (2 * self.slope + self.normal @ step))


@dataclass(frozen=True, eq=False)
class Problem:
    """Target, unknowns and settings together: what a point costs, and which way is down."""

    target: Target
    unknowns: Unknowns
    settings: Reconstruct

    @classmethod
    def of(
        cls, target: Target, model: ShapeModel, tissue: Tissue, settings: Reconstruct
    ) -> Problem:
        """From the nouns a user has."""
        unknowns = Unknowns(model, tissue, settings.free, settings.pose == "unknown")
        return cls(target, unknowns, settings)

    def part(self, index: Tensor) -> Problem:
        """The same problem with the measurements at `index` alone, to be solved less exactly.

        Its basis has the usual size instead of what its tolerance asks for, in half the time.
        """
        settings = self.settings.replace(
            basis=self.settings.basis.replace(blocks=USUAL_BLOCKS),
            tolerance=COARSE * self.settings.tolerance,
        )
        return replace(self, target=self.target.select(index), settings=settings)

    @cached_property
    def noise(self) -> MagnitudeNoise:
        """Of the measurements, with the floor of the settings."""
        return MagnitudeNoise(self.target.sigma, self.settings.noise_floor)

    @cached_property
    def _reference(self) -> Float[Tensor, "tet sample"]:
        template = self.unknowns.model.basis.template
        return jacobian_determinants(template.points, template.tets)

    def valid(self, points: Float[Tensor, "point 3"]) -> bool:
        """Whether every element Jacobian exceeds `minimum_volume` of the template's."""
        tets = self.unknowns.model.basis.template.tets
        ratio = jacobian_determinants(points, tets) / self._reference
        return bool(ratio.min() >= self.settings.minimum_volume)

    def state(self, point: Point, damping: float = FIRST_DAMPING) -> State | None:
        """Evaluate a point; None if its mesh folds or nearly so."""
        return self.evaluated(point, damping) if self.valid(self.unknowns.shape(point)) else None

    def evaluated(self, point: Point, damping: float = FIRST_DAMPING) -> State:
        """The signal at a point whose mesh is valid."""
        prediction = predict(self.unknowns, point, self.target.acquisition, self.settings.basis)
        return State(point, prediction, damping)

    def stage_noise(self, state: State) -> MagnitudeNoise:
        """The noise of this stage of the search: its floor is the RMS misfit until that is small.

        Far away the model is wrong by far more than the noise; without this the prior would weigh
        nothing there and the search run into folded shapes.
        """
        if float(self.chi2(state).mean()) < NEAR:
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
        return float(deviance.sum() + self.unknowns.gaussian_part(point).square().sum())

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


def improve(problem: Problem, state: State, log: Log) -> State:
    """One accepted step, or convergence when none is needed or accepted."""
    noise = problem.stage_noise(state)
    cost = problem.cost(state, noise)
    curvature = problem.curvature(state, noise)
    # A cost below one per measurement is better than the noise asks for.
    worth = problem.settings.tolerance * max(cost, len(problem.target.attenuation))
    if noise is problem.noise and curvature.promise < worth:
        return replace(state, converged=True)
    damping = state.damping

    def tried(step: Tensor) -> tuple[State | None, float]:
        trial = problem.state(problem.unknowns.moved(state.point, step), damping)
        gain = cost - problem.cost(trial, noise) if trial is not None else -1.0
        better = trial is not None and gain > 0
        log(trial if trial is not None and better else state, float(step.norm()), damping, better)
        return trial, gain

    while damping < DAMPING_LIMIT:
        step = curvature.step(damping)
        trial, gain = tried(step)
        if trial is not None and gain <= 0:
            change = trial.prediction.attenuation - state.prediction.attenuation
            bent = curvature.bent(step, change, damping)
            if float((bent - step).norm()) < MOST_BENT * float(step.norm()):
                trial, gain = tried(bent)
        if trial is not None and gain > 0:
            agreement = gain / curvature.gain(step)
            damping *= 0.2 if agreement > 0.5 else (1.0 if agreement > 0.2 else 3.0)
            idle = state.idle + 1 if gain < LITTLE * worth else 0
            done = 0 < problem.settings.patience <= idle
            damping = max(damping, DAMPING_FLOOR)
            return replace(trial, damping=damping, idle=idle, converged=done)
        if float(step.norm()) < problem.settings.tolerance:
            break
        damping *= 4
    return replace(state, damping=damping, converged=True)
