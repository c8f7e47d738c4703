"""Training of shape models: principal components, then the network that `kind` asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from spinmesh.errors import ConfigError, MeshError
from spinmesh.learning import Batch, Problem, Recipe, fit, perceptron
from spinmesh.mesh import Substrates, deform
from spinmesh.progress import progress
from spinmesh.settings import ShapeTraining
from spinmesh.shapes.basis import SpectralBasis, spectral_basis, volume
from spinmesh.shapes.models import Components, PrincipalModel, ShapeModel, VariationalModel
from spinmesh.shapes.variational import fit_variational

# Fraction of the training shapes that choose the epoch when the table has no validation split.
VALIDATION_FRACTION = 0.15
REPORT_EVERY = 10
# Points of this many shapes are in memory at a time.
CHUNK = 256
# As many parts have their coefficients in memory.
BLOCK = 16
# The network's input layer starts with weights this much smaller than usual, so that it begins as a
# slowly varying function of z; with the usual ones it fits the training shapes and no others.
INPUT_SCALE = 0.3
# Share of the epochs in which the learning rate rises.
WARM_UP = 0.05


def train_shape_model(
    substrates: Substrates,
    settings: ShapeTraining | None = None,
    seed: int = 0,
    further: Float[Tensor, "further parameter"] | None = None,
    device: str = "cpu",
) -> ShapeModel:
    """A shape model learned from split `train`; `validation` chooses the epoch.

    Without a validation split a seeded 15% of the training shapes choose. Errors are measured on
    `test` if there is one. Loss: volume-weighted squared displacement as a fraction of the shapes'
    variance. `further` are parameters (`deform`) of more training shapes for the variational kind,
    which cost no signal. Networks are trained on `device`. Raises MeshError with too few training
    shapes; ConfigError if a kind that takes no `further` is given some.
    """
    settings = settings or ShapeTraining()
    if further is not None and settings.kind != "variational":
        raise ConfigError(f"shape model: kind {settings.kind!r} learns from no further shapes.")
    train, validation, held_out = _split(substrates, seed)
    count = min(settings.modes, len(substrates.template.points))
    basis = spectral_basis(substrates.template, count, settings.degree)
    learnt = _expanded(basis, substrates.take(train.tolist()), "expanding training shapes")
    components = Components.of(basis, learnt, settings.scores)
    rows = _expanded(basis, substrates, "expanding shapes")
    scores = torch.cat([(some - components.mean) @ components.directions.T for some in rows])
    training = torch.zeros(len(substrates), dtype=torch.bool)
    training[train] = True
    latents = components.whitened(scores, settings.latent)
    nothing = torch.zeros((0, 3), dtype=torch.float64)
    linear = PrincipalModel(components, latents, training, {}, nothing, {})
    generator = torch.Generator(device).manual_seed(seed)
    fitted, choosing = scores[train], scores[validation]
    model: ShapeModel = linear
    if settings.kind == "variational":
        if further is not None:
            fitted = torch.cat([fitted, _scores_of(components, further)])
        unit = volume(basis.template) ** 0.5
        networks, history = fit_variational(fitted / unit, choosing / unit, settings, generator)
        model = VariationalModel(components, latents, training, {}, history, *networks, unit)
        encoded = [model.encoded_scores(some) for some in scores.split(CHUNK * BLOCK)]
        model = replace(model, latents=torch.cat(encoded))
    elif settings.kind != "pca":
        model = _with_network(linear, fitted, choosing, settings, generator)
    judging = substrates.take(held_out.tolist())
    errors = {
        "decoder": _rms_error(model.decoded, judging),
        "pca": _rms_error(linear.decoded, judging),
        "mean_shape": _rms_error(lambda _: linear.mean_points, judging),
    }
    if settings.kind == "best":
        deciding = substrates.take(validation.tolist())
        model = min((model, linear), key=lambda each: _rms_error(each.decoded, deciding))
    return replace(model, errors=errors)


def _expanded(basis: SpectralBasis, shapes: Substrates, label: str) -> Iterator[Tensor]:
    """Coefficients of shapes, a block of them at a time."""
    parts = progress(shapes.parts(CHUNK), label, total=-(-len(shapes) // CHUNK))
    while block := [basis.encode(some.points).flatten(-2) for some in islice(parts, BLOCK)]:
        yield torch.cat(block)


def _split(substrates: Substrates, seed: int) -> list[Int[Tensor, " shape"]]:
    """Places in the table of shapes that are learned from, that choose, and that judge."""
    training, validation, test = (
        torch.tensor([i for i, s in enumerate(substrates.split) if s == name], dtype=torch.long)
        for name in ("train", "validation", "test")
    )
    if len(validation) == 0:
        order = torch.randperm(len(training), generator=torch.Generator().manual_seed(seed))
        count = int(VALIDATION_FRACTION * len(training)) + 1
        training, validation = training[order[count:]].sort().values, training[order[:count]]
    if len(training) < 3:
        raise MeshError(
            f"shape model: {len(training)} training shapes. Sample more substrates, or give split "
            "`train` a larger fraction."
        )
    return [training, validation, test if len(test) else validation]


def _rms_error(decoded: Callable[[Tensor], Tensor], shapes: Substrates) -> float:
    """Root mean square distance (um) of the points of shapes from what `decoded` makes of them."""
    total = 0.0
    for some in shapes.parts(CHUNK):
        points = some.points
        total += float((decoded(points) - points).square().sum(-1).mean(-1).sum())
    return (total / len(shapes)) ** 0.5


@dataclass(frozen=True, eq=False)
class _Residual(Problem):
    """All scores at once; noise on z keeps the decoder smooth between training shapes."""

    decoded: Callable[[Callable[..., Tensor], Tensor], Tensor]
    scores: Float[Tensor, "shape score"]
    z: Float[Tensor, "shape latent"]
    noise: float

    def draw(self, generator: torch.Generator, done: int) -> list[Batch]:
        """Latents with noise, and the scores."""
        if self.noise == 0:
            return [(self.z, self.scores)]
        where: Any = {"generator": generator, "device": generator.device}
        noise = torch.randn(self.z.shape, dtype=self.z.dtype, **where)
        return [(self.z + self.noise * noise, self.scores)]

    def loss(self, network: Callable[..., Tensor], batch: Batch) -> Tensor:
        """Mean squared error as a fraction of the variance."""
        z, scores = batch
        error = (self.decoded(network, z) - scores).square().sum(-1).mean()
        return error / self.scores.square().sum(-1).mean()


def _with_network(
    linear: PrincipalModel,
    fitted: Float[Tensor, "shape score"],
    choosing: Float[Tensor, "chooser score"],
    settings: ShapeTraining,
    generator: torch.Generator,
) -> PrincipalModel:
    """The network of lowest validation loss; its last layer starts at zero, so it begins as PCA."""
    device, rate = generator.device, settings.learning_rate
    fitted, choosing = fitted.to(device), choosing.to(device)
    components = replace(linear.components, spread=linear.components.spread.to(device))
    sizes = (settings.latent, settings.width, settings.width, len(components.spread))
    gains = (2 * INPUT_SCALE**2, 2.0, 0.0)
    network = perceptron(sizes, gains, generator, torch.float64)
    variance = float(fitted.square().sum(-1).mean())

    def decoded(network: Callable[..., Tensor], z: Tensor) -> Tensor:
        return components.linear(z) + components.spread[0] * network(z)

    def report(network: nn.Module, done: int) -> tuple[float, ...] | None:
        if done % REPORT_EVERY and done != settings.epochs:
            return None
        errors = [
            float(
                (decoded(network, components.whitened(x, settings.latent)) - x)
                .square()
                .sum(-1)
                .mean()
            )
            for x in (fitted, choosing)
        ]
        return (float(done), *(error / variance for error in errors))

    def schedule(optimiser: torch.optim.Optimizer, steps: int) -> OneCycleLR:
        total = max(steps, 4)  # at least two steps up and two down
        return OneCycleLR(optimiser, rate, total, pct_start=max(WARM_UP, 2 / total))

    recipe = Recipe(
        settings.epochs,
        lambda n: [torch.optim.AdamW(n.parameters(), rate, weight_decay=settings.weight_decay)],
        schedule,
        best=True,
    )
    z = components.whitened(fitted, settings.latent)
    problem = _Residual(decoded, fitted, z, settings.latent_noise)
    result = fit(network, problem, recipe, generator, "training the autoencoder", report=report)
    history = torch.tensor(result.rows, dtype=torch.float64)
    return replace(linear, loss_history=history, weights=result.state)


def _scores_of(
    components: Components, parameters: Float[Tensor, "further parameter"]
) -> Float[Tensor, "further score"]:
    """Scores of closed-form shapes, some at a time."""
    return torch.cat(
        [
            components.scores(deform(components.basis.template, some))
            for some in progress(parameters.split(CHUNK), "further shapes")
        ]
    )
