"""Settings of the comparison of score models: the key `evaluation` of its configuration."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from spinmesh.settings.setting import Setting
from spinmesh.settings.synthesise import (
    EquationName,
    Sampler,
    Sampling,
    ScoreTraining,
    Target,
    check_sampler,
)


class Contestant(Setting):
    """A model that is compared: all but this is as in `synthesise.score_model` and `samples`."""

    sde: EquationName = "ve"
    """Equation that turns images into noise."""
    sde_parameters: dict[str, float] = Field(default_factory=dict)
    """Overrides of its constants."""
    target: Target = "denoiser"
    """What is regressed."""
    sampler: Sampler = "auto"
    """How it draws."""
    steps: int | None = Field(None, ge=2)
    """Noise levels on the way; null: as in `synthesise.samples`."""
    weights_of: str | None = None
    """Another model whose network it draws with; then nothing is trained."""


DOUBLE_WELL: dict[str, Any] = {
    "sde": "double-well",
    "sde_parameters": {"sigma": 1.2, "horizon": 6.0},
}
ALLEN_CAHN: dict[str, Any] = {
    "sde": "allen-cahn",
    "sde_parameters": {"kappa": 0.05, "sigma": 1.2, "horizon": 6.0},
}
CONTESTANTS = {
    "edm": Contestant(),
    "vp": Contestant(sde="vp", sde_parameters={"beta_max": 15.5}, target="dsm"),
    "double-well": Contestant(target="malliavin-a", **DOUBLE_WELL),
    "local": Contestant(target="local-dsm", **DOUBLE_WELL),
    "ito": Contestant(target="ito", **DOUBLE_WELL),
    "allen-cahn": Contestant(target="malliavin-c", **ALLEN_CAHN),
    "fractional": Contestant(weights_of="edm", sampler="fractional"),
}


class PointEvaluation(Setting):
    """The comparison on two-dimensional sets whose law is known."""

    sets: tuple[Literal["eight-gaussians", "checkerboard", "swiss-roll"], ...] = (
        "eight-gaussians",
        "checkerboard",
        "swiss-roll",
    )
    """Which sets."""
    models: tuple[Literal["edm", "vp", "double-well"], ...] = ("edm", "vp", "double-well")
    """Which models."""
    seeds: PositiveInt = 3
    """How many trainings of each."""
    points: int = Field(8000, ge=2)
    """Train points."""
    draws: int = Field(32_000, ge=2)
    """Points drawn; with as many as there are train points, chance alone costs up to 1.4."""
    iterations: PositiveInt = 3000
    """Training steps."""
    batch: PositiveInt = 256
    """Points per step."""
    width: int = Field(128, ge=2)
    """Units of a hidden layer."""
    learning_rate: PositiveFloat = 4e-3
    """Of Adam."""
    evaluations: int = Field(80, ge=4)
    """Of the network, for one drawn point."""


class Evaluation(Setting):
    """Score models compared at equal network, budget and seeds."""

    seeds: PositiveInt = 1
    """How many trainings of each model of images: seed, seed + 1, ..."""
    models: dict[str, Contestant] = Field(default_factory=lambda: dict(CONTESTANTS))
    """Which models, by name."""
    plane: PointEvaluation = PointEvaluation()
    """Points instead of images."""

    @model_validator(mode="after")
    def _weights_exist(self) -> Evaluation:
        for name, model in self.models.items():
            other = model.weights_of
            if other is not None and (other not in self.trained or other == name):
                trained = ", ".join(self.trained)
                raise ValueError(
                    f"model `{name}`: no model `{other}` is trained; there are {trained}"
                )
            network_of = self.models[other or name]
            check_sampler(network_of.sde, model.sampler, f"model `{name}`")
        return self

    @property
    def trained(self) -> list[str]:
        """The models that have a network of their own."""
        return [name for name, model in self.models.items() if model.weights_of is None]

    def network_of(self, name: str) -> str:
        """The model whose network `name` draws with."""
        return self.models[name].weights_of or name

    def score_model(self, name: str, common: ScoreTraining) -> dict[str, Any]:
        """How to train a model, as plain values of a `ScoreTraining`."""
        overrides = self.models[name].model_dump(include={"sde", "sde_parameters", "target"})
        return common.model_dump() | overrides

    def samples(self, name: str, common: Sampling) -> dict[str, Any]:
        """How to draw from a model, as plain values of `Sampling`."""
        model = self.models[name]
        return common.model_dump() | {
            "sampler": model.sampler,
            "steps": model.steps or common.steps,
        }

    def jobs(self) -> list[str]:
        """Every model and seed, as in the names of their stores."""
        return [f"{name}/{seed}" for name in self.models for seed in range(self.seeds)]
