"""The choice of a reduced basis: fixed by the user, or grown until the signals are good enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar, runtime_checkable

from spinmesh.bloch_torrey.discretisation import discretisation_error
from spinmesh.bloch_torrey.error_estimate import (
    FIRST_RATIO,
    estimated_error,
    largest_change,
    representatives,
    residual_block,
)
from spinmesh.bloch_torrey.signal import Signals
from spinmesh.errors import ReductionError
from spinmesh.fem import assemble
from spinmesh.machine import available_memory
from spinmesh.mesh import TetMesh
from spinmesh.reduction import (
    Projection,
    ReducedModel,
    Span,
    krylov_projection,
    laplace_modes,
    shift_inverse,
    slowest_rate,
)
from spinmesh.sequence import Acquisition
from spinmesh.settings import Basis
from spinmesh.tissue import Tissue

# Without an acquisition there is no signal to measure: these serve most protocols to 1e-5.
USUAL_BLOCKS, USUAL_MODES = 3, 120
# A new block is this many random residuals, or this part of the basis if that is more.
COLUMNS, GROWTH = 10, 3
# The soma of a neuron at 1e-5 of S0 needs 1,212 functions; time and memory grow as their cube and
# square.
MOST_MODES = 1_300
FIRST_MODES = 40
# The adaptive Krylov basis starts from the polynomials and this many images of them.
FIRST_BLOCKS = 1

# Bytes at the peak, for each tet of 4 or 10 nodes: assembly, matrices and the preconditioner.
# Measured on balls of 4,096 to 262,144 tets: 2.4 to 2.5 kB and 13.5 to 18.5 kB (decision 0004); on
# periodic bundles of 80,220 to 320,880 curved tets 13.5 kB.
PER_TET = {4: 2_600, 10: 15_000}
# Bytes of the factors that eigenfunctions need, per unknown^(4/3) of a body as thick as long.
PER_FACTOR = 110
# dof x mode arrays of 8 bytes that live at once.
ARRAYS = 4

Enriched = Callable[[Projection], Projection]


@dataclass(frozen=True, eq=False)
class Reduction:
    """A basis, the operators in it, and how far the signals are estimated to be off."""

    span: Span
    reduced: ReducedModel
    error: float | None  # fraction of the unweighted signal; None for a basis of fixed size
    larger: Span | None = None  # what a grown Krylov basis was compared with; begins with `span`

    def discretisation_error(self, tissue: Tissue, acquisition: Acquisition) -> float:
        """Estimated error that the mesh's elements cause (docs/decisions/0004)."""
        return discretisation_error(self.span, self.reduced, tissue, acquisition)


def reduce_mesh(
    mesh: TetMesh, tissue: Tissue, acquisition: Acquisition, basis: Basis | None = None
) -> Reduction:
    """The reduced model of a mesh for an acquisition, from one assembly and one factorisation.

    The error estimate compares with the span enriched by shift-inverted residuals of its own
    reduced states (docs/decisions/0003); it knows nothing of the mesh's error. Raises MeshError,
    ConfigError, or ReductionError if the tolerance cannot be reached. Not differentiable: `project`
    on the returned span is.
    """
    basis = basis or Basis()
    check_memory(mesh, basis.kind)
    start = Projection.empty(mesh, assemble(mesh, tissue))
    # The slowest rate that matters: of the longest mode, or of what diffuses within the echo time.
    longest = max(sequence.echo_time for sequence in acquisition.sequences)
    return reduce_from(start, max(slowest_rate(mesh, tissue), 1 / longest), acquisition, basis)


def reduce_from(
    empty: Projection, shift: float, acquisition: Acquisition, basis: Basis
) -> Reduction:
    """The basis of assembled matrices; `shift` (1/ms) is the slowest rate that matters.

    Raises ReductionError if the tolerance cannot be reached.
    """
    matrices = empty.matrices

    def laplace(count: int) -> Projection:
        count = min(count, len(matrices.space) - 1)
        return empty.extended(laplace_modes(matrices, shift, count))

    if basis.kind == "laplace" and not basis.adaptive:
        return _reduction(laplace(basis.modes or USUAL_MODES))
    solve = shift_inverse(matrices, shift)
    if not basis.adaptive:
        return _reduction(krylov_projection(empty, solve, basis.degree, basis.blocks or 0))
    few = representatives(acquisition)

    def enriched(smaller: Projection) -> Projection:
        columns = max(COLUMNS, smaller.size // GROWTH)
        return smaller.extended(solve(residual_block(smaller, few, columns)))

    if basis.kind == "krylov":
        start = krylov_projection(empty, solve, basis.degree, FIRST_BLOCKS)
        smaller, larger, error = grown(
            start, enriched, lambda b: Signals.of(b.reduced, few), basis.tolerance
        )
        span = replace(larger.span, vectors=larger.span.vectors[:, : smaller.size])
        return Reduction(span, smaller.reduced, error, larger.span)
    return _grown_laplace(laplace, enriched, few, basis.tolerance)


def _reduction(basis: Projection, error: float | None = None) -> Reduction:
    return Reduction(basis.span, basis.reduced, error)


@runtime_checkable
class Growing(Protocol):
    """A basis that knows its size."""

    @property
    def size(self) -> int: ...


Grown = TypeVar("Grown", bound=Growing)


def grown(
    basis: Grown,
    enriched: Callable[[Grown], Grown],
    observed: Callable[[Grown], Signals],
    tolerance: float,
) -> tuple[Grown, Grown, float]:
    """Add residual blocks until they change no signal by more than the tolerance.

    Returns the basis, the larger one that says so, and the estimated error.
    """
    signals, previous = observed(basis), 0.0
    while basis.size <= MOST_MODES:
        larger = enriched(basis)
        finer = observed(larger)
        change = largest_change(signals, finer)
        error = estimated_error(previous, change)
        if error <= tolerance:
            return basis, larger, error
        basis, signals, previous = larger, finer, change
    raise _out_of_reach("krylov", basis.size, previous, tolerance)


def _grown_laplace(
    modes: Callable[[int], Projection],
    enriched: Enriched,
    acquisition: Acquisition,
    tolerance: float,
) -> Reduction:
    """Double the eigenfunctions, cut at a gap, until residuals change no signal too much."""
    count = FIRST_MODES
    while True:
        basis = modes(count)
        signals, finer = (Signals.of(b.reduced, acquisition) for b in (basis, enriched(basis)))
        # One block of residuals takes most of the error away: modes converge slowly, they do not.
        error = largest_change(signals, finer) / (1 - FIRST_RATIO / 2)
        if error <= tolerance:
            return _reduction(basis, error)
        most = min(MOST_MODES, len(basis.vectors) - 1)
        if count >= most:
            raise _out_of_reach("laplace", basis.size, error, tolerance)
        count = min(2 * count, most)


def _out_of_reach(kind: str, size: int, error: float, tolerance: float) -> ReductionError:
    remedy = "Raise `tolerance`, lower the strongest gradient, or cut the mesh into shorter pieces"
    if kind == "laplace":
        remedy = "Choose the krylov basis, or raise `tolerance`"
    return ReductionError(
        f"{kind} basis: {size} functions leave an estimated error of {error:.2g} of the unweighted "
        f"signal; {tolerance:g} was asked for. {remedy}."
    )


def needed_memory(mesh: TetMesh, kind: str = "krylov") -> int:
    """Bytes at the peak of reducing a mesh, to a factor of two.

    Laplace eigenfunctions factorise the matrix whatever its size; other kinds only where factors
    are small. Signals take no more, however many: measurements are worked on in chunks.
    """
    dofs = len(mesh.points)
    factors = PER_FACTOR * dofs ** (4 / 3) if kind == "laplace" else 0
    arrays = ARRAYS * 8 * dofs * USUAL_MODES
    return int(PER_TET[mesh.tets.shape[1]] * len(mesh.tets) + arrays + factors)


def check_memory(mesh: TetMesh, kind: str = "krylov") -> None:
    """ReductionError if a simulation would need more memory than there is."""
    needed, available = needed_memory(mesh, kind), available_memory()
    if needed > available:
        raise ReductionError(
            f"{mesh.name}: {len(mesh.tets):,} tets with {len(mesh.points):,} points need about "
            f"{needed / 1e9:.2g} GB of memory; {available / 1e9:.2g} GB are free. Coarsen the "
            "mesh, cut it into pieces, or go to a larger machine."
        )
