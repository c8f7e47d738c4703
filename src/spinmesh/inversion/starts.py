"""Where the search starts: shapes of the prior or of the training set, in several poses."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation
from torch import Tensor

from spinmesh.bloch_torrey import Signals
from spinmesh.errors import ReductionError, SequenceError
from spinmesh.inversion.descent import Problem, State
from spinmesh.inversion.forward import Prediction, attenuation, predict, turned
from spinmesh.inversion.poses import Bank, Screen, descend_together, nearest_poses
from spinmesh.inversion.target import Target, principal_rotations, refuse_other_protocol
from spinmesh.inversion.unknowns import Point
from spinmesh.noise import MagnitudeNoise
from spinmesh.sequence import Acquisition
from spinmesh.shapes import ShapeModel

# Poses of one shape among the starts, at most.
POSES_EACH = 2
# Spread of the prior draws that serve as starts: less than the prior's own, where decoders behave.
DRAWN = 0.5
# Correlation lengths tried, in units of the latents' spread; the best by leave-one-out is kept.
LENGTHS = (1.0, 2.0, 4.0)
# Added to the kernel's diagonal: of the signals' variance, far below what latents leave open.
NUGGET = 1e-6
# Principal parts of the harmonics that are interpolated.
PARTS = 150
# Poses of training shapes that are sent downhill together, and for how many steps.
TOGETHER, STEPS = 64, 15
# Minima nearer than this in latents (prior units) and in signals (RMS attenuation) are one.
SAME_LATENT, SAME_SIGNAL = 0.3, 0.002


@dataclass(frozen=True, eq=False)
class Atlas:
    """What the signals of its training shapes tell about a shape model: where searches start.

    Their harmonics between the shapes are c(y) = mean + k(y, Y) w parts, the posterior mean of a
    Gaussian process with a Matern 5/2 kernel over whitened latents (docs/decisions/0008). `error`
    is its leave-one-out error (RMS attenuation) on the training shapes.
    """

    bank: Bank
    y: Float[Tensor, "substrate latent"]
    length: float
    mean: Float[Tensor, " coefficient"]
    parts: Float[Tensor, "part coefficient"]
    weights: Float[Tensor, "substrate part"]
    error: float

    @classmethod
    def of(cls, model: ShapeModel, signals: Signals) -> Atlas:
        """From the training shapes' signals in the model's order."""
        return cls.fit(Bank.of(signals), model.prior.whiten(model.latents[model.training]))

    @classmethod
    def fit(cls, bank: Bank, y: Float[Tensor, "substrate latent"]) -> Atlas:
        """From the signals of a bank and the whitened latents of its shapes."""
        flat = bank.harmonics.coefficients.flatten(1)
        mean = flat.mean(0)
        _, singular, directions = torch.linalg.svd(flat - mean, full_matrices=False)
        parts = directions[: min(PARTS, int((singular > 1e-9 * singular[0]).sum()))]
        values = (flat - mean) @ parts.T
        fits = []
        for length in LENGTHS:
            kernel = _matern(y, y, length)
            inverse = torch.linalg.inv(kernel + NUGGET * torch.eye(len(y)).to(kernel))
            weights = inverse @ values
            left_out = weights / inverse.diagonal()[:, None]
            fits.append((float(left_out.square().sum(1).median()), length, weights))
        square, length, weights = min(fits, key=lambda fit: fit[0])
        # The mean square over the sphere of a function with coefficients c is |c|^2 / 4 pi.
        error = (square / len(bank.harmonics.shells) / (4 * torch.pi)) ** 0.5
        return cls(bank, y, length, mean, parts, weights, float(error))

    def harmonics(self, y: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch shell function"]:
        """Coefficients on the shells of the bank."""
        values = _matern(y, self.y, self.length) @ self.weights
        return (self.mean + values @ self.parts).unflatten(1, (len(self.bank.harmonics.shells), -1))


def _matern(
    a: Float[Tensor, "a latent"], b: Float[Tensor, "b latent"], length: float
) -> Float[Tensor, "a b"]:
    """Matern 5/2."""
    r = 5**0.5 * torch.cdist(a, b) / length
    return (1 + r + r.square() / 3) * torch.exp(-r)


def guesses(
    target: Target, atlas: Atlas, floor: float, count: int
) -> list[tuple[Float[Tensor, " latent"], Float[Tensor, "3 3"]]]:
    """Whitened latents and rotation of the lowest distinct minima of emulated misfit plus prior.

    Downhill from the `TOGETHER` training shapes and turns with the nearest signals, all at once.
    `floor` is the error of the model that is no noise, to which the emulator's is added. Fewer
    than `count` if there are no more.
    """
    noise = MagnitudeNoise(target.sigma, math.hypot(floor, atlas.error))
    poses = nearest_poses(target, atlas.bank, TOGETHER)
    ends = descend_together(
        target,
        Screen.of(target.acquisition, atlas.bank.harmonics),
        atlas.harmonics,
        noise,
        atlas.y[[pose.substrate for pose in poses]],
        torch.stack([pose.rotation for pose in poses]),
        STEPS,
    )
    distinct: list[int] = []
    for i in ends.cost.argsort().tolist():
        alike = [
            j
            for j in distinct
            if float((ends.y[i] - ends.y[j]).norm()) < SAME_LATENT
            and float((ends.signal[i] - ends.signal[j]).square().mean().sqrt()) < SAME_SIGNAL
        ]
        if not alike:
            distinct.append(i)
    return [(ends.y[i], ends.rotation[i]) for i in distinct[:count]]


def starting_points(
    screen: Problem,
    problem: Problem,
    seed: int,
    signals: Signals | None,
    atlas: Atlas | None = None,
) -> list[Point]:
    """`starts` valid points, best posed.

    With an unknown pose and training signals: the lowest minima of a misfit that interpolates these
    signals between the shapes (`guesses`). Otherwise the prior's mean and nearest training shapes
    (pose known) or draws; with an unknown pose every one is turned by the signal's diffusion tensor
    and all quarter turns, which needs no new span, and the poses that fit `screen`, which may have
    fewer measurements than `problem`, best are kept. Raises ReductionError if no shape is valid.
    """
    target, unknowns, settings = problem.target, problem.unknowns, problem.settings
    if unknowns.turning and signals is not None and _has_shells(target.acquisition):
        atlas = atlas or Atlas.of(unknowns.model, training_part(unknowns.model, signals))
        minima = guesses(target, atlas, settings.noise_floor, 2 * settings.starts)
        points = _valid(problem, [unknowns.point(*minimum) for minimum in minima])
        if points:
            return points[: settings.starts]
    rotation = None
    if unknowns.turning:
        rotation = principal_rotations(target.acquisition, target.attenuation[None])[0]
    latents = _latents(problem, seed, signals, settings.starts)
    points = _valid(problem, [unknowns.point(y, rotation) for y in latents])
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
    """Cost and point of the quarter turns that cost least.

    The diffusion tensor's axes have no sign, their order is doubtful where two lengths are alike,
    and the turn about an axis is unknown. |S| sees no point reflection, so rotations suffice.
    """
    acquisition = problem.target.acquisition
    prediction = predict(problem.unknowns, point, acquisition, problem.settings.basis)
    poses = []
    for turn in torch.from_numpy(Rotation.create_group("O").as_matrix().round()):
        rotation = point.rotation @ turn
        # The prediction's moments are in the target's frame; they turn on from there.
        reduced = turned(prediction.reduced, rotation @ point.rotation.T)
        with torch.no_grad():
            signal = attenuation(reduced, acquisition)
        there = Point(point.y, rotation, point.physics)
        cost = problem.cost(State(there, Prediction(prediction.span, reduced, signal)))
        poses.append((cost, there))
    return sorted(poses, key=lambda pair: pair[0])[:POSES_EACH]


def _latents(problem: Problem, seed: int, signals: Signals | None, count: int) -> list[Tensor]:
    """Whitened latents: the prior's mean, then the nearest training signals or prior draws."""
    unknowns = problem.unknowns
    origin = torch.zeros(unknowns.parts[0], dtype=torch.float64)
    if signals is None or unknowns.turning:
        generator = torch.Generator().manual_seed(seed)
        draws = torch.randn((count - 1, len(origin)), generator=generator, dtype=torch.float64)
        return [origin, *(DRAWN * draws)]
    order = nearest_training_shapes(problem.target, unknowns.model, signals)
    latents = unknowns.model.latents[order[: count - 1]]
    return [origin, *(unknowns.prior.whiten(z) for z in latents)]


def nearest_training_shapes(
    target: Target, model: ShapeModel, signals: Signals
) -> Int[Tensor, " substrate"]:
    """Indices into `model.latents` of the training shapes, nearest signal first.

    SequenceError unless `signals` are those of the target's acquisition.
    """
    refuse_other_protocol(signals, target.acquisition)
    apart = training_part(model, signals).attenuation - target.attenuation
    return model.training.nonzero()[:, 0][apart.square().sum(1).argsort()]
