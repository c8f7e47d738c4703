"""Reduced operators: one seam (`project`), two bases (`krylov_span`, `laplace_span`)."""

from spinmesh.reduction.reduced import ReducedModel, project
from spinmesh.reduction.span import Span, factorise, krylov_span, laplace_span

__all__ = ["ReducedModel", "Span", "factorise", "krylov_span", "laplace_span", "project"]
