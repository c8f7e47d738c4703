"""From a signal to a shape: Levenberg-Marquardt in the latent space."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spinmesh.bloch_torrey import Basis, Signals
from spinmesh.errors import ConfigError, ReductionError, SequenceError
from spinmesh.inversion.metrics import compare_with_mean_shape
from spinmesh.inversion.pose import principal_rotation
from spinmesh.inversion.reconstruction import Posterior, Reconstruction
from spinmesh.inversion.sensitivity import Prediction, predict, shape_jacobian, turn_jacobian
from spinmesh.inversion.shape_model import Gaussian, ShapeModel
from spinmesh.inversion.target import Target
from spinmesh.mesh import jacobian_determinants, rotation_matrix
from spinmesh.noise import rician_mean, rician_std
from spinmesh.progress import progress
from spinmesh.tissue import Tissue

# A damping this large means that even a tiny step is refused.
DAMPING_LIMIT = 1e8
DAMPING_FLOOR = 1e-6
# Squared residual per measurement below which the fit is as good as the noise allows, or nearly.
NEAR = 4.0


@dataclass(frozen=True)
class ReconstructionSpec:
    """How a signal is inverted.

    `noise_floor` (attenuation units) is added in quadrature to the target's sigma: it stands for
    what the shape model and the mesh cannot represent, and keeps noise-free targets finite.
    `damping` is the first trust region, in units of the prior's spread; `minimum_volume` the
    smallest element Jacobian allowed, as a fraction of the template's; `scouts` the iterations each
    of `starts` gets before the best goes on.
    """

    pose: Literal["known", "unknown"] = "known"
    iterations: int = 20
    starts: int = 3
    scouts: int = 2
    noise_floor: float = 1e-3
    damping: float = 1.0
    tolerance: float = 1e-3
    minimum_volume: float = 0.02
    basis: Basis = field(default_factory=Basis)

    def __post_init__(self) -> None:
        if self.pose not in ("known", "unknown"):
            raise ConfigError(f"reconstruct: pose {self.pose!r}; give known or unknown.")
        for name in ("iterations", "starts", "noise_floor", "damping", "tolerance"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"reconstruct: {name} is {getattr(self, name)}; give > 0.")


@dataclass(frozen=True, eq=False)
class State:
    """One point of the search; plain tensors and numbers, so that it can be kept and resumed.

    y is the latent whitened by the prior (z = mean + L y); `rotation` takes the decoded shape
    to the target's frame.
    """

    y: Float[Tensor, " latent"]
    rotation: Float[Tensor, "3 3"]
    prediction: Prediction
    damping: float
    converged: bool = False


class Problem:
    """Target, model, tissue and spec together: residuals and their Jacobian."""

    def __init__(
        self, target: Target, model: ShapeModel, tissue: Tissue, spec: ReconstructionSpec
    ) -> None:
        self.target, self.model, self.tissue, self.spec = target, model, tissue, spec
        self.template = model.basis.template
        self.prior = model.prior
        self.whitening = torch.linalg.cholesky(self.prior.covariance)
        self.reference = jacobian_determinants(self.template.points, self.template.tets)

    def decode(self, y: Tensor) -> Tensor:
        """Points (um) of whitened latent numbers."""
        return self.model.decode(self.prior.mean + self.whitening @ y)

    def whiten(self, z: Tensor) -> Tensor:
        """Inverse of z = mean + L y."""
        return torch.linalg.solve(self.whitening, z - self.prior.mean)

    def state(self, y: Tensor, rotation: Tensor, damping: float) -> State | None:
        """Evaluate a point; None if its mesh folds or nearly so."""
        points = self.decode(y)
        ratio = jacobian_determinants(points, self.template.tets) / self.reference
        if float(ratio.min()) < self.spec.minimum_volume:
            return None
        # Turning the gradients back is turning the mesh forward, and costs nothing.
        acquisition = self.target.acquisition.rotated(rotation.T)
        mesh = self.template.with_points(points, "iterate")
        prediction = predict(mesh, self.tissue, acquisition, self.spec.basis)
        return State(y, rotation, prediction, damping)

    def floor(self, state: State) -> float:
        """Noise floor at this stage of the search: the present RMS misfit until it is small.

        Far away the model is wrong by far more than the noise; without this the prior would weigh
        nothing there and the search run into folded shapes.
        """
        floor = self.spec.noise_floor
        if self.chi2(state) < NEAR * len(self.target.acquisition):
            return floor
        expected = rician_mean(state.prediction.attenuation, self.target.sigma)
        misfit = self.target.attenuation - expected
        return max(floor, float(misfit.square().mean().sqrt()))

    def spread(self, attenuation: Tensor, floor: float) -> Tensor:
        """Standard deviation of a measurement, noise floor included."""
        extra = torch.full_like(attenuation, floor)
        return torch.hypot(rician_std(attenuation, self.target.sigma), extra)

    def residual(self, attenuation: Tensor, floor: float) -> Tensor:
        """(measured - E[magnitude]) / standard deviation."""
        expected = rician_mean(attenuation, self.target.sigma)
        return (self.target.attenuation - expected) / self.spread(attenuation, floor)

    def chi2(self, state: State, floor: float | None = None) -> float:
        """Sum of squared residuals; with the final noise floor unless another is given."""
        floor = self.spec.noise_floor if floor is None else floor
        return float(self.residual(state.prediction.attenuation, floor).square().sum())

    def cost(self, state: State, floor: float | None = None) -> float:
        """Data term plus prior."""
        return self.chi2(state, floor) + float(state.y @ state.y)

    def jacobian(self, state: State, floor: float) -> Float[Tensor, "measurement unknown"]:
        """d(residual)/d(y, turn); the spread counts as constant, as in iterated weights."""
        prediction = state.prediction
        acquisition = self.target.acquisition.rotated(state.rotation.T)
        columns = shape_jacobian(prediction, self.tissue, acquisition, self.decode, state.y)
        if self.spec.pose == "unknown":
            columns = torch.cat([columns, turn_jacobian(prediction, acquisition)], 1)
        attenuation = prediction.attenuation
        _, slope = torch.func.jvp(
            lambda s: rician_mean(s, self.target.sigma),
            (attenuation,),
            (torch.ones_like(attenuation),),
        )[:2]
        return -(slope / self.spread(attenuation, floor))[:, None] * columns


def reconstruct(
    target: Target,
    model: ShapeModel,
    tissue: Tissue,
    spec: ReconstructionSpec,
    seed: int,
    training_signals: Signals | None = None,
) -> Reconstruction:
    """The most probable shape given the target's attenuations and the prior over latents.

    `training_signals` are the signals, under the target's acquisition, of every shape of the table
    the model was trained from (or of its training shapes only): the nearest ones are further
    starts. Without them, further starts are seeded draws from the prior. Raises ReductionError if
    no start gives a valid mesh.
    """
    problem = Problem(target, model, tissue, spec)
    rotation = torch.eye(3, dtype=torch.float64)
    if spec.pose == "unknown":
        rotation = principal_rotation(target.acquisition, target.attenuation)
    history: list[list[float]] = []
    scouted = []
    for number, y in enumerate(_starts(problem, seed, training_signals)):
        state = problem.state(y, rotation, spec.damping)
        if state is not None:
            row = [float(number), 0.0, problem.chi2(state), float(y @ y), 0.0, state.damping]
            history.append([*row, 1.0])
            scouted.append((number, iterate(problem, state, spec.scouts, number, history)))
    if not scouted:
        raise ReductionError(
            "reconstruct: every start decodes to a folded mesh. Train the shape model on milder "
            "deformations or lower `minimum_volume`."
        )
    number, state = min(scouted, key=lambda pair: problem.cost(pair[1]))
    state = iterate(problem, state, spec.iterations, number, history)
    return _finish(problem, state, torch.tensor(history, dtype=torch.float64))


def _starts(problem: Problem, seed: int, signals: Signals | None) -> list[Tensor]:
    """Whitened latents: the prior's mean, then the nearest training signals or prior draws."""
    size, extra = len(problem.prior.mean), problem.spec.starts - 1
    origin = torch.zeros(size, dtype=torch.float64)
    if signals is None:
        generator = torch.Generator().manual_seed(seed)
        draws = torch.randn((extra, size), generator=generator, dtype=torch.float64)
        return [origin, *(0.5 * draws)]
    order = nearest_training_shapes(problem.target, problem.model, signals)[:extra]
    return [origin, *(problem.whiten(problem.model.latents[i]) for i in order)]


def nearest_training_shapes(
    target: Target, model: ShapeModel, signals: Signals
) -> Int[Tensor, " substrate"]:
    """Indices into `model.latents` of the training shapes, nearest signal first (a baseline)."""
    index = model.training.nonzero()[:, 0]
    attenuation = signals.attenuation
    if len(signals) == len(model.latents):
        attenuation = attenuation[index]
    elif len(signals) != len(index):
        raise SequenceError(
            f"reconstruct: {len(signals)} training signals, but the shape model knows "
            f"{len(model.latents)} shapes ({len(index)} for training). Simulate the same table."
        )
    if attenuation.shape[1] != len(target.acquisition):
        raise SequenceError(
            f"reconstruct: training signals have {attenuation.shape[1]} measurements, the target "
            f"{len(target.acquisition)}. Simulate both with one acquisition."
        )
    distance = (attenuation - target.attenuation).square().sum(1)
    return index[distance.argsort()]


def iterate(
    problem: Problem, state: State, count: int, start: int, history: list[list[float]]
) -> State:
    """Up to `count` Levenberg-Marquardt iterations from `state`; can be called again to resume."""
    label = f"reconstructing (start {start})"
    for _ in progress(range(count), label, note=lambda: f"chi2 {history[-1][2]:.4g}"):
        if state.converged:
            break
        state = _step(problem, state, start, history)
    return state


def _step(problem: Problem, state: State, start: int, history: list[list[float]]) -> State:
    """One accepted step, or convergence when none is accepted."""
    floor, size = problem.floor(state), len(state.y)
    cost = problem.cost(state, floor)
    J = problem.jacobian(state, floor)
    normal = J.T @ J + _prior_precision(J, size)
    slope = J.T @ problem.residual(state.prediction.attenuation, floor)
    slope[:size] += state.y
    damping, number = state.damping, history[-1][1] + 1
    while damping < DAMPING_LIMIT:
        # Marquardt's scaling: the trust region follows the curvature of each unknown.
        step = -torch.linalg.solve(normal + damping * normal.diagonal().diag(), slope)
        length = float(step.norm())
        turn = rotation_matrix(step[size:]) if len(step) > size else torch.eye(3).to(step)
        trial = problem.state(state.y + step[:size], state.rotation @ turn, damping)
        gain = cost - problem.cost(trial, floor) if trial is not None else -1.0
        kept = trial if trial is not None and gain > 0 else state
        row = [float(start), number, problem.chi2(kept), float(kept.y @ kept.y), length, damping]
        history.append([*row, float(gain > 0)])
        if kept is not state:
            agreement = -gain / float(step @ (2 * slope + normal @ step))
            damping *= 0.1 if agreement > 0.5 else (1.0 if agreement > 0.2 else 3.0)
            small = gain < problem.spec.tolerance * cost and problem.floor(kept) > 0.9 * floor
            return replace(kept, damping=max(damping, DAMPING_FLOOR), converged=small)
        if length < problem.spec.tolerance:
            break
        damping *= 5
    return replace(state, damping=damping, converged=True)


def _prior_precision(J: Tensor, size: int) -> Tensor:
    """Identity for the whitened latents, nothing for the pose."""
    precision = J.new_zeros(J.shape[1])
    precision[:size] = 1
    return precision.diag()


def _finish(problem: Problem, state: State, history: Tensor) -> Reconstruction:
    """Laplace posterior, mesh in the target's frame, and the score if the truth is known."""
    J = problem.jacobian(state, problem.spec.noise_floor)
    size = len(state.y)
    covariance = torch.linalg.inv(J.T @ J + _prior_precision(J, size))[:size, :size]
    L = problem.whitening
    latent = Gaussian(problem.prior.mean + L @ state.y, L @ covariance @ L.T)
    information = torch.linalg.eigvalsh(torch.linalg.inv(covariance)).flip(0) - 1
    mesh = problem.template.with_points(
        problem.decode(state.y) @ state.rotation.T, "reconstruction"
    )
    chi2 = problem.residual(state.prediction.attenuation, problem.spec.noise_floor).square()
    metrics = {"chi2": float(chi2.sum()), "chi2_per_measurement": float(chi2.mean())}
    metrics["data_determined"] = float((information > 1).sum())
    if problem.target.truth is not None:
        metrics |= compare_with_mean_shape(mesh, problem.target.truth, problem.model)
    return Reconstruction(
        problem.target,
        mesh,
        state.rotation,
        state.prediction.attenuation,
        Posterior(latent, information),
        history,
        chi2,
        metrics,
    )
