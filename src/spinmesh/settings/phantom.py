"""Phantoms: the section `phantom` of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from spinmesh.settings.physics import AcquisitionFiles
from spinmesh.settings.setting import Setting

Point = tuple[float, float, float]
Curve = Annotated[tuple[Point, ...], Field(min_length=2)]
Size = tuple[PositiveFloat, PositiveFloat, PositiveFloat]
CROSSING = (
    ((-25.0, -6.0, 0.0), (0.0, 10.0, 0.0), (25.0, -6.0, 0.0)),
    ((-6.0, -25.0, 0.0), (6.0, 25.0, 0.0)),
)


class FibreField(Setting):
    """Where fibres, cells and free water are, in world axes: x right, y front, z up."""

    bundles_mm: tuple[Curve, ...] = Field(CROSSING, min_length=1)
    """Control points of each bundle's Bezier curve, two at least."""
    bundle_radius_mm: PositiveFloat = 5.0
    """Of the tube around each curve."""
    extent_mm: Size = (22.0, 22.0, 6.0)
    """Semi-axes of the ellipsoid outside of which is air."""
    water_centre_mm: Point = (12.0, 12.0, 0.0)
    """Centre of a ball of free water."""
    water_radius_mm: NonNegativeFloat = 4.0
    """Its radius; 0 for none."""
    samples: PositiveInt = 4
    """Samples along each side of a voxel, for partial volumes."""


class Material(Setting):
    """Unweighted signal of a material."""

    density: PositiveFloat
    """Proton density relative to free water."""
    t2_ms: PositiveFloat
    """Transverse relaxation time."""


class Filling(Setting):
    """What bundles, cells and water are made of."""

    axons: PositiveInt = 2
    """Substrates drawn from stage 1 for each bundle."""
    axon_fraction: float = Field(0.6, ge=0, le=1)
    """Part of a bundle inside axons."""
    along_um2_per_ms: PositiveFloat = 1.8
    """Hindered diffusivity between axons, along them."""
    across_um2_per_ms: PositiveFloat = 0.7
    """Hindered diffusivity between axons, across them, and between cells."""
    dispersion_rad: NonNegativeFloat = 0.0
    """Standard deviation of the axons' tilt in either direction, anew in each voxel."""
    cell_radius_um: PositiveFloat = 5.0
    """Of the spheres that the background holds."""
    cell_fraction: float = Field(0.6, ge=0, le=1)
    """Part of the background inside them."""
    intrinsic_um2_per_ms: PositiveFloat = 2.0
    """Diffusivity inside axons and cells."""
    free_water_um2_per_ms: PositiveFloat = 3.0
    """Diffusivity of the free water."""
    fibre: Material = Material(density=0.7, t2_ms=70.0)
    """Of a voxel full of fibres."""
    cells: Material = Material(density=0.8, t2_ms=90.0)
    """Of the background."""
    water: Material = Material(density=1.0, t2_ms=1000.0)
    """Of the free water."""
    amplitude: PositiveFloat = 1000.0
    """Unweighted signal of free water at TE = 0, in the image's unit."""


class PhantomSettings(Setting):
    """A diffusion series of a field of substrates: `snakemake phantom`."""

    field: FibreField = FibreField()
    """Where things are."""
    filling: Filling = Filling()
    """What they are made of."""
    shape: tuple[PositiveInt, PositiveInt, PositiveInt] = (24, 24, 5)
    """Voxels along each axis; the grid is centred on the field."""
    voxel_mm: Size = (2.0, 2.0, 2.5)
    """Their size."""
    orientation: Literal["RAS", "LAS", "LPS", "RPS"] = "LAS"
    """Where the voxel axes point; scanners often write LAS."""
    snr: PositiveFloat = 30.0
    """Of the unweighted signal of a voxel full of fibres (Rician noise); .inf for none."""
    label: str = Field("phantom", pattern=r"^[A-Za-z0-9]+$")
    """BIDS subject label: sub-<label>."""
    acquisition: AcquisitionFiles | None = None
    """Directions in world axes; null: like the section `acquisition`."""
