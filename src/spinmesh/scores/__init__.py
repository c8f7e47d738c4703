"""Score models: forward equations, Malliavin weights to regress, training, and samplers."""

from spinmesh.scores.equations import VE, VP, SubVP
from spinmesh.scores.fractional import FractionalVP
from spinmesh.scores.malliavin import ElementwiseWeight, bismut_step, simulate_weight
from spinmesh.scores.model import ScoreModel, train_score
from spinmesh.scores.nonlinear import (
    AllenCahn,
    CoupledDrift,
    DoubleWell,
    OwnDrift,
    RationalDrift,
    equation_named,
    student_t,
)
from spinmesh.scores.samplers import draw_images, quick_sampler

__all__ = [
    "VE",
    "VP",
    "AllenCahn",
    "CoupledDrift",
    "DoubleWell",
    "ElementwiseWeight",
    "FractionalVP",
    "OwnDrift",
    "RationalDrift",
    "ScoreModel",
    "SubVP",
    "bismut_step",
    "draw_images",
    "equation_named",
    "quick_sampler",
    "simulate_weight",
    "student_t",
    "train_score",
]
