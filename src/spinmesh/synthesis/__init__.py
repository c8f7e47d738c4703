"""Synthetic cross-section images: packed substrates, Malliavin scores, samplers, evaluation."""

from spinmesh.synthesis.bundles import (
    BundleSpec,
    bundle_acquisition,
    joined_images,
    simulate_bundles,
)
from spinmesh.synthesis.evaluation import Synthesis, compare, synthesise
from spinmesh.synthesis.images import ImageSet, ImageSpec, pack_cross_sections
from spinmesh.synthesis.malliavin import (
    ElementwiseWeight,
    MatrixWeight,
    bismut_step,
    linear_weight,
    pilot_gain,
    simulate_weight,
)
from spinmesh.synthesis.network import Denoiser, UNet, seeded_unet
from spinmesh.synthesis.sampling import SampleSpec, draw_images, euler_maruyama, heun
from spinmesh.synthesis.sde import (
    VE,
    VP,
    DoubleWell,
    LinearSDE,
    SeparableSDE,
    SubVP,
    linear_sde,
    noise_levels,
)
from spinmesh.synthesis.training import ScoreModel, ScoreSpec, train_score

__all__ = [
    "VE",
    "VP",
    "BundleSpec",
    "Denoiser",
    "DoubleWell",
    "ElementwiseWeight",
    "ImageSet",
    "ImageSpec",
    "LinearSDE",
    "MatrixWeight",
    "SampleSpec",
    "ScoreModel",
    "ScoreSpec",
    "SeparableSDE",
    "SubVP",
    "Synthesis",
    "UNet",
    "bismut_step",
    "bundle_acquisition",
    "compare",
    "draw_images",
    "euler_maruyama",
    "heun",
    "joined_images",
    "linear_sde",
    "linear_weight",
    "noise_levels",
    "pack_cross_sections",
    "pilot_gain",
    "seeded_unet",
    "simulate_bundles",
    "simulate_weight",
    "synthesise",
    "train_score",
]
