"""Short trainings of every network that a stage or an estimator has, with all but the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from spinmesh.bundles import ImageSet
from spinmesh.estimators import Examples
from spinmesh.estimators.ensemble import train_sound_model
from spinmesh.estimators.examples import Names
from spinmesh.estimators.flow import train_flow
from spinmesh.mesh import Substrates, SweptDisk, sample_substrates, swept_disk
from spinmesh.scores import train_score
from spinmesh.settings import ShapeTraining
from spinmesh.settings.maps import FlowTraining
from spinmesh.settings.respiratory import Afen, SoundFeatures
from spinmesh.settings.synthesise import ScoreTraining
from spinmesh.shapes import train_shape_model
from spinmesh.sounds.features import kinds

# By name: the training, its arguments, and where in its answer is what it learnt.
Training = tuple[Callable[..., Any], tuple[Any, ...], Callable[[Any], torch.Tensor]]
FEATURES = SoundFeatures(mel_bands=8, cepstral=3)
NAMES = ("autoencoder", "variational", "denoiser", "malliavin-a", "flow", "sounds")


@pytest.fixture(params=NAMES)
def training(request: pytest.FixtureRequest, image_set: ImageSet) -> Training:
    """Each of them in turn."""
    name = request.param
    if name in ("autoencoder", "variational"):
        settings = ShapeTraining(kind=name, latent=4, modes=20, scores=8, width=16, epochs=10)
        settings = settings.replace(learning_rate=1e-2)
        arguments = (_shapes(), settings, 1)
        return train_shape_model, arguments, lambda model: model.loss_history[:, 1:]
    if name in ("denoiser", "malliavin-a"):
        score = ScoreTraining(target=name, iterations=8, batch=9, width=8)
        return train_score, (image_set, score, 1), lambda model: model.loss_history
    if name == "flow":
        flow = FlowTraining(members=1, transforms=2, width=16, iterations=40, batch=33)
        return train_flow, (_examples(), [None], flow, 1), lambda model: model.losses
    afen = Afen(width=8, iterations=8, batch=9, trees=3, repeats=1)
    parts = (_examples(), _examples(1))
    arguments = (*parts, afen, FEATURES, 1)
    return train_sound_model, arguments, lambda model: model.members(parts[1])["attention"]


def _shapes() -> Substrates:
    template = swept_disk(SweptDisk(rings=1, layers=5, radius_um=1.5, length_um=10.0))
    ranges = {"radius": (0.8, 2.0), "bend": (0.0, 0.2), "bead_amplitude": (0.1, 0.3)}
    ranges |= {"bead_count": (1.0, 3.0), "twist": (0.0, 1.0)}
    return sample_substrates(template, {"combined": 60}, ranges, {"train": 0.8, "test": 0.2}, 3)


def _examples(seed: int = 0) -> Examples:
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(60) // 3 % 3
    table = torch.randn(60, 3, generator=generator, dtype=torch.float64) + label[:, None]
    pictures = torch.randn(60, 2, sum(kinds(FEATURES)), 32, generator=generator)
    names = Names(("a", "b", "c"), ("1",) * 3, ("d",), ("1",), classes=("x", "y", "z"))
    return Examples(torch.arange(60) // 2, names, label, table[:, :1] ** 2, table, pictures)
