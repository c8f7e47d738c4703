"""Estimators on one contract: examples in, class probabilities or posterior samples out."""

from spinmesh.estimators.classifier import Classifier, MajorityClass
from spinmesh.estimators.examples import Examples, Names
from spinmesh.estimators.metrics import ClassScores, coverage, ranks
