"""Stage 3 of the configuration: reconstruction."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from spinmesh.settings.physics import AcquisitionFiles, Basis
from spinmesh.settings.setting import Setting, TrainingSetting


class ShapeTraining(Setting):
    """The latent space of shapes, and how it is learned."""

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


class SignalSection(Setting):
    """A measured signal: a csv table, or one voxel, a region or every voxel of a NIfTI image."""

    FILE_KEYS = ("csv", "nifti", "roi", "mask")

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
    acquisition: AcquisitionFiles | None = None
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


class Free(Setting):
    """A quantity of the tissue that is found together with the shape.

    A priori its logarithm is normal about the value in `tissue`.
    """

    quantity: Literal["diffusivity", "t2", "density", "permeability"]
    """density counts relative to the compartments not named, so it is a volume fraction."""
    compartments: tuple[int, ...] = ()
    """Labels it is found for, with one factor for all; two for a membrane; none: all there are."""
    spread: PositiveFloat = Field(0.3, allow_inf_nan=False)
    """Prior standard deviation of its logarithm."""

    @property
    def label(self) -> str:
        """Words for a message or a table, such as `permeability 1-2`."""
        return " ".join([self.quantity, "-".join(map(str, self.compartments))]).strip()


class Reconstruct(TrainingSetting):
    """Stage 3: from a signal to a mesh, and where the shape model is trained."""

    shape_model: ShapeTraining = ShapeTraining()
    """The latent space and its training."""
    pose: Literal["known", "unknown"] = "known"
    """unknown: a rotation is found together with the shape."""
    free: tuple[Free, ...] = ()
    """Quantities of the tissue that are found as well."""
    iterations: PositiveInt = 20
    """Gauss-Newton steps at most, for the starts that go on."""
    patience: NonNegativeInt = 0
    """Steps in a row that gain next to nothing (3 `tolerance`) before the end; 0: goes on."""
    starts: PositiveInt = 3
    """Shapes the optimisation starts from."""
    scouts: NonNegativeInt = 2
    """Steps each start gets before the best `modes` and a spare one go on."""
    modes: PositiveInt = 1
    """Shapes that end as modes of the posterior; from 2 on one is the point reflection."""
    samples: NonNegativeInt = 64
    """Draws from the posterior."""
    moves: NonNegativeInt = 0
    """Moves of each draw per temperature (annealed importance sampling); 0: Laplace's draws."""
    noise_floor: PositiveFloat = 1e-3
    """Attenuation added in quadrature to the noise: what mesh and shape model cannot represent."""
    tolerance: PositiveFloat = 1e-3
    """A step that lowers the cost by less than this fraction is the last."""
    minimum_volume: float = 0.02
    """Smallest element Jacobian of a mesh, as a fraction of the template's."""
    basis: Basis = Basis(tolerance=1e-4)
    """Reduced basis of every iterate; its error is a tenth of the default noise floor."""
    signal: SignalSection | None = None
    """Your measured signal; null: the simulated target of `mesh.target`."""

    @model_validator(mode="after")
    def _each_quantity_once(self) -> Reconstruct:
        labels = [free.label for free in self.free]
        if len(set(labels)) < len(labels):
            raise ValueError(f"`free` names a quantity twice: {labels}")
        return self
