"""Stage 4 of the configuration: synthesis."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from spinmesh.settings.setting import Range, Setting, TrainingSetting


class ImageSettings(Setting):
    """Images of packed axons: 1 inside, -1 outside."""

    count: int = Field(1600, ge=2)
    """How many, held-out ones included."""
    held_out_fraction: float = Field(0.25, gt=0, lt=1)
    """Fraction that the model never sees; of cut substrates, made of test substrates."""
    pixels: int = Field(32, ge=8, multiple_of=8)
    """Along each side; a multiple of 8."""
    field_of_view_um: PositiveFloat = 20.0
    """Along each side; the cell is periodic."""
    volume_fraction: Range = (0.2, 0.4)
    """[low, high] of the area that axons cover, between 0 and 1; random packing jams near 0.5."""
    attempts: PositiveInt = 20
    """Attempts to fill one image."""

    @model_validator(mode="after")
    def _fraction_is_one(self) -> ImageSettings:
        if not 0 < self.volume_fraction[0] <= self.volume_fraction[1] < 1:
            raise ValueError(f"volume_fraction {self.volume_fraction}; give 0 < low <= high < 1")
        return self


class BundleSettings(Setting):
    """Packed bundles of straight axons, simulated inside and between; sizes as in `images`."""

    radius_um: Range = (0.8, 2.0)
    """[low, high] of an image's mean radius; below a quarter of the field of view."""
    variation: PositiveFloat = 0.3
    """Standard deviation of the radii over their mean (gamma law)."""
    gap_um: PositiveFloat = 0.1
    """Least distance between axons."""
    diffusivity_um2_per_ms: PositiveFloat = 2.0
    """Inside and between."""
    mesh_size_um: PositiveFloat = 0.8
    """Of the triangles between axons; 0.8 leaves errors of some 2e-3 of S0."""
    b_s_per_mm2: tuple[PositiveFloat, ...] = Field((1000.0, 2500.0, 5000.0), min_length=1)
    """Measured at each Delta across (x and y) and along (z) the axons."""
    delta_ms: PositiveFloat = 10.0
    """Pulse duration."""
    Delta_ms: tuple[PositiveFloat, ...] = Field((20.0, 50.0), min_length=1)
    """Pulse separations, onset to onset."""
    snr: PositiveFloat = 50.0
    """Of the unweighted signal (Rician noise); .inf for none."""
    shards: PositiveInt = 2
    """Jobs the images are divided among."""


EquationName = Literal["ve", "vp", "sub-vp", "double-well", "student-t", "rational", "allen-cahn"]
LINEAR: tuple[EquationName, ...] = ("ve", "vp", "sub-vp")
Target = Literal["denoiser", "dsm", "malliavin-a", "malliavin-c", "local-dsm", "ito"]
# Samplers of a linear equation's denoiser, and those of any equation's score.
DenoiserSampler = Literal["heun", "dpm_solver_2m", "exponential", "fractional"]
ScoreSampler = Literal["splitting", "euler_maruyama"]
Sampler = Literal["auto", DenoiserSampler, ScoreSampler]


def check_sampler(sde: EquationName, sampler: Sampler, place: str = "samples") -> None:
    """ValueError, naming `place`, if `sampler` wants the denoiser that only a linear sde has."""
    if sde not in LINEAR and sampler in get_args(DenoiserSampler):
        raise ValueError(
            f"{place}: sampler {sampler} wants a denoiser, which {sde} has none of; choose from "
            f"{', '.join(('auto', *get_args(ScoreSampler)))}"
        )


class ScoreTraining(Setting):
    """The network that learns the score, and the SDE it learns it for."""

    sde: EquationName = "ve"
    """Equation that turns images into noise."""
    sde_parameters: dict[str, float] = Field(default_factory=dict)
    """Overrides of that SDE's constants, such as sigma_max or beta_max."""
    target: Target = "denoiser"
    """What is regressed: the closed weight of a linear SDE (denoiser, dsm) or that of a chain."""
    width: int = Field(32, ge=8, multiple_of=8)
    """Channels of the first level; a multiple of 8."""
    iterations: PositiveInt = 1200
    """Training steps."""
    batch: PositiveInt = 32
    """Images per step."""
    learning_rate: PositiveFloat = 2e-3
    """Of Adam."""
    condition_dropout: float = Field(0.1, ge=0, le=1)
    """Fraction of images trained without their signal, for the unconditional prior."""
    noise: tuple[float, PositiveFloat] = (-0.3, 1.3)
    """Mean and standard deviation of log(sigma) in training."""

    @model_validator(mode="after")
    def _target_is_one_of_the_equation(self) -> ScoreTraining:
        lacking: tuple[Target, ...] = ()
        if self.sde not in LINEAR:
            lacking = ("denoiser", "dsm")
        if self.sde == "allen-cahn":
            lacking = (*lacking, "malliavin-a", "ito")
        if self.target in lacking:
            rest = [name for name in get_args(Target) if name not in lacking]
            raise ValueError(
                f"target {self.target} is not for {self.sde}; choose from {', '.join(rest)}"
            )
        return self


class Sampling(Setting):
    """What is drawn from the trained model."""

    sampler: Sampler = "auto"
    """heun, dpm_solver_2m: the probability flow; the others: reverse SDEs. auto: exponential for a
    linear sde, splitting for the others, which have no denoiser."""
    steps: int = Field(96, ge=2)
    """Noise levels on the way."""
    count: int = Field(256, ge=2)
    """How many images."""
    guidance: NonNegativeFloat = 1.0
    """0: ignore the signal; 1: the posterior; above 1: exaggerate it."""
    hurst: float = Field(0.8, gt=0, lt=1)
    """Hurst index of the fractional noise, for the sampler `fractional`."""


class Synthesise(TrainingSetting):
    """Stage 4: images, and where the score model is trained."""

    source: Literal["substrates", "bundles"] = "substrates"
    """Images of cut substrates with their axons' signals, or of packed bundles with all water's."""
    images: ImageSettings = ImageSettings()
    """The training and test set."""
    bundles: BundleSettings = BundleSettings()
    """Of `source: bundles`."""
    score_model: ScoreTraining = ScoreTraining()
    """The network and its training."""
    samples: Sampling = Sampling()
    """The synthetic images."""

    @model_validator(mode="after")
    def _axons_fit(self) -> Synthesise:
        widest = self.images.field_of_view_um / 4
        if self.source == "bundles" and not 0 < self.bundles.radius_um[1] < widest:
            raise ValueError(
                f"bundles.radius_um {self.bundles.radius_um} in a cell of "
                f"{self.images.field_of_view_um:g} um; give 0 < low <= high < {widest:g}"
            )
        return self

    @model_validator(mode="after")
    def _sampler_serves(self) -> Synthesise:
        check_sampler(self.score_model.sde, self.samples.sampler)
        return self
