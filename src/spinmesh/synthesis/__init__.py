"""Synthetic cross-section images: packed substrates, Malliavin scores, samplers, evaluation."""

from spinmesh.synthesis.axons import Axons, find_axons, image_statistics, resimulate
from spinmesh.synthesis.bundles import (
    BundleSpec,
    bundle_acquisition,
    joined_images,
    simulate_bundles,
)
from spinmesh.synthesis.chains import (
    bismut_chain,
    forward_chain,
    local_gains,
    pilot_gains,
    simulate_weight,
)
from spinmesh.synthesis.comparison import (
    Drawn,
    draw_model,
    reference,
    score_models,
    summarise_models,
)
from spinmesh.synthesis.conditional import Calibration, ConditionalSpec, evaluate_conditional
from spinmesh.synthesis.evaluation import (
    Synthesis,
    compare,
    radial_spectrum,
    sliced_w2,
    synthesise,
    two_point,
)
from spinmesh.synthesis.features import Features
from spinmesh.synthesis.fractional import FractionalVP, reverse_fractional
from spinmesh.synthesis.image_mean import ImageMean
from spinmesh.synthesis.images import ImageSet, ImageSpec, pack_cross_sections
from spinmesh.synthesis.likelihood import log_likelihood
from spinmesh.synthesis.malliavin import (
    ElementwiseWeight,
    MatrixWeight,
    bismut_step,
    linear_weight,
    pilot_gain,
)
from spinmesh.synthesis.model import ScoreModel, ScoreSpec, train_score
from spinmesh.synthesis.network import Perceptron, UNet, seeded_unet
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
from spinmesh.synthesis.point_sets import (
    PointDraws,
    PointSpec,
    draw_points,
    score_all_points,
    score_points,
    summarise_points,
)
from spinmesh.synthesis.posterior import Draws, draw_posterior, known_protocol
from spinmesh.synthesis.protocol import Protocol
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
from spinmesh.synthesis.targets import Denoising, Problem, WeightRegression, problem
from spinmesh.synthesis.training import FitSpec, Fitted, Runtime, fit

__all__ = [
    "SDE",
    "SDES",
    "VE",
    "VP",
    "AllenCahn",
    "Axons",
    "BundleSpec",
    "Calibration",
    "ChainSDE",
    "ConditionalSpec",
    "CoupledDrift",
    "Denoiser",
    "Denoising",
    "DoubleWell",
    "Drawn",
    "Draws",
    "ElementwiseWeight",
    "Features",
    "FitSpec",
    "Fitted",
    "FractionalVP",
    "ImageMean",
    "ImageSet",
    "ImageSpec",
    "LinearSDE",
    "MatrixWeight",
    "MeanWeight",
    "OwnDrift",
    "Perceptron",
    "PointDraws",
    "PointSpec",
    "Problem",
    "Protocol",
    "Runtime",
    "SampleSpec",
    "Scalings",
    "ScoreModel",
    "ScoreSpec",
    "SeparableSDE",
    "StudentT",
    "SubVP",
    "Synthesis",
    "UNet",
    "WeightRegression",
    "bismut_chain",
    "bismut_step",
    "bundle_acquisition",
    "compare",
    "dpm_solver_2m",
    "draw_images",
    "draw_model",
    "draw_points",
    "draw_posterior",
    "euler_maruyama",
    "evaluate_conditional",
    "exponential",
    "find_axons",
    "fit",
    "forward_chain",
    "guided",
    "heun",
    "image_statistics",
    "joined_images",
    "known_protocol",
    "linear_weight",
    "local_gains",
    "log_likelihood",
    "make_sde",
    "noise_levels",
    "pack_cross_sections",
    "pilot_gain",
    "pilot_gains",
    "probability_flow",
    "problem",
    "quick_sampler",
    "radial_spectrum",
    "rational_drift",
    "reference",
    "resimulate",
    "reverse_fractional",
    "score_all_points",
    "score_models",
    "score_points",
    "seeded_unet",
    "simulate_bundles",
    "simulate_weight",
    "sliced_w2",
    "splitting",
    "summarise_models",
    "summarise_points",
    "synthesise",
    "train_score",
    "two_point",
    "within_range",
]
