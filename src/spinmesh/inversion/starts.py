"""Where the search starts: shapes of the prior or of the training set, in several poses."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.interpolate import RBFInterpolator
from scipy.spatial.transform import Rotation
from torch import Tensor

from spinmesh.bloch_torrey import Signals
from spinmesh.errors import ReductionError, SequenceError
from spinmesh.inversion.descent import Problem
from spinmesh.inversion.forward import attenuation, turned
from spinmesh.inversion.poses import Screen, descend_together, nearest_poses
from spinmesh.inversion.target import Target, principal_rotations, refuse_other_protocol
from spinmesh.inversion.unknowns import Point
from spinmesh.noise import MagnitudeNoise
from spinmesh.sequence.harmonics import Harmonics, fit_harmonics
from spinmesh.shapes import ShapeModel

# Poses of one shape among the starts, at most.
POSES_EACH = 2
# Spread of the prior draws that serve as starts: less than the prior's own, where decoders behave.
DRAWN = 0.5
# Parts of the training shapes that are left out in turn to measure the atlas's error.
FOLDS = 5
# Poses of training shapes that are sent downhill together, and for how many steps.
TOGETHER, STEPS = 64, 15
# Minima nearer than this in latents and in signals (RMS attenuation) are one.
SAME_LATENT, SAME_SIGNAL = 0.3, 0.002
# Of the radial basis functions, r^3 beside linear functions.
KERNEL = "cubic"
# Latents that agree to so many decimals are those of one shape.
LATENT_DECIMALS = 6


@dataclass(frozen=True, eq=False)
class Atlas:
    """What the signals of its training shapes tell about a shape model: where searches start.

    Their harmonics between the shapes are interpolated over the latents by radial basis functions
    (docs/decisions/0008). `frames` are the shapes' axes of diffusion, the fastest last; `error` is
    the median error (RMS attenuation) on shapes left out.
    """

    trained: Harmonics
    frames: Float[Tensor, "substrate 3 3"]
    z: Float[Tensor, "substrate latent"]
    interpolator: RBFInterpolator
    error: float

    @classmethod
    @lru_cache(maxsize=2)
    def of(cls, model: ShapeModel, signals: Signals) -> Atlas:
        """From the training shapes' signals in the model's order, or of the whole table."""
        return cls.fit(training_part(model, signals), model.latents[model.training])

    @classmethod
    def fit(cls, signals: Signals, z: Float[Tensor, "substrate latent"]) -> Atlas:
        """From the signals and the latents of the training shapes."""
        trained = fit_harmonics(signals.acquisition, signals.attenuation)
        frames = principal_rotations(signals.acquisition, signals.attenuation)
        # A shape that stands twice in the table would make the interpolation singular.
        once = np.sort(np.unique(z.numpy().round(LATENT_DECIMALS), axis=0, return_index=True)[1])
        node, flat = z[once], trained.coefficients.flatten(1)[once]
        guess = torch.empty_like(flat)
        for fold in (torch.arange(len(node)) + torch.arange(FOLDS)[:, None]) % FOLDS == 0:
            rest = RBFInterpolator(node[~fold], flat[~fold], kernel=KERNEL)
            guess[fold] = torch.from_numpy(rest(node[fold]))
        # The mean square over the sphere of a function with coefficients c is |c|^2 / 4 pi.
        square = (guess - flat).square().sum(1).median() / (4 * torch.pi)
        error = float((square / len(trained.shells)).sqrt())
        return cls(trained, frames, z, RBFInterpolator(node, flat, kernel=KERNEL), error)

    def harmonics(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch shell function"]:
        """Coefficients on the shells of the training signals."""
        flat = torch.from_numpy(self.interpolator(z.numpy()))
        return flat.unflatten(1, (len(self.trained.shells), -1))


def guesses(
    target: Target, atlas: Atlas, floor: float, count: int
) -> list[tuple[Float[Tensor, " latent"], Float[Tensor, "3 3"]]]:
    """Latents and rotation of the lowest distinct minima of interpolated misfit plus prior.

    Downhill from the `TOGETHER` training shapes and turns with the nearest signals, all at once.
    `floor` is the error of the model that is no noise, to which the atlas's is added. Fewer than
    `count` if there are no more.
    """
    noise = MagnitudeNoise(target.sigma, math.hypot(floor, atlas.error))
    shapes, turns = nearest_poses(target, atlas.trained, atlas.frames, TOGETHER)
    screen = Screen(target.acquisition, atlas.trained)
    z, rotation, cost = descend_together(
        target, screen, atlas.harmonics, noise, atlas.z[shapes], turns, STEPS
    )
    signal = screen.signals(screen.functions(rotation), atlas.harmonics(z))
    distinct: list[int] = []
    for i in cost.argsort().tolist():
        alike = (z[i] - z[distinct]).norm(dim=1) < SAME_LATENT
        alike &= (signal[i] - signal[distinct]).square().mean(1).sqrt() < SAME_SIGNAL
        if not bool(alike.any()):
            distinct.append(i)
    return [(z[i], rotation[i]) for i in distinct[:count]]


def starting_points(
    screen: Problem, problem: Problem, seed: int, signals: Signals | None
) -> list[Point]:
    """`starts` valid points, best posed.

    With an unknown pose and training signals: the lowest minima of a misfit that interpolates these
    signals between the shapes (`guesses`). Otherwise the prior's mean and nearest training shapes
    (pose known) or draws; with an unknown pose every one is turned by the signal's diffusion tensor
    and all quarter turns, which needs no new span, and the poses that fit `screen`, which may have
    fewer measurements than `problem`, best are kept. Raises ReductionError if no shape is valid.
    """
    target, unknowns, settings = problem.target, problem.unknowns, problem.settings
    if unknowns.turning and signals is not None and _interpolable(problem):
        atlas = Atlas.of(unknowns.model, signals)
        minima = guesses(target, atlas, settings.noise_floor, 2 * settings.starts)
        points = _valid(problem, [unknowns.point(*minimum) for minimum in minima])
        if points:
            return points[: settings.starts]
    rotation = None
    if unknowns.turning:
        rotation = principal_rotations(target.acquisition, target.attenuation[None])[0]
    latents = _latents(problem, seed, signals, settings.starts)
    points = _valid(problem, [unknowns.point(z, rotation) for z in latents])
    if not points:
        raise ReductionError(
            "reconstruct: every start decodes to a folded mesh. Train the shape model on milder "
            "deformations or lower `minimum_volume`."
        )
    if not unknowns.turning:
        return points
    posed = [pose for point in points for pose in _best_poses(screen, point)]
    return [point for _, point in sorted(posed, key=lambda pair: pair[0])[: settings.starts]]


def _valid(problem: Problem, points: list[Point]) -> list[Point]:
    return [point for point in points if problem.valid(problem.unknowns.shape(point))]


def _interpolable(problem: Problem) -> bool:
    """Whether every measurement has pulse times, which name its shell, and shapes are many."""
    acquisition, model = problem.target.acquisition, problem.unknowns.model
    times = torch.stack([acquisition.durations("delta"), acquisition.durations("Delta")])
    many = int(model.training.sum()) > 2 * model.latents.shape[1]
    return many and not bool(times.isnan().any())


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
    """Cost and point of the quarter turns that cost least.

    The diffusion tensor's axes have no sign, their order is doubtful where two lengths are alike,
    and the turn about an axis is unknown. |S| sees no point reflection, so rotations suffice.
    """
    prediction = problem.evaluated(point).prediction
    poses = []
    for turn in torch.from_numpy(Rotation.create_group("O").as_matrix().round()):
        rotation = point.rotation @ turn
        # The prediction's moments are in the target's frame; they turn on from there.
        reduced = turned(prediction.reduced, rotation @ point.rotation.T)
        with torch.no_grad():
            signal = attenuation(reduced, problem.target.acquisition)
        there = replace(point, rotation=rotation)
        poses.append((problem.cost_of(there, signal, problem.noise), there))
    return sorted(poses, key=lambda pair: pair[0])[:POSES_EACH]


def _latents(problem: Problem, seed: int, signals: Signals | None, count: int) -> list[Tensor]:
    """The prior's mean, then the latents of the nearest training signals, or prior draws."""
    model = problem.unknowns.model
    origin = torch.zeros(model.latents.shape[1], dtype=torch.float64)
    if signals is None or problem.unknowns.turning:
        generator = torch.Generator().manual_seed(seed)
        draws = torch.randn((count - 1, len(origin)), generator=generator, dtype=torch.float64)
        return [origin, *(DRAWN * draws)]
    order = nearest_training_shapes(problem.target, model, signals)
    return [origin, *model.latents[order[: count - 1]]]


def nearest_training_shapes(
    target: Target, model: ShapeModel, signals: Signals
) -> Int[Tensor, " substrate"]:
    """Indices into `model.latents` of the training shapes, nearest signal first.

    SequenceError unless `signals` are those of the target's acquisition.
    """
    refuse_other_protocol(signals, target.acquisition)
    apart = training_part(model, signals).attenuation - target.attenuation
    return model.training.nonzero()[:, 0][apart.square().sum(1).argsort()]
