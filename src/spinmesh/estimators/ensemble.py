"""AFEN: a network with attention and boosted trees, which vote.

After arXiv 2405.05467, whose abstract alone could be read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
import xgboost
from jaxtyping import Float, UInt8
from torch import Tensor

from spinmesh.errors import ConfigError
from spinmesh.estimators.attention import AttentionNetwork, augmented, seeded_network
from spinmesh.estimators.classifier import Classification, Classifier, one_cycle
from spinmesh.estimators.examples import Examples, Names
from spinmesh.learning import Checkpoint, fingerprint, fit
from spinmesh.settings.respiratory import Afen, SoundFeatures
from spinmesh.sounds.features import kinds
from spinmesh.stored import quantity, store

# Images that are classified at once, which bounds memory.
CHUNK = 64
# Rounds of trees without progress on validation patients after which no more are grown.
PATIENCE = 40
# Part of the examples and of the columns that a tree is shown.
SUBSAMPLE, COLUMNS = 0.8, 0.3
# What is tried: weights of the network, the trees having the rest, and its temperatures.
WEIGHTS = torch.linspace(0, 1, 21, dtype=torch.float64)
TEMPERATURES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5)


@store("spinmesh/sound_model", version=1, stage="respiratory")
@dataclass(frozen=True, eq=False)
class SoundModel(Classifier):
    """The trained members, the network's weight in their vote and its temperature.

    `moments` are mean and deviation of the image's rows, `trees` XGBoost's own bytes; `features`
    are the settings that images and tables were made with.
    """

    names: Names
    features: SoundFeatures
    moments: Float[Tensor, "mean_deviation channel row"] = quantity("as named")
    state: dict[str, Tensor] = quantity()
    trees: UInt8[Tensor, " byte"] = quantity()
    weight: float = quantity()
    temperature: float = quantity()

    @cached_property
    def network(self) -> AttentionNetwork:
        """The network with the trained weights."""
        channels, classes = self.moments.shape[1], len(self.names.classes)
        width = self.state["exit.weight"].shape[1] // 4
        network = seeded_network(channels, kinds(self.features), width, classes, torch.Generator())
        network.load_state_dict(self.state)
        return network

    def members(self, examples: Examples) -> dict[str, Float[Tensor, "example class"]]:
        """Probabilities of each member alone, the network with attention first."""
        image, table = _inputs(examples)
        booster = xgboost.Booster(model_file=bytearray(self.trees.numpy().tobytes()))
        with torch.no_grad():
            parts = _standardised(image, self.moments).split(CHUNK)
            network = torch.cat([self.network(part) for part in parts])
        trees = booster.predict(xgboost.DMatrix(table.numpy()))
        attention = (network.double() / self.temperature).softmax(1)
        return {"attention": attention, "trees": torch.from_numpy(trees).double()}

    def probabilities(self, examples: Examples) -> Float[Tensor, "example class"]:
        """Of the vote."""
        network, trees = self.members(examples).values()
        return self.weight * network + (1 - self.weight) * trees


def train_sound_model(
    training: Examples,
    validation: Examples,
    settings: Afen,
    features: SoundFeatures,
    seed: int,
    checkpoint: str | Path | None = None,
    device: str = "cpu",
) -> SoundModel:
    """Train both members; validation examples choose the number of trees and the vote.

    The result depends on examples, settings and seed alone. Raises ConfigError for examples without
    image, table or label; see `learning.fit` for checkpoints.
    """
    image = _inputs(training)[0]
    if training.label is None or validation.label is None:
        raise ConfigError("sounds: examples without labels. Training needs a diagnosis for each.")
    deviation, mean = torch.std_mean(image, (0, 3))
    moments = torch.stack([mean, deviation.clamp_min(1e-6)])
    generator = torch.Generator(device).manual_seed(seed)
    classes = len(training.names.classes)
    rows = kinds(features)
    network = seeded_network(image.shape[1], rows, settings.width, classes, generator)
    augment = partial(augmented, bands=rows[0])
    inputs, label = _standardised(image, moments).to(device), training.label.to(device)
    problem = Classification(inputs, label, classes, settings.batch, augment)
    recipe = one_cycle(settings.iterations, settings.learning_rate, settings.weight_decay)
    run = fingerprint(image, training.label, settings, rows, seed, torch.__version__)
    state = Checkpoint(None if checkpoint is None else Path(checkpoint), run)
    fitted = fit(network, problem, recipe, generator, "training the network", checkpoint=state)
    trees = _grown(training, validation, settings, seed)
    model = SoundModel(training.names, features, moments, fitted.state, trees, 0.5, 1.0)
    return _calibrated(model, validation)


def _inputs(examples: Examples) -> tuple[Tensor, Tensor]:
    if examples.image is None or examples.table is None:
        raise ConfigError("sounds: examples without image or table. Make them by window_examples.")
    return examples.image, examples.table


def _standardised(image: Tensor, moments: Tensor) -> Tensor:
    mean, deviation = moments[..., None]
    return (image - mean) / deviation


def _grown(
    training: Examples, validation: Examples, settings: Afen, seed: int
) -> UInt8[Tensor, " byte"]:
    """Trees, as many as give validation examples the lowest loss."""
    data, judge = (
        xgboost.DMatrix(_inputs(part)[1].numpy(), part.label.numpy())  # type: ignore[union-attr]
        for part in (training, validation)
    )
    options = {
        "objective": "multi:softprob",
        "num_class": len(training.names.classes),
        "max_depth": settings.depth,
        "eta": settings.tree_learning_rate,
        "subsample": SUBSAMPLE,
        "colsample_bytree": COLUMNS,
        "nthread": torch.get_num_threads(),
        "seed": seed % 2**31,
    }
    booster = xgboost.train(
        options,
        data,
        settings.trees,
        evals=[(judge, "validation")],
        early_stopping_rounds=PATIENCE,
        verbose_eval=False,
    )
    best = booster[: booster.best_iteration + 1]
    return torch.from_numpy(np.frombuffer(best.save_raw("ubj"), dtype=np.uint8).copy())


def _calibrated(model: SoundModel, validation: Examples) -> SoundModel:
    """With the weight and temperature that make the labels of validation examples likeliest."""
    assert validation.label is not None
    best = -math.inf
    for temperature in TEMPERATURES:
        warm = replace(model, temperature=temperature)
        given = [p.gather(1, validation.label[:, None]) for p in warm.members(validation).values()]
        likelihood = (WEIGHTS * given[0] + (1 - WEIGHTS) * given[1]).log().mean(0)
        if float(likelihood.max()) > best:
            best, weight = float(likelihood.max()), float(WEIGHTS[likelihood.argmax()])
            model = replace(warm, weight=weight)
    return model
