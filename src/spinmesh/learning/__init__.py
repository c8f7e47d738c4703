"""How networks are built and trained, whatever they learn."""

from spinmesh.learning.checkpoint import Checkpoint, fingerprint
from spinmesh.learning.fit import Batch, Fitted, Problem, Recipe, fit
from spinmesh.learning.network import perceptron, perceptron_of

__all__ = [
    "Batch",
    "Checkpoint",
    "Fitted",
    "Problem",
    "Recipe",
    "fingerprint",
    "fit",
    "perceptron",
    "perceptron_of",
]
