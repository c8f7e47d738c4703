"""A latent space of shapes: principal components, and an autoencoder that starts from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import silu

from spinmesh.errors import ConfigError, MeshError
from spinmesh.inversion import variational
from spinmesh.inversion.spectral import SpectralBasis, point_matrices, spectral_basis
from spinmesh.mesh import Substrates, deform
from spinmesh.progress import progress

# A component whose spread is below this fraction of the first one's is rounding, not shape.
NEGLIGIBLE_SPREAD = 1e-8
# Fraction of the training shapes that choose the epoch when the table has no validation split.
VALIDATION_FRACTION = 0.15
REPORT_EVERY = 10
# Further shapes are deformed this many at a time.
CHUNK = 256
# The network's input layer starts with weights this much smaller than usual, so that it begins as a
# slowly varying function of z; with the usual ones it fits the training shapes and no others.
INPUT_SCALE = 0.3


@dataclass(frozen=True)
class ShapeModelSpec:
    """How a shape model is trained.

    Shapes are expanded in `modes` functions: polynomials up to `degree`, then Laplacian modes.
    `scores` principal components are kept for the network to predict; `kind` "best" keeps
    whichever of autoencoder and PCA has the lower validation error. "variational" learns the
    encoder as well (variational.py) and wants thousands of shapes; `weight_decay` and
    `latent_noise` are not for it.
    """

    kind: Literal["autoencoder", "pca", "best", "variational"] = "autoencoder"
    latent: int = 16
    modes: int = 256
    degree: int = 3
    scores: int = 64
    width: int = 128
    epochs: int = 1500
    learning_rate: float = 3e-4
    weight_decay: float = 1.0
    latent_noise: float = 0.05

    def __post_init__(self) -> None:
        wrong = [
            n for n in ("latent", "modes", "scores", "width", "epochs") if getattr(self, n) < 1
        ]
        if wrong:
            raise ConfigError(f"shape model: {wrong} must be at least 1.")
        if self.kind not in ("autoencoder", "pca", "best", "variational"):
            raise ConfigError(
                f"shape model: kind {self.kind!r}; give autoencoder, pca, best or variational."
            )


@dataclass(frozen=True, eq=False)
class Gaussian:
    """A normal law over the latent space."""

    mean: Float[Tensor, " latent"]
    covariance: Float[Tensor, "latent latent"]


@dataclass(frozen=True, eq=False)
class ShapeModel:
    """Latent numbers z <-> point coordinates on one template.

    `decode` is smooth: a fixed linear map, plus (autoencoder) a network with SiLU units. `errors`
    holds the RMS point distance (um) on held-out shapes of the autoencoder, of PCA with as many
    numbers, and of the mean training shape. `latents` are those of every shape of the table the
    model was trained from, `training` marks the ones it learned from.
    """

    basis: SpectralBasis
    kind: str
    state: Mapping[str, Tensor]
    latents: Float[Tensor, "substrate latent"]
    training: Bool[Tensor, " substrate"]
    errors: Mapping[str, float]
    loss_history: Float[Tensor, "report 3"]  # epoch, training loss, validation loss

    @property
    def prior(self) -> Gaussian:
        """Mean and covariance of the training latents; a standard normal if trained towards it."""
        if self.kind == "variational":
            size = self.latents.shape[1]
            zero = torch.zeros(size, dtype=torch.float64)
            return Gaussian(zero, torch.eye(size, dtype=torch.float64))
        latents = self.latents[self.training]
        return Gaussian(latents.mean(0), torch.atleast_2d(torch.cov(latents.T)))

    @property
    def mean_points(self) -> Float[Tensor, "point 3"]:
        """The mean training shape (um): the mean of the points, not the decoded mean latent."""
        return self.basis.decode(self.state["mean"].unflatten(-1, (-1, 3)))

    def decode(self, z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch point 3"]:
        """Points (um); differentiable in z by forward and reverse mode."""
        return _points(self.basis, self.state, _decode(self.state, z, self.kind))

    def encode(self, points: Float[Tensor, "*batch point 3"]) -> Float[Tensor, "*batch latent"]:
        """Latent numbers of shapes on the template."""
        return _encode(self.state, _scores(self.basis, self.state, points), self.kind)


def train_shape_model(
    substrates: Substrates,
    spec: ShapeModelSpec,
    seed: int,
    further: Float[Tensor, "further parameter"] | None = None,
) -> ShapeModel:
    """Fit PCA and the autoencoder on split `train`; choose the epoch on `validation`.

    Without a validation split a seeded 15% of the training shapes choose. Errors are measured on
    `test` if there is one. Both encode by the leading whitened principal scores. PCA decodes only
    those; the autoencoder adds a network that predicts, from the same z, what they leave out. Its
    last layer starts at zero, so it begins as PCA. (A network in the encoder as well fitted the
    training shapes ten times better and validation shapes worse: there are hundreds of shapes, not
    the publication's 26,000.) Loss: volume-weighted squared displacement as a fraction of the
    shapes' variance. All in float64.

    `further` are parameters (`deform`) of more training shapes for the variational kind, which cost
    no signal.
    """
    training, validation, held_out = _split(substrates, seed)
    points = substrates.points
    modes = min(spec.modes, len(substrates.template.points))
    basis = spectral_basis(substrates.template, modes, spec.degree)
    state = _principal_components(basis, points[training], spec)
    generator = torch.Generator().manual_seed(seed)
    scores = _scores(basis, state, points)
    kinds = ("autoencoder", "pca")
    if spec.kind == "variational":
        kinds = ("variational", "pca")
        more = _further_scores(basis, state, further)
        seen = torch.cat([scores[training], more])
        own, history = _train_variational(basis, seen, scores[validation], spec, generator)
        state |= own
    else:
        state |= _network(len(state["spread"]), spec.latent, spec, generator)
        state, history = _train(state, scores[training], scores[validation], spec, generator)

    errors = {k: _held_out_error(basis, state, k, points[held_out]) for k in kinds}
    mean = basis.decode(state["mean"].unflatten(-1, (-1, 3)))
    errors["mean_shape"] = _rms(mean - points[held_out])
    kind: str = spec.kind
    if kind == "best":
        chosen = {k: _held_out_error(basis, state, k, points[validation]) for k in kinds}
        kind = min(chosen, key=lambda k: chosen[k])
    known = torch.zeros(len(substrates), dtype=torch.bool)
    known[training] = True
    latents = _encode(state, scores, kind)
    return ShapeModel(basis, kind, state, latents, known, errors, history)


def _split(substrates: Substrates, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of training, validation and held-out shapes."""
    index = {
        name: torch.tensor(
            [i for i, s in enumerate(substrates.split) if s == name], dtype=torch.long
        )
        for name in ("train", "validation", "test")
    }
    training, validation, test = index["train"], index["validation"], index["test"]
    if len(validation) == 0:
        order = torch.randperm(len(training), generator=torch.Generator().manual_seed(seed))
        count = int(VALIDATION_FRACTION * len(training)) + 1
        training, validation = training[order[count:]].sort().values, training[order[:count]]
    if len(training) < 3:
        raise MeshError(
            f"shape model: {len(training)} training shapes. Sample more substrates, or give split "
            "`train` a larger fraction."
        )
    return training, validation, test if len(test) else validation


def _principal_components(
    basis: SpectralBasis, points: Float[Tensor, "substrate point 3"], spec: ShapeModelSpec
) -> dict[str, Tensor]:
    """Mean and orthonormal components of the coefficients; M-orthonormal modes weigh by volume."""
    coefficients = basis.encode(points).flatten(-2)
    mean = coefficients.mean(0)
    _, singular, components = torch.linalg.svd(coefficients - mean, full_matrices=False)
    spread = singular / (len(points) - 1) ** 0.5
    kept = min(spec.scores, int((spread > NEGLIGIBLE_SPREAD * spread[0]).sum()))
    if kept < spec.latent:
        raise MeshError(
            f"shape model: {len(points)} training shapes span {kept} dimensions, fewer than "
            f"latent = {spec.latent}. Sample more substrates or lower `latent`."
        )
    return {
        "mean": mean,
        "components": components[:kept],
        "spread": spread[:kept],
        "latent_spread": spread[: spec.latent].clone(),
    }


def _network(
    scores: int, latent: int, spec: ShapeModelSpec, generator: torch.Generator
) -> dict[str, Tensor]:
    """Weights of the decoder's network, two hidden layers; the last layer is zero."""
    state = {}
    sizes = (latent, spec.width, spec.width, scores)
    gain = (INPUT_SCALE, 1.0, 0.0)
    for layer in range(3):
        shape = (sizes[layer + 1], sizes[layer])
        weight = torch.randn(shape, generator=generator, dtype=torch.float64)
        state[f"network.{layer}.weight"] = gain[layer] * (2 / sizes[layer]) ** 0.5 * weight
        state[f"network.{layer}.bias"] = torch.zeros(shape[0], dtype=torch.float64)
    return state


def _perceptron(state: Mapping[str, Tensor], x: Tensor) -> Tensor:
    for layer in range(3):
        x = x @ state[f"network.{layer}.weight"].T + state[f"network.{layer}.bias"]
        x = silu(x) if layer < 2 else x
    return x


def _scores(basis: SpectralBasis, state: Mapping[str, Tensor], points: Tensor) -> Tensor:
    return (basis.encode(points).flatten(-2) - state["mean"]) @ state["components"].T


def _points(basis: SpectralBasis, state: Mapping[str, Tensor], scores: Tensor) -> Tensor:
    flat = state["mean"] + scores @ state["components"]
    return basis.decode(flat.unflatten(-1, (-1, 3)))


def _further_scores(
    basis: SpectralBasis, state: Mapping[str, Tensor], parameters: Tensor | None
) -> Tensor:
    """Scores of closed-form shapes; encoding and projection are one linear map."""
    if parameters is None:
        return state["components"].new_zeros(0, len(state["components"]))
    components = state["components"].unflatten(-1, (-1, 3))
    onto = torch.einsum("pm,kma->pak", basis.dual, components).flatten(0, 1)
    mean = state["components"] @ state["mean"]
    return torch.cat(
        [
            (deform(basis.template, some) - basis.template.points).flatten(-2) @ onto - mean
            for some in progress(parameters.split(CHUNK), "further shapes")
        ]
    )


def _train_variational(
    basis: SpectralBasis,
    scores: Tensor,
    validation: Tensor,
    spec: ShapeModelSpec,
    generator: torch.Generator,
) -> tuple[dict[str, Tensor], Tensor]:
    unit = float(point_matrices(basis.template)[1].sum()) ** 0.5
    settings = (spec.latent, spec.width, spec.epochs, spec.learning_rate)
    return variational.train_variational(scores, validation, unit, *settings, generator)


def _encode(state: Mapping[str, Tensor], scores: Tensor, kind: str = "autoencoder") -> Tensor:
    """The leading scores in units of their spread, or what the variational encoder gives."""
    if kind == "variational":
        return variational.encode(state, scores)
    spread = state["latent_spread"]
    return scores[..., : len(spread)] / spread


def _decode(state: Mapping[str, Tensor], z: Tensor, kind: str) -> Tensor:
    """Principal scores; the network's output is in units of the first component's spread."""
    if kind == "variational":
        return variational.decode(state, z)
    spread = state["latent_spread"]
    rest = len(state["spread"]) - len(spread)
    linear = torch.cat([z * spread, z.new_zeros(*z.shape[:-1], rest)], -1)
    if kind == "pca":
        return linear
    return linear + state["spread"][0] * _perceptron(state, z)


def _train(
    state: dict[str, Tensor],
    scores: Tensor,
    validation: Tensor,
    spec: ShapeModelSpec,
    generator: torch.Generator,
) -> tuple[dict[str, Tensor], Tensor]:
    """AdamW on all training scores at once; returns the state of lowest validation loss."""
    weights = {k: v.clone().requires_grad_() for k, v in state.items() if k.startswith("network.")}
    live = state | weights
    optimiser = torch.optim.AdamW(
        weights.values(), lr=spec.learning_rate, weight_decay=spec.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, spec.learning_rate, total_steps=spec.epochs, pct_start=0.05
    )
    variance = scores.square().sum(-1).mean()
    history: list[list[float]] = []
    best, lowest = state, [float("inf")]

    def note() -> str:
        return f"validation {lowest[-1]:.2e}"

    for epoch in progress(range(spec.epochs), "training the autoencoder", note=note):
        if epoch % REPORT_EVERY == 0 or epoch == spec.epochs - 1:
            with torch.no_grad():
                losses = [float(_loss(live, x) / variance) for x in (scores, validation)]
            history.append([float(epoch), *losses])
            if losses[1] < lowest[-1]:
                lowest.append(losses[1])
                best = {k: v.detach().clone() for k, v in live.items()}
        optimiser.zero_grad()
        (_loss(live, scores, spec.latent_noise, generator) / variance).backward()
        optimiser.step()
        schedule.step()
    return best, torch.tensor(history, dtype=torch.float64)


def _loss(
    state: Mapping[str, Tensor],
    scores: Tensor,
    latent_noise: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Mean squared score error; noise on z keeps the decoder smooth between training shapes."""
    z = _encode(state, scores)
    if latent_noise > 0:
        z = z + latent_noise * torch.randn(z.shape, generator=generator, dtype=z.dtype)
    return (_decode(state, z, "autoencoder") - scores).square().sum(-1).mean()


def _held_out_error(
    basis: SpectralBasis, state: Mapping[str, Tensor], kind: str, points: Tensor
) -> float:
    z = _encode(state, _scores(basis, state, points), kind)
    return _rms(_points(basis, state, _decode(state, z, kind)) - points)


def _rms(difference: Float[Tensor, "*batch point 3"]) -> float:
    return float(difference.square().sum(-1).mean().sqrt())
