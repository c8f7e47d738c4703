"""Score models: forward equations, Malliavin weights to regress, training, and samplers."""

from spinmesh.scores.equations import VE, VP, SubVP
from spinmesh.scores.fractional import FractionalVP
from spinmesh.scores.malliavin import ElementwiseWeight, bismut_step, simulate_weight
from spinmesh.scores.model import ScoreModel, train_score
from spinmesh.scores.nonlinear import (
    AllenCahn,
    DoubleWell,
    OwnDrift,
    RationalDrift,
    equation_named,
    student_t,
)
from spinmesh.scores.samplers import draw, quick_sampler
