"""Score models of images: forward equations, Malliavin weights, networks, samplers."""

from spinmesh.synthesis.chains import (
    bismut_chain,
    forward_chain,
    local_gains,
    pilot_gains,
    simulate_weight,
)
from spinmesh.synthesis.features import Features
from spinmesh.synthesis.fractional import FractionalVP, reverse_fractional
from spinmesh.synthesis.image_mean import ImageMean
from spinmesh.synthesis.likelihood import log_likelihood
from spinmesh.synthesis.malliavin import (
    ElementwiseWeight,
    MatrixWeight,
    bismut_step,
    linear_weight,
    pilot_gain,
)
from spinmesh.synthesis.model import ScoreModel, ScoreSpec, train_score
from spinmesh.synthesis.network import UNet, seeded_unet
from spinmesh.synthesis.nonlinear import (
    SDES,
    AllenCahn,
    CoupledDrift,
    DoubleWell,
    OwnDrift,
    StudentT,
    make_sde,
    rational_drift,
)
from spinmesh.synthesis.sampling import (
    SampleSpec,
    dpm_solver_2m,
    draw_images,
    euler_maruyama,
    exponential,
    guided,
    heun,
    probability_flow,
    quick_sampler,
    splitting,
)
from spinmesh.synthesis.scalings import Denoiser, MeanWeight, Scalings, within_range
from spinmesh.synthesis.sde import (
    SDE,
    VE,
    VP,
    ChainSDE,
    LinearSDE,
    SeparableSDE,
    SubVP,
    noise_levels,
)
from spinmesh.synthesis.targets import Denoising, WeightRegression, problem

__all__ = [
    "SDE",
    "SDES",
    "VE",
    "VP",
    "AllenCahn",
    "ChainSDE",
    "CoupledDrift",
    "Denoiser",
    "Denoising",
    "DoubleWell",
    "ElementwiseWeight",
    "Features",
    "FractionalVP",
    "ImageMean",
    "LinearSDE",
    "MatrixWeight",
    "MeanWeight",
    "OwnDrift",
    "SampleSpec",
    "Scalings",
    "ScoreModel",
    "ScoreSpec",
    "SeparableSDE",
    "StudentT",
    "SubVP",
    "UNet",
    "WeightRegression",
    "bismut_chain",
    "bismut_step",
    "dpm_solver_2m",
    "draw_images",
    "euler_maruyama",
    "exponential",
    "forward_chain",
    "guided",
    "heun",
    "linear_weight",
    "local_gains",
    "log_likelihood",
    "make_sde",
    "noise_levels",
    "pilot_gain",
    "pilot_gains",
    "probability_flow",
    "problem",
    "quick_sampler",
    "rational_drift",
    "reverse_fractional",
    "seeded_unet",
    "simulate_weight",
    "splitting",
    "train_score",
    "within_range",
]
