"""The published experiment: held-out shapes of unknown pose, by every method, at several SNR."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from experiments.remidi.baselines import descend, train_signal_network
from experiments.remidi.estimates import Estimates
from spinmesh.bloch_torrey import Basis, Signals
from spinmesh.bodies import simulate
from spinmesh.errors import ConfigError, ReductionError
from spinmesh.inversion.descent import Problem, improve
from spinmesh.inversion.poses import nearest_poses
from spinmesh.inversion.search import reconstruct
from spinmesh.inversion.starts import Atlas
from spinmesh.inversion.target import Target
from spinmesh.mesh import PARAMETER_TABLE, Substrates, TetMesh, deform, rotation_matrix
from spinmesh.progress import progress
from spinmesh.sequence import Acquisition
from spinmesh.settings import Reconstruct
from spinmesh.shapes import PrincipalModel, ShapeModel
from spinmesh.tissue import Tissue

# Seeds of neighbouring runs stay apart by more than there are shapes.
SEED_STRIDE = 1_000_003


@dataclass(frozen=True)
class Arm:
    """One method at one SNR on the first `per_family` held-out shapes of a family (None: all)."""

    method: str
    snr: float
    per_family: int | None = None


def random_rotation(seed: int) -> Float[Tensor, "3 3"]:
    """A rotation drawn uniformly (Haar): a unit quaternion of four normal numbers."""
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(4, generator=generator, dtype=torch.float64)
    q = q / q.norm()
    angle = 2 * torch.arctan2(q[1:].norm(), q[0])
    return rotation_matrix(q[1:] / q[1:].norm() * angle)


def held_out_rotation(parameters: Float[Tensor, " parameter"]) -> Float[Tensor, "3 3"]:
    """Follows from the parameters alone, so that a shape lies alike in any chunk."""
    return random_rotation(int(1e9 * float(parameters.abs().sum() % 1)))


def simulate_held_out(
    shapes: Substrates, fine: TetMesh, tissue: Tissue, acquisition: Acquisition, basis: Basis
) -> Signals:
    """Signals of the shapes on another, finer template, each turned by its own random rotation.

    Turning the gradients back is turning the shape.
    """
    rows = []
    for parameters in progress(list(shapes.parameters), "simulating held-out shapes"):
        rotation = held_out_rotation(parameters)
        mesh = fine.with_points(deform(fine, parameters), "held-out shape")
        rows.append(simulate(mesh, tissue, acquisition.rotated(rotation.T), basis))
    signal = torch.cat([row.signal for row in rows])
    return Signals(acquisition, signal, torch.cat([row.unweighted for row in rows]))


def chosen(shapes: Substrates, per_family: int | None) -> list[int]:
    """Indices of the first shapes of each family, families taking turns."""
    families = list(dict.fromkeys(shapes.family))
    own = {f: [i for i, g in enumerate(shapes.family) if g == f][:per_family] for f in families}
    longest = max(len(rows) for rows in own.values())
    return [own[f][k] for k in range(longest) for f in families if k < len(own[f])]


@dataclass(frozen=True, eq=False)
class Bench:
    """What every method may use: the models, the training signals, the tissue and the settings.

    `compared` is a shape model that can decode as an autoencoder and as PCA. `signals` are those of
    the whole table that the models were trained from.
    """

    model: ShapeModel
    compared: ShapeModel
    substrates: Substrates
    signals: Signals
    tissue: Tissue
    settings: Reconstruct
    descents: int
    seed: int

    @cached_property
    def training(self) -> Int[Tensor, " shape"]:
        """Places in the table of the shapes that the model learned from."""
        return self.model.training.nonzero()[:, 0]

    @cached_property
    def atlas(self) -> Atlas:
        """What their signals tell the search, and the bank to be compared with in any pose."""
        return Atlas.of(self.model, self.signals)


@dataclass(frozen=True, eq=False)
class Truth:
    """What only bounds on a method may look at: a held-out shape and how it was turned."""

    points: Float[Tensor, "point 3"]
    rotation: Float[Tensor, "3 3"]


Found = tuple[Tensor, float]
Method = Callable[[Target, Truth], Found]


def estimate(
    bench: Bench, arm: Arm, shapes: Substrates, held_out: Signals, chunk: int, chunks: int
) -> Estimates:
    """Run one arm on every `chunks`-th of its shapes from `chunk` on.

    `shapes` are the held-out ones on the bench's template, `held_out` their signals. Noise is
    seeded by the shape, so every method sees the same.
    """
    index = chosen(shapes, arm.per_family)[chunk::chunks]
    if not index:
        raise ConfigError(
            f"experiment: chunk {chunk} of {chunks} holds no shape of {arm.method}. Lower "
            "experiment.chunks."
        )
    method = _method(bench, arm.method)
    points, chi2, seconds = [], [], []
    for i in progress(index, f"{arm.method}, SNR {arm.snr:g}"):
        target = Target(held_out.acquisition, held_out.attenuation[i])
        if not math.isinf(arm.snr):
            generator = torch.Generator().manual_seed(SEED_STRIDE * bench.seed + i)
            target = target.noisy(arm.snr, generator)
        truth = Truth(shapes.mesh(i).points, held_out_rotation(shapes.parameters[i]))
        begun = time.process_time()
        found, misfit = method(target, truth)
        seconds.append(time.process_time() - begun)
        points.append(found)
        chi2.append(misfit)
    return Estimates(
        arm.method,
        arm.snr,
        tuple(shapes.family[i] for i in index),
        tuple(f"{i} {describe(shapes, i)}" for i in index),
        shapes.take(index).points,
        torch.stack(points).detach(),
        torch.tensor(chi2, dtype=torch.float64),
        torch.tensor(seconds, dtype=torch.float64),
    )


def describe(shapes: Substrates, index: int) -> str:
    """The parameters of a shape that differ from the template's, sizes left out."""
    values = zip(shapes.names, shapes.parameters[index].tolist(), strict=True)
    neutral = {name: value for name, (_, value) in PARAMETER_TABLE.items()}
    named = [f"{n}={v:.3g}" for n, v in values if neutral[n] is not None and v != neutral[n]]
    return " ".join(named) or "straight"


def _method(bench: Bench, name: str) -> Method:
    """The verb behind a method's name: (target, truth) -> (points, chi2 per measurement)."""
    template, nan = bench.model.basis.template, math.nan
    if name in ("template", "mean_shape"):
        fixed = template.points if name == "template" else bench.model.mean_points
        return lambda target, truth: (fixed, nan)
    if name.startswith("decoder"):
        decoder = _model(bench, name)
        return lambda target, truth: (decoder.decode(decoder.encode(truth.points)), nan)
    if name == "nearest":
        return lambda target, truth: (_nearest(bench, target), nan)
    if name == "network":
        network = train_signal_network(
            bench.substrates, bench.signals, bench.model.basis, bench.seed
        )
        return lambda target, truth: (network.points(target), nan)
    if name == "adamw":
        return lambda target, truth: _descend(bench, target)
    if name == "from_truth":
        return lambda target, truth: _from_truth(bench, target, truth)
    if name in ("gauss_newton", "gauss_newton_autoencoder", "gauss_newton_pca"):
        model = _model(bench, name)
        return lambda target, truth: _gauss_newton(bench, target, model)
    raise ConfigError(f"experiment: unknown method {name!r}.")


def _model(bench: Bench, method: str) -> ShapeModel:
    """Our shape model, or the compared one as an autoencoder or as PCA."""
    compared = bench.compared
    if method.endswith("_pca"):
        return replace(compared, weights={}) if isinstance(compared, PrincipalModel) else compared
    return compared if method.endswith("_autoencoder") else bench.model


def _gauss_newton(bench: Bench, target: Target, model: ShapeModel) -> Found:
    result = reconstruct(target, model, bench.tissue, bench.settings, bench.seed, bench.signals)
    return result.mesh.points, result.fit.chi2_per_measurement


def _from_truth(bench: Bench, target: Target, truth: Truth) -> Found:
    """Gauss-Newton from the true shape, encoded, in its true pose.

    What is left is no fault of the search: the decoder's, or the signal's that does not know.
    """
    problem = Problem.of(target, bench.model, bench.tissue, bench.settings)
    unknowns = problem.unknowns
    latent = bench.model.encode(truth.points)
    state = problem.state(unknowns.point(latent, truth.rotation))
    if state is None:
        raise ReductionError("from_truth: the encoded shape's mesh folds. Train on milder shapes.")
    for _ in range(bench.settings.iterations):
        if not state.converged:
            state = improve(problem, state, lambda *trial: None)
    points = unknowns.shape(state.point) @ state.point.rotation.T
    return points, float(problem.chi2(state).mean())


def _nearest_pose(bench: Bench, target: Target) -> tuple[int, Tensor]:
    """Place in the table of the training shape with the nearest signal, and how it is turned."""
    shape, rotation = nearest_poses(target, bench.atlas.trained, bench.atlas.frames, 1)
    return int(bench.training[shape[0]]), rotation[0]


def _nearest(bench: Bench, target: Target) -> Tensor:
    """Points of the training shape with the nearest signal, in the pose in which it is nearest."""
    place, rotation = _nearest_pose(bench, target)
    return bench.substrates.mesh(place).points @ rotation.T


def _descend(bench: Bench, target: Target) -> Found:
    start = _nearest_pose(bench, target)
    points, loss = descend(
        target, bench.model, bench.tissue, bench.settings.basis, start, bench.descents
    )
    return points, loss / bench.settings.noise_floor**2
