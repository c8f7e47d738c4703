"""Reduced operators: one seam (`project`), two bases (`krylov_span`, `laplace_span`)."""

from spinmesh.reduction.bases import (
    krylov_projection,
    krylov_span,
    laplace_modes,
    laplace_span,
    lowest_modes,
)
from spinmesh.reduction.batch import MOST_DENSE, reduce_shapes
from spinmesh.reduction.projection import Projection
from spinmesh.reduction.pushforward import push_forward
from spinmesh.reduction.reduced import ReducedModel, project, restricted, whitened
from spinmesh.reduction.shift_invert import conjugate_gradients, envelope, multigrid, shift_inverse
from spinmesh.reduction.span import Span, factorise, orthonormal, slowest_rate
from spinmesh.reduction.subspace import Subspace
