"""Signals of a body in pieces, each a reduced model of its own, with a bound of the cuts' error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Complex, Float
from numpy import ndarray
from scipy.special import erfcinv
from torch import Tensor

from spinmesh.bloch_torrey import (
    Reduction,
    Signals,
    check_memory,
    reduce_from,
    simulate_reduced,
)
from spinmesh.bloch_torrey.program import longest_half
from spinmesh.bodies.cutting import Body, Piece, joined, piece_around
from spinmesh.bodies.heat import spins_from_cut
from spinmesh.machine import side_by_side
from spinmesh.mesh import TetMesh
from spinmesh.progress import progress
from spinmesh.reduction import Span, project, slowest_rate
from spinmesh.sequence import Acquisition
from spinmesh.settings import Basis
from spinmesh.settings.physics import LEAST_TOLERANCE
from spinmesh.tissue import Tissue

# Seeds of cores are this many times the usual halo apart.
CORE = 2.1
# The halo of a piece starts at this part of the usual one, and grows by this factor; most end near
# LIKELY of it.
FIRST, LARGER, LIKELY = 0.4, 1.2, 0.7
# A body of fewer halos is one piece; so is one whose pieces have together this many times its tets.
SHORTEST, MOST_REPEATED = 5.6, 8.0
# Part of the error that cores share by their water; the rest is shared equally.
BY_WATER = 0.75
# A core of little water may err by this much of its own signal.
LOOSEST = 0.1


@dataclass(frozen=True, eq=False)
class Cut:
    """Pieces of a body, and what they may cost."""

    pieces: list[Piece]
    share: Float[ndarray, " piece"]  # of the whole error that each piece may make; their sum is 1
    changed: float  # bound of what the cuts change in any signal, um^3 times spin density

    @cached_property
    def water(self) -> list[float]:
        """Spins of each core, um^3 times density."""
        spins = self.pieces[0].body.cells.mass.sum((1, 2))
        return [float(spins[piece.tets[piece.core]].sum()) for piece in self.pieces]

    def tolerances(self, tolerance: float) -> list[float]:
        """What the basis of each piece may err by, of its own signal: what the cuts have left."""
        left = tolerance * sum(self.water) - self.changed
        relative = [
            left * share / core for share, core in zip(self.share.tolist(), self.water, strict=True)
        ]
        return [min(max(each, LEAST_TOLERANCE), LOOSEST) for each in relative]

    @property
    def repeated(self) -> float:
        """How many tets the pieces have for each of the body."""
        every = sum(len(piece.tets) for piece in self.pieces)
        return every / len(self.pieces[0].body.mesh.tets)


def reach(tissue: Tissue, acquisition: Acquisition, tolerance: float) -> float:
    """Distance (um) along a line that a part `tolerance` of the spins covers in half a sequence."""
    fastest = float(torch.linalg.eigvalsh(tissue.diffusivity.detach()).max())
    return float(2 * np.sqrt(fastest * longest_half(acquisition)) * erfcinv(tolerance))


def longest_echo(acquisition: Acquisition) -> float:
    """ms, of the sequences that are used."""
    used = torch.unique(acquisition.timing).tolist()
    return max(acquisition.sequences[number].echo_time for number in used)


def cut_where_it_pays(
    mesh: TetMesh, tissue: Tissue, acquisition: Acquisition, tolerance: float
) -> Cut | None:
    """Pieces whose cuts change no signal by more than half the tolerance; None: better as one."""
    low, high = mesh.bounding_box
    if float((high - low).max()) < SHORTEST * reach(tissue, acquisition, tolerance):
        return None
    check_memory(mesh)
    cut = cut_body(Body.of(mesh, tissue), acquisition, tolerance)
    return None if len(cut.pieces) == 1 or cut.repeated > MOST_REPEATED else cut


def cut_body(
    body: Body, acquisition: Acquisition, tolerance: float, core: float | None = None
) -> Cut:
    """Each piece's halo grows until its bound is its share of half the tolerance.

    `core` is the distance of the cores' seeds, um. Most of the error is shared by the cores' water,
    for much water costs most; the rest equally: in a core of little water a large error of its own
    signal is small.
    """
    usual, time = reach(body.tissue, acquisition, tolerance), longest_half(acquisition)
    cores = body.cores(core) if core else joined(body, body.cores(CORE * usual), LIKELY * usual)
    left = _left(body, longest_echo(acquisition))
    water = np.array([float(left[tets].sum()) for tets in cores])
    share = BY_WATER * water / water.sum() + (1 - BY_WATER) / len(cores)
    pieces, changed = [], 0.0
    for tets, part in zip(cores, share.tolist(), strict=True):
        halo, most = FIRST * usual, tolerance / 2 * part * float(water.sum())
        piece = piece_around(body, tets, halo)
        while (bound := bound_of_cut(piece, time)) > most:
            halo *= LARGER
            piece = piece_around(body, tets, halo)
        pieces.append(piece)
        changed += bound
    return Cut(pieces, share, changed)


def bound_of_cut(piece: Piece, time: float) -> float:
    """Of what the cut changes in a signal whose halves last `time` (ms): twice u in either."""
    return 4 * spins_from_cut(piece, time)


def _left(body: Body, time: float) -> Float[ndarray, " tet"]:
    """Spins of each tet that T2 leaves; what walls take away is not known yet."""
    labels = torch.tensor(body.tissue.labels)
    rate = 1 / body.tissue.t2.detach()[torch.searchsorted(labels, body.mesh.compartment)]
    return (body.cells.mass.sum((1, 2)) * torch.exp(-time * rate)).numpy()


@dataclass(frozen=True, eq=False)
class Parts:
    """Sums over the pieces, and what they were made of."""

    signals: Signals
    basis_error: float  # of S0
    cut_bound: float  # of S0
    modes: tuple[int, ...]  # of each piece
    compartments: Signals | None = None  # a row for each label of the body; of packs unknown
    rows: Signals | None = None  # a row for each piece

    @property
    def words(self) -> str:
        """Estimated and bounded errors, as fractions of the unweighted signal."""
        if len(self.modes) == 1:
            return f"{self.basis_error:.1g} (basis of {self.modes[0]})"
        return (
            f"{self.basis_error:.1g} (bases of {min(self.modes)} to {max(self.modes)} in "
            f"{len(self.modes)} pieces), at most {self.cut_bound:.1g} (cuts)"
        )


def simulate_cut(
    cut: Cut,
    acquisition: Acquisition,
    basis: Basis,
    device: str = "cpu",
    *,
    job: int = 0,
    jobs: int = 1,
) -> tuple[Parts, Reduction | None]:
    """Signals of all pieces' cores, summed; and the reduction of the core with the most water.

    On a CPU pieces are worked on side by side, one on each of torch's threads. Of several `jobs`
    each takes every `jobs`-th piece: `joined_jobs` of their rows is what one job sums up. Raises
    ReductionError if the tolerance of `basis` cannot be reached in a piece.
    """
    body, tolerances = cut.pieces[0].body, cut.tolerances(basis.tolerance)
    # The largest first, so that none is left to wait for at the end.
    order = sorted(range(len(cut.pieces)), key=lambda number: -len(cut.pieces[number].tets))
    most_water = max(order, key=lambda number: cut.water[number])
    numbers = order[job::jobs]
    count = len(numbers)

    def work(place: int) -> tuple[Signals, tuple[int, ...], float, int, Reduction | None]:
        number = numbers[place]
        fine = basis.replace(tolerance=tolerances[number])
        reduction = reduce_piece(cut.pieces[number], acquisition, fine)
        part = Signals.of_compartments(reduction.reduced.to(device), acquisition)
        missed = (reduction.error or 0.0) * float(part.unweighted.sum(0).max())
        judged = _of_whole_piece(reduction, body.tissue) if number == most_water else None
        return part, cut.pieces[number].mesh.labels, missed, reduction.span.size, judged

    results = side_by_side(work, count) if device == "cpu" else map(work, range(count))
    parts = list(progress(results, f"{body.mesh.name} in pieces", total=count))
    signals, labels, missed, modes, reductions = zip(*parts, strict=True)
    each = _summed(signals, labels, body.mesh.labels)
    rows = Signals(
        acquisition,
        torch.stack([part.signal.sum(0) for part in signals]),
        torch.stack([part.unweighted.sum(0) for part in signals]),
    )
    sums = joined_jobs(rows)
    least = float(sums.unweighted.min())
    judged = next((reduction for reduction in reductions if reduction is not None), None)
    return Parts(sums, sum(missed) / least, cut.changed / least, modes, each, rows), judged


def joined_jobs(rows: Signals) -> Signals:
    """The sum of all pieces of a body; rows of zeros are jobs that had none."""
    there = rows.unweighted.any(1)
    sums = (part[there].sum(0, keepdim=True) for part in (rows.signal, rows.unweighted))
    return Signals(rows.acquisition, *sums)


def _summed(
    parts: Sequence[Signals], labels: Sequence[tuple[int, ...]], every: tuple[int, ...]
) -> Signals:
    """Of each compartment, from the rows of the pieces."""
    acquisition = parts[0].acquisition
    signal = torch.zeros(len(every), len(acquisition), dtype=torch.complex128)
    left = torch.zeros_like(signal.real)
    for part, present in zip(parts, labels, strict=True):
        rows = torch.tensor([every.index(label) for label in present])
        signal.index_add_(0, rows, part.signal)
        left.index_add_(0, rows, part.unweighted)
    return Signals(acquisition, signal, left)


def _of_whole_piece(reduction: Reduction, tissue: Tissue) -> Reduction:
    """The same basis, its core being all of the piece."""
    reduced = reduction.reduced
    mean = reduced.mean.new_zeros(len(tissue.labels), reduction.span.size)
    mean[0] = reduced.initial
    span = replace(reduction.span, core=None)
    return replace(reduction, span=span, reduced=replace(reduced, mean=mean, core=None))


def reduce_piece(piece: Piece, acquisition: Acquisition, basis: Basis) -> Reduction:
    """A basis whose signals of the core have the tolerance of `basis`."""
    shift = max(slowest_rate(piece.mesh, piece.body.tissue), 1 / longest_echo(acquisition))
    return reduce_from(piece.assembled(), shift, acquisition, basis)


def signal_of_pieces(
    cut: Cut,
    spans: Sequence[Span],
    points: Float[Tensor, "point 3"],
    tissue: Tissue,
    acquisition: Acquisition,
) -> Complex[Tensor, " measurement"]:
    """Signal (um^3 times spin density) of the body at `points` (um), on a frozen span per piece.

    Differentiable in points, tissue and gradients, as `project` is; the spans are those of
    `reduce_piece`.
    """
    total = torch.zeros(len(acquisition), dtype=torch.complex128)
    for piece, span in zip(cut.pieces, spans, strict=True):
        reduced = project(span, points[piece.part.points], tissue)
        total = total + simulate_reduced(reduced, acquisition)
    return total
