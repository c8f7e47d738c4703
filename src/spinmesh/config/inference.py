"""Stages 3 and 4 of the configuration: reconstruction and synthesis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

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
    from spinmesh.sequence import Acquisition
    from spinmesh.synthesis import BundleSpec, ConditionalSpec, ImageSpec, SampleSpec, ScoreSpec


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
    """A measured signal: a csv table, or one voxel, a region or every voxel of a NIfTI image."""

    csv: str | None = None
    """One row per measurement with a column `signal` or `attenuation`."""
    nifti: str | None = None
    """A 4-D image, measurements last; goes with one of `voxel`, `roi` and `mask`."""
    voxel: tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt] | None = None
    """Index of the voxel, counted from 0."""
    roi: str | None = None
    """A mask on the image's grid, whose mean signal is taken."""
    mask: str | None = None
    """A mask every voxel of which is reconstructed by itself; figure and summary show its mean."""
    shards: PositiveInt = 2
    """Into how many jobs the voxels of `mask` are divided."""
    snr: PositiveFloat | None = None
    """Signal-to-noise ratio of a voxel's unweighted signal; null: from repeated measurements."""
    acquisition: AcquisitionSection | None = None
    """How it was measured; null: like the section `acquisition`."""

    @model_validator(mode="after")
    def _one_of_the_two(self) -> SignalSection:
        if (self.csv is None) == (self.nifti is None):
            raise ValueError("give either `csv` or `nifti`")
        places = [name for name in ("voxel", "roi", "mask") if getattr(self, name) is not None]
        if self.csv is not None and places:
            raise ValueError(f"`{places[0]}` goes with `nifti`, and only with it")
        if self.nifti is not None and len(places) != 1:
            raise ValueError("with `nifti` give one of `voxel: [i, j, k]`, `roi` and `mask`")
        return self

    def single(self) -> dict[str, Any]:
        """What `spinmesh.io.targets.read_target` asks for: of a mask, the mean."""
        values = self.model_dump(include={"csv", "nifti", "voxel", "snr"})
        return values | {"roi": self.mask if self.roi is None else self.roi}

    def scattered(self) -> dict[str, Any] | None:
        """What `spinmesh.io.targets.read_voxels` asks for; None without a mask."""
        return None if self.mask is None else self.model_dump(include={"nifti", "mask", "snr"})

    def files(self) -> dict[str, str]:
        """The files it names, keyed by where it names them."""
        own = {name: getattr(self, name) for name in ("csv", "nifti", "roi", "mask")}
        found = {key: path for key, path in own.items() if path is not None}
        if self.acquisition is not None:
            found |= {f"acquisition.{key}": p for key, p in self.acquisition.files().items()}
        return found


class FreeSection(Section):
    """A quantity of the tissue that is found together with the shape."""

    quantity: Literal["diffusivity", "t2", "density", "permeability"]
    """density is a volume fraction: name some of the compartments."""
    compartments: tuple[int, ...] = ()
    """Labels it is found for, with one factor for all; two for a membrane; none: all there are."""
    spread: PositiveFloat = 0.3
    """Prior standard deviation of its logarithm about the value in `tissue`."""


class Reconstruct(Section):
    """Stage 3: from a signal to a mesh."""

    shape_model: ShapeModelSection = ShapeModelSection()
    """The latent space and its training."""
    pose: Literal["known", "unknown"] = "known"
    """unknown: a rotation is found together with the shape."""
    free: tuple[FreeSection, ...] = ()
    """Quantities of the tissue that are found as well."""
    iterations: PositiveInt = 20
    """Gauss-Newton steps at most, for the start that goes on."""
    patience: NonNegativeInt = 0
    """Steps in a row that gain next to nothing (3 `tolerance`) before the end; 0: goes on."""
    starts: PositiveInt = 3
    """Shapes the optimisation starts from."""
    scouts: PositiveInt = 2
    """Steps each start gets before the best goes on."""
    modes: PositiveInt = 1
    """Shapes that go on, modes of the posterior; from 2 on one is the point reflection."""
    samples: NonNegativeInt = 64
    """Draws from the posterior."""
    moves: NonNegativeInt = 0
    """Moves of each draw per temperature; 0: draws from the Laplace approximation, at no cost."""
    noise_floor: PositiveFloat = 1e-3
    """Added to the noise, in attenuation: what mesh and shape model cannot represent."""
    tolerance: PositiveFloat = 1e-3
    """A step that lowers the cost by less than this fraction is the last."""
    signal: SignalSection | None = None
    """Your measured signal; null: the simulated target of `mesh.target`."""

    def spec(self) -> ReconstructionSpec:
        """What `spinmesh.inversion.reconstruct` asks for."""
        from spinmesh.inversion import Free, ReconstructionSpec

        free = tuple(Free(**section.model_dump()) for section in self.free)
        values = self.model_dump(exclude={"shape_model", "signal", "free"})
        return ReconstructionSpec(free=free, **values)


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


class Bundles(Section):
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

    def spec(self, images: Images) -> BundleSpec:
        """What `spinmesh.synthesis.simulate_bundles` asks for."""
        from spinmesh.synthesis import BundleSpec

        return BundleSpec(
            images.spec(),
            self.radius_um,
            self.variation,
            self.gap_um,
            self.diffusivity_um2_per_ms,
            self.mesh_size_um,
            self.snr,
        )

    def acquisition(self) -> Acquisition:
        """The measurements in the order of the images' features."""
        from spinmesh.synthesis import bundle_acquisition
        from spinmesh.units import b_from_s_per_mm2

        b = tuple(b_from_s_per_mm2(value) for value in self.b_s_per_mm2)
        return bundle_acquisition(b, self.delta_ms, self.Delta_ms)


Equation = Literal["ve", "vp", "sub-vp", "double-well", "student-t", "rational", "allen-cahn"]
Sampler = Literal[
    "auto", "heun", "dpm_solver_2m", "exponential", "fractional", "splitting", "euler_maruyama"
]


def check_sampler(sde: Equation, sampler: Sampler, where: str) -> None:
    """ValueError if `sampler` wants the denoiser that only a linear equation has."""
    anything = ("auto", "splitting", "euler_maruyama")
    if sde not in ("ve", "vp", "sub-vp") and sampler not in anything:
        raise ValueError(
            f"{where}: sampler {sampler} wants a denoiser, which {sde} has none of; choose from "
            f"{', '.join(anything)}"
        )


class ScoreModelSection(Section):
    """The network that learns the score, and the SDE it learns it for."""

    sde: Equation = "ve"
    """Equation that turns images into noise."""
    sde_parameters: dict[str, float] = Field(default_factory=dict)
    """Overrides of that SDE's constants, such as sigma_max or beta_max."""
    target: Literal["denoiser", "dsm", "malliavin-a", "malliavin-c", "local-dsm", "ito"] = (
        "denoiser"
    )
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

    def spec(self) -> ScoreSpec:
        """What `spinmesh.synthesis.train_score` asks for."""
        from spinmesh.synthesis import ScoreSpec

        return ScoreSpec(**self.model_dump())


class Samples(Section):
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

    def spec(self) -> SampleSpec:
        """What `spinmesh.synthesis.draw_images` asks for."""
        from spinmesh.synthesis import SampleSpec

        return SampleSpec(**self.model_dump())


class Conditional(Section):
    """How the images drawn for held-out signals are judged; of `source: bundles`."""

    signals: int = Field(200, ge=2)
    """Held-out signals."""
    samples: int = Field(64, ge=2)
    """Images drawn for each."""
    simulated: PositiveInt = 2
    """Of these, how many are simulated again."""
    steps: int = Field(12, ge=2)
    """Of the sampler: dpm_solver_2m for a linear sde, splitting for the others."""
    guidance: NonNegativeFloat = 1.0
    """As in `samples`."""

    def spec(self) -> ConditionalSpec:
        """What `spinmesh.synthesis.evaluate_conditional` asks for."""
        from spinmesh.synthesis import ConditionalSpec

        return ConditionalSpec(**self.model_dump())


class Synthesise(Section):
    """Stage 4: images."""

    source: Literal["substrates", "bundles"] = "substrates"
    """Images of cut substrates with their axons' signals, or of packed bundles with all water's."""
    images: Images = Images()
    """The training and test set."""
    bundles: Bundles = Bundles()
    """Of `source: bundles`."""
    score_model: ScoreModelSection = ScoreModelSection()
    """The network and its training."""
    samples: Samples = Samples()
    """The synthetic images."""
    conditional: Conditional = Conditional()
    """Calibration of images given a signal: `snakemake conditional`."""

    @model_validator(mode="after")
    def _sampler_serves(self) -> Synthesise:
        check_sampler(self.score_model.sde, self.samples.sampler, "samples")
        return self
