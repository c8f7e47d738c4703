"""Stages 3 and 4 of the configuration: reconstruction and synthesis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from spinmesh.config.physics import AcquisitionSection
from spinmesh.config.section import Section
from spinmesh.config.shapes import Range

if TYPE_CHECKING:
    from spinmesh.inversion import ReconstructionSpec, ShapeModelSpec
    from spinmesh.synthesis import ImageSpec, SampleSpec, ScoreSpec


class ShapeModelSection(Section):
    """The latent space of shapes."""

    kind: Literal["autoencoder", "pca", "best", "variational"] = "autoencoder"
    """best: autoencoder or PCA, by validation error; variational: wants thousands of shapes."""
    latent: PositiveInt = 16
    """Numbers that describe a shape."""
    modes: PositiveInt = 256
    """Functions that shapes are expanded in: polynomials, then eigenfunctions of the template."""
    degree: NonNegativeInt = 3
    """Of the polynomials that come before the eigenfunctions."""
    scores: PositiveInt = 64
    """Principal components of the expansion that the network works with."""
    width: PositiveInt = 128
    """Units of a hidden layer."""
    epochs: PositiveInt = 1500
    """Passes over the training shapes."""
    learning_rate: PositiveFloat = 3e-4
    """Of AdamW."""
    weight_decay: NonNegativeFloat = 1.0
    """Of AdamW."""
    latent_noise: NonNegativeFloat = 0.05
    """Standard deviation of the noise added to latents in training; smooths the decoder."""

    def spec(self) -> ShapeModelSpec:
        """What `spinmesh.inversion.train_shape_model` asks for."""
        from spinmesh.inversion import ShapeModelSpec

        return ShapeModelSpec(**self.model_dump())


class SignalSection(Section):
    """A measured signal: a csv table, or one voxel of a NIfTI image."""

    csv: str | None = None
    """One row per measurement with a column `signal` or `attenuation`."""
    nifti: str | None = None
    """A 4-D image, measurements last."""
    voxel: tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt] | None = None
    """Index of the voxel, counted from 0; needed with `nifti`."""
    snr: PositiveFloat = 50.0
    """Signal-to-noise ratio of the unweighted measurement."""
    acquisition: AcquisitionSection | None = None
    """How it was measured; null: like the section `acquisition`."""

    @model_validator(mode="after")
    def _one_of_the_two(self) -> SignalSection:
        if (self.csv is None) == (self.nifti is None):
            raise ValueError("give either `csv` or `nifti`")
        if (self.nifti is None) != (self.voxel is None):
            raise ValueError("`voxel: [i, j, k]` goes with `nifti`, and only with it")
        return self

    def files(self) -> dict[str, str]:
        """The files it names, keyed by where it names them."""
        own = {"csv": self.csv, "nifti": self.nifti}
        found = {key: path for key, path in own.items() if path is not None}
        if self.acquisition is not None:
            found |= {f"acquisition.{key}": p for key, p in self.acquisition.files().items()}
        return found


class Reconstruct(Section):
    """Stage 3: from a signal to a mesh."""

    shape_model: ShapeModelSection = ShapeModelSection()
    """The latent space and its training."""
    pose: Literal["known", "unknown"] = "known"
    """unknown: a rotation is found together with the shape."""
    iterations: PositiveInt = 20
    """Gauss-Newton steps at most, for the start that goes on."""
    starts: PositiveInt = 3
    """Shapes the optimisation starts from."""
    scouts: PositiveInt = 2
    """Steps each start gets before the best goes on."""
    noise_floor: PositiveFloat = 1e-3
    """Added to the noise, in attenuation: what mesh and shape model cannot represent."""
    tolerance: PositiveFloat = 1e-3
    """A step that lowers the cost by less than this fraction is the last."""
    signal: SignalSection | None = None
    """Your measured signal; null: the simulated target of `mesh.target`."""

    def spec(self) -> ReconstructionSpec:
        """What `spinmesh.inversion.reconstruct` asks for."""
        from spinmesh.inversion import ReconstructionSpec

        return ReconstructionSpec(**self.model_dump(exclude={"shape_model", "signal"}))


class Images(Section):
    """Cross-section images of packed substrates: axon 1, outside -1."""

    count: int = Field(1600, ge=2)
    """How many, held-out ones included."""
    held_out_fraction: float = Field(0.25, gt=0, lt=1)
    """Fraction made of test substrates, which the model never sees."""
    pixels: int = Field(32, ge=8, multiple_of=8)
    """Along each side; a multiple of 8."""
    field_of_view_um: PositiveFloat = 20.0
    """Along each side; the cell is periodic."""
    volume_fraction: Range = (0.2, 0.4)
    """[low, high] of the area that axons cover; random packing jams near 0.5."""
    attempts: PositiveInt = 20
    """Attempts to fill one image."""

    def spec(self) -> ImageSpec:
        """What `spinmesh.synthesis.pack_cross_sections` asks for."""
        from spinmesh.synthesis import ImageSpec

        values = self.model_dump()
        return ImageSpec(field_of_view=values.pop("field_of_view_um"), **values)


class ScoreModelSection(Section):
    """The network that learns the score, and the SDE it learns it for."""

    sde: Literal["ve", "vp", "sub-vp"] = "ve"
    """Linear SDE whose Malliavin weight is the regression target."""
    sde_parameters: dict[str, float] = Field(default_factory=dict)
    """Overrides of that SDE's constants, such as sigma_max or beta_max."""
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

    def spec(self) -> ScoreSpec:
        """What `spinmesh.synthesis.train_score` asks for."""
        from spinmesh.synthesis import ScoreSpec

        return ScoreSpec(**self.model_dump())


class Samples(Section):
    """What is drawn from the trained model."""

    sampler: Literal["heun", "euler_maruyama"] = "heun"
    """heun: the probability flow; euler_maruyama: the reverse SDE."""
    steps: int = Field(24, ge=2)
    """Noise levels on the way."""
    count: int = Field(256, ge=2)
    """How many images."""
    guidance: NonNegativeFloat = 1.0
    """0: ignore the signal; 1: the posterior; above 1: exaggerate it."""

    def spec(self) -> SampleSpec:
        """What `spinmesh.synthesis.draw_images` asks for."""
        from spinmesh.synthesis import SampleSpec

        return SampleSpec(**self.model_dump())


class Synthesise(Section):
    """Stage 4: images."""

    images: Images = Images()
    """The training and test set."""
    score_model: ScoreModelSection = ScoreModelSection()
    """The network and its training."""
    samples: Samples = Samples()
    """The synthetic images."""
