"""Where the search starts: shapes of the prior or of the training set, in several poses."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spinmesh.bloch_torrey import Signals
from spinmesh.errors import ReductionError, SequenceError
from spinmesh.inversion.emulator import Atlas, guesses
from spinmesh.inversion.gauss_newton import Problem, State
from spinmesh.inversion.pose import principal_rotation, quarter_turns
from spinmesh.inversion.protocol import refuse_other_protocol
from spinmesh.inversion.sensitivity import Prediction, attenuation, predict
from spinmesh.inversion.shape_model import ShapeModel
from spinmesh.inversion.target import Target
from spinmesh.inversion.unknowns import Point
from spinmesh.reduction import ReducedModel
from spinmesh.sequence import Acquisition
from spinmesh.units import b_to_s_per_mm2

# Poses of one shape among the starts, at most.
POSES_EACH = 2
# Spread of the prior draws that serve as starts: less than the prior's own, where decoders behave.
DRAWN = 0.5


def starting_points(
    screen: Problem,
    problem: Problem,
    seed: int,
    signals: Signals | None,
    atlas: Atlas | None = None,
) -> list[Point]:
    """`starts` valid points, best posed.

    With an unknown pose and training signals: the lowest minima of a misfit that interpolates these
    signals between the shapes (emulator.py). Otherwise the prior's mean and nearest training
    shapes or draws; with an unknown pose every one is turned by the signal's diffusion tensor and
    all quarter turns, which needs no new span, and the poses that fit `screen`, which may have
    fewer measurements than `problem`, best are kept. Raises ReductionError if no shape is valid.
    """
    target, unknowns, count = problem.target, problem.unknowns, problem.spec.starts
    if unknowns.turning and signals is not None and _has_shells(target.acquisition):
        if atlas is None:
            atlas = Atlas.of(unknowns.model, training_part(unknowns.model, signals))
        points = _guessed(problem, atlas)
        if points:
            return points
    rotation = None
    if unknowns.turning:
        rotation = principal_rotation(target.acquisition, target.attenuation)
    latents = _latents(problem, seed, signals, count)
    points = [unknowns.point(y, rotation) for y in latents]
    points = [point for point in points if problem.valid(unknowns.shape(point))]
    if not points:
        raise ReductionError(
            "reconstruct: every start decodes to a folded mesh. Train the shape model on milder "
            "deformations or lower `minimum_volume`."
        )
    if not unknowns.turning:
        return points
    posed = [turned for point in points for turned in _best_poses(screen, point)]
    return [point for _, point in sorted(posed, key=lambda pair: pair[0])[:count]]


def _guessed(problem: Problem, atlas: Atlas) -> list[Point]:
    """Valid shapes at the lowest minima of the emulated misfit."""
    spec, unknowns = problem.spec, problem.unknowns
    found = guesses(problem.target, atlas, spec.noise_floor, 2 * spec.starts)
    points = [unknowns.point(guess.latent, guess.rotation) for guess in found]
    return [point for point in points if problem.valid(unknowns.shape(point))][: spec.starts]


def _has_shells(acquisition: Acquisition) -> bool:
    """Whether every measurement has a pulse duration and separation, which name its shell."""
    times = torch.stack([acquisition.durations("delta"), acquisition.durations("Delta")])
    return not bool(times.isnan().any())


def training_part(model: ShapeModel, signals: Signals) -> Signals:
    """The signals of the model's training shapes, of the whole table or of these alone.

    Raises SequenceError if they are neither.
    """
    index = model.training.nonzero()[:, 0]
    if len(signals) == len(model.latents):
        return Signals(signals.acquisition, signals.signal[index], signals.unweighted[index])
    if len(signals) != len(index):
        raise SequenceError(
            f"reconstruct: {len(signals)} training signals, but the shape model knows "
            f"{len(model.latents)} shapes ({len(index)} for training). Simulate the same table."
        )
    return signals


def _best_poses(problem: Problem, point: Point) -> list[tuple[float, Point]]:
    """Cost and point of the quarter turns that cost least."""
    prediction = predict(problem.unknowns, point, problem.target.acquisition, problem.spec.basis)
    reduced, found = prediction.reduced, []
    for turn in quarter_turns():
        rotation = point.rotation @ turn
        # The prediction's moments are in the target's frame; they turn on from there.
        moments = torch.einsum("ab,bjk->ajk", rotation @ point.rotation.T, reduced.moments)
        there = ReducedModel(reduced.laplacian, moments, reduced.mean)
        with torch.no_grad():
            signal = attenuation(there, problem.target.acquisition)
        turned = Point(point.latent, rotation, point.physics)
        state = State(turned, Prediction(prediction.span, there, signal))
        found.append((problem.cost(state), turned))
    return sorted(found, key=lambda pair: pair[0])[:POSES_EACH]


def _latents(problem: Problem, seed: int, signals: Signals | None, count: int) -> list[Tensor]:
    """Whitened latents: the prior's mean, then the nearest training signals or prior draws."""
    unknowns = problem.unknowns
    size = unknowns.parts[0]
    origin = torch.zeros(size, dtype=torch.float64)
    if signals is None:
        generator = torch.Generator().manual_seed(seed)
        draws = torch.randn((count - 1, size), generator=generator, dtype=torch.float64)
        return [origin, *(DRAWN * draws)]
    order = nearest_training_shapes(problem.target, unknowns.model, signals, unknowns.turning)
    return [origin, *(unknowns.whiten(unknowns.model.latents[i]) for i in order[: count - 1])]


def nearest_training_shapes(
    target: Target, model: ShapeModel, signals: Signals, any_pose: bool = False
) -> Int[Tensor, " substrate"]:
    """Indices into `model.latents` of the training shapes, nearest signal first (a baseline).

    With `any_pose` shells are compared by mean and spread over their directions, which turning the
    shape leaves alone as far as the directions cover the sphere. SequenceError unless `signals` are
    those of the target's acquisition.
    """
    known = training_part(model, signals).attenuation
    refuse_other_protocol(signals, target.acquisition)
    measured = target.attenuation
    if any_pose:
        known, measured = (_by_shell(x, target) for x in (known, measured[None]))
    return model.training.nonzero()[:, 0][(known - measured).square().sum(1).argsort()]


def _by_shell(
    attenuation: Float[Tensor, "substrate measurement"], target: Target
) -> Float[Tensor, "substrate feature"]:
    """Mean and standard deviation over each shell's directions, weighted by their number."""
    acquisition = target.acquisition
    b = b_to_s_per_mm2(acquisition.b_value).round()
    _, shell = torch.unique(
        torch.stack([acquisition.timing.to(b), b], 1), dim=0, return_inverse=True
    )
    features = []
    for number in range(int(shell.max()) + 1):
        own = attenuation[:, shell == number]
        scale = own.shape[1] ** 0.5
        features += [scale * own.mean(1), scale * own.std(1, correction=0)]
    return torch.stack(features, 1)
