"""How networks are built and trained, whatever they learn."""

from spinmesh.learning.checkpoint import Checkpoint, fingerprint
from spinmesh.learning.fit import Batch, Problem, Recipe, fit
from spinmesh.learning.network import perceptron, perceptron_of
from spinmesh.learning.processes import train_on
