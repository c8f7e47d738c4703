"""Maps of every voxel: what tissue is thought possible, and how its posterior is learnt."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from spinmesh.settings.physics import AcquisitionFiles
from spinmesh.settings.setting import Range, Setting, TrainingSetting


class TissueRanges(Setting):
    """[low, high] of what is drawn for each voxel, evenly unless said otherwise: the prior."""

    radius_um: Range = (0.5, 3.0)
    """Of axons, weighted by volume."""
    bead_amplitude: Range = (0.0, 0.6)
    """Of the radius along an axon, relative to its mean."""
    bead_period: Range = (4.0, 10.0)
    """From one bead to the next, in radii; axons of all these periods are mixed evenly."""
    orientation_order: Range = (0.1, 0.9)
    """Mean of P2(cos angle) between axons and their mean axis: 1 parallel, 0 all directions."""
    packed_fraction: Range = (0.15, 0.7)
    """Of the tissue inside axons with their myelin."""
    g_ratio: Range = (0.6, 0.95)
    """Inner over outer radius; myelin has no signal."""
    free_water_fraction: Range = (0.0, 1.0)
    """Of the unweighted signal; square of an even law, for most voxels have little."""
    diffusivity_inside_um2_per_ms: Range = (1.0, 3.0)
    """Of the water in axons."""
    diffusivity_between_um2_per_ms: Range = (1.0, 3.0)
    """Of the water between them, before they hinder it."""
    snr: Range = (10.0, 100.0)
    """Of the unweighted signal, Rician noise; even in its logarithm."""


class KernelNodes(Setting):
    """Simulations between which signals are polynomials of the tissue: Chebyshev nodes."""

    bead_amplitude: PositiveInt = 3
    """Of its square."""
    bead_period: PositiveInt = 6
    """Of the period, over which signals are averaged: Gauss' nodes."""
    packed_fraction: PositiveInt = 4
    """Of the fraction."""
    size: PositiveInt = 8
    """Of the logarithm of the radius."""
    diffusivity: PositiveInt = 3
    """Of the diffusivity."""
    packings: PositiveInt = 6
    """Packings of each fraction, whose signals are averaged."""
    axons: int = Field(24, ge=4)
    """In a packing."""
    shards: PositiveInt = 2
    """Jobs that the simulations are divided among."""


class FlowTraining(Setting):
    """Conditional neural spline flows, whose mixture is the posterior."""

    members: PositiveInt = 3
    """Flows, each of its own first weights."""
    transforms: PositiveInt = 3
    """Couplings of each."""
    width: PositiveInt = 128
    """Units of the two hidden layers of each."""
    iterations: PositiveInt = 4000
    """Steps of each; the weights kept are those of the lowest validation loss."""
    batch: PositiveInt = 512
    """Examples for a step."""
    learning_rate: PositiveFloat = 1e-3
    """Of Adam, falling to zero along a cosine."""
    validation_fraction: float = Field(0.1, gt=0, lt=1)
    """Of the groups, on which the weights are chosen."""


class PosteriorTraining(TrainingSetting):
    """What a posterior learns from."""

    substrates: PositiveInt = 30000
    """Tissues that are drawn."""
    voxels: PositiveInt = 4
    """Of each: other orientations, free water, noise."""
    flow: FlowTraining = FlowTraining()
    """The network."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the network is trained. cuda: the job asks for a GPU; auto: where it happens to have
    one."""


class MapPhantom(Setting):
    """A slice of known truth: quantities change along its axes, everything else is drawn."""

    shape: tuple[PositiveInt, PositiveInt] = (24, 16)
    """Voxels."""
    snr: PositiveFloat = 40.0
    """Of its unweighted signal."""


class Maps(Setting):
    """A posterior for every voxel: `make maps`."""

    run: str = Field("maps", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run; its results go to results/<run>/."""
    seed: NonNegativeInt = 1
    """Every random number follows from it."""
    acquisition: AcquisitionFiles
    """What is measured; at least 28 directions on every shell."""
    tissue: TissueRanges = TissueRanges()
    """The prior."""
    kernels: KernelNodes = KernelNodes()
    """The simulations."""
    posterior: PosteriorTraining = PosteriorTraining()
    """The training."""
    held_out: int = Field(4000, ge=2)
    """Substrates of no training, on which calibration is judged."""
    phantom: MapPhantom = MapPhantom()
    """The picture of known truth."""
