"""What a reconstruction has to beat: a network on the signal, the nearest signal, plain descent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.lr_scheduler import ConstantLR

from spinmesh.bloch_torrey import USUAL_BLOCKS, Basis, Signals, simulate_reduced, unweighted
from spinmesh.errors import ConfigError
from spinmesh.inversion.poses import fit_harmonics
from spinmesh.inversion.target import Target
from spinmesh.learning import Batch, Problem, Recipe, fit, perceptron, perceptron_of
from spinmesh.mesh import Substrates, rotation_matrix
from spinmesh.noise import add_rician
from spinmesh.progress import progress
from spinmesh.reduction import krylov_span, project
from spinmesh.shapes import ShapeModel, SpectralBasis
from spinmesh.tissue import Tissue

# The network: units of its two hidden layers, passes, step; settings were not searched for.
WIDTH, EPOCHS, LEARNING_RATE, BATCH = 256, 400, 1e-3, 256
# The training signals are seen without noise and at these SNR.
TRAINING_SNR = (50.0, 20.0)
# Principal directions of the answers: they leave out 4e-8 of the deviation in the published
# experiment, and nearly all the work of a last layer for 3,600 coefficients.
ANSWERS = 96
# Directions of the features' space that vary by less than this part of the largest are left out.
SMALLEST_FEATURE = 1e-4
# Step of the published descent on the latent numbers (in units of their spread) and the turn (rad).
DESCENT_RATE = 2e-2


@dataclass(frozen=True, eq=False)
class SignalNetwork:
    """The publication's baseline: a network from the signal to spectral coefficients.

    It sees rotation invariants of the signal (the power of each spherical-harmonic order on each
    shell), since the pose is unknown, and answers in the template's frame.
    """

    basis: SpectralBasis
    centre: Float[Tensor, " feature"]
    whitening: Float[Tensor, "feature input"]
    network: nn.Sequential
    mean: Float[Tensor, " coefficient"]
    spread: Float[Tensor, "answer coefficient"]

    def points(self, target: Target) -> Float[Tensor, "point 3"]:
        """The shape (um) it answers with."""
        known = fit_harmonics(target.acquisition, target.attenuation[None])
        x = (known.invariants - self.centre) @ self.whitening
        flat = self.mean + self.network(x)[0] @ self.spread
        return self.basis.decode(flat.unflatten(-1, (-1, 3)))


def train_signal_network(
    substrates: Substrates, signals: Signals, basis: SpectralBasis, seed: int
) -> SignalNetwork:
    """Adam on the mean squared coefficient error of split `train`; `signals` are of all shapes.

    The error is that of the coefficients' principal scores, the same up to a constant and a factor.
    """
    index = [i for i, split in enumerate(substrates.split) if split == "train"]
    generator = torch.Generator().manual_seed(seed)
    clean = signals.attenuation[index]
    seen = torch.cat([clean, *(add_rician(clean, snr, generator) for snr in TRAINING_SNR)])
    features = fit_harmonics(signals.acquisition, seen).invariants
    centre = features.mean(0)
    _, singular, directions = torch.linalg.svd(features - centre, full_matrices=False)
    kept = singular > SMALLEST_FEATURE * singular[0]
    whitening = directions[kept].T / singular[kept] * len(features) ** 0.5
    answer = basis.encode(substrates.take(index).points).flatten(-2)
    mean = answer.mean(0)
    _, _, principal = torch.linalg.svd(answer - mean, full_matrices=False)
    spread = principal[:ANSWERS]
    scores = (answer - mean) @ spread.T
    scale = float(scores.square().mean().sqrt())
    goal = (scores / scale).repeat(1 + len(TRAINING_SNR), 1)
    network = _trained((features - centre) @ whitening, goal, generator)
    return SignalNetwork(basis, centre, whitening, network, mean, scale * spread)


@dataclass(frozen=True, eq=False)
class _Regression(Problem):
    """Batches of an order that is drawn anew every epoch."""

    x: Float[Tensor, "shape input"]
    goal: Float[Tensor, "shape answer"]

    def draw(self, generator: torch.Generator, done: int) -> list[Batch]:
        """Signals and answers of all shapes."""
        order = torch.randperm(len(self.x), generator=generator).split(BATCH)
        return [(self.x[rows], self.goal[rows]) for rows in order]

    def loss(self, network: Callable[..., Tensor], batch: Batch) -> Tensor:
        """Mean squared error."""
        return (network(batch[0]) - batch[1]).square().mean()


def _trained(x: Tensor, goal: Tensor, generator: torch.Generator) -> nn.Sequential:
    sizes = (x.shape[1], WIDTH, WIDTH, goal.shape[1])
    network = perceptron(sizes, (1.0, 1.0, 1.0), generator, x.dtype)
    recipe = Recipe(
        EPOCHS * -(-len(x) // BATCH),
        lambda network: [torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)],
        lambda optimiser, steps: ConstantLR(optimiser, 1.0, 0),
    )
    label = "training the signal network"
    return perceptron_of(fit(network, _Regression(x, goal), recipe, generator, label).state)


def descend(
    target: Target,
    model: ShapeModel,
    tissue: Tissue,
    basis: Basis,
    start: tuple[int, Tensor],
    iterations: int,
) -> tuple[Float[Tensor, "point 3"], float]:
    """The published inversion: AdamW on a latent offset, and on a turn; the best iterate's points.

    The loss is the mean squared attenuation difference; also returns the lowest. The gradient runs
    back through the frozen span of each iterate. Starts from a training shape's latent numbers and
    a rotation.
    """
    if basis.kind != "krylov":
        raise ConfigError(
            f"experiment: adamw descends in a Krylov basis, not in {basis.kind!r}. Leave the "
            "method out, or set reconstruct.basis.kind to krylov."
        )
    origin = model.latents[start[0]]
    offset = torch.zeros(len(origin), dtype=torch.float64, requires_grad=True)
    turn = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.AdamW([offset, turn], lr=DESCENT_RATE, weight_decay=0.0)
    best, lowest = model.decode(origin), [float("inf")]

    for _ in progress(range(iterations), "AdamW", note=lambda: f"loss {lowest[-1]:.3g}"):
        optimiser.zero_grad()
        points = model.decode(origin + offset)
        rotation = start[1] @ rotation_matrix(turn)
        loss = _loss(target, model, tissue, basis, points, rotation)
        if float(loss) < lowest[-1]:
            lowest.append(float(loss))
            best = (points @ rotation.T).detach()
        loss.backward()
        optimiser.step()
    return best, lowest[-1]


def _loss(
    target: Target,
    model: ShapeModel,
    tissue: Tissue,
    basis: Basis,
    points: Tensor,
    rotation: Tensor,
) -> Tensor:
    mesh = model.basis.template.with_points(points.detach(), "iterate")
    span = krylov_span(mesh, tissue, basis.degree, basis.blocks or USUAL_BLOCKS)
    reduced = project(span, points, tissue)
    acquisition = target.acquisition.rotated(rotation.T)
    attenuation = simulate_reduced(reduced, acquisition).abs() / unweighted(reduced, acquisition)
    return (attenuation - target.attenuation).square().mean()
