"""Reduced models kept in a store, of bodies or of their pieces (docs/methods/pieces.md)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from spinmesh.bloch_torrey import Reduction, Signals, reduce_mesh
from spinmesh.bloch_torrey.error_estimate import (
    estimated_error,
    largest_change,
    reduced_states,
    representatives,
)
from spinmesh.bloch_torrey.program import longest_half
from spinmesh.bloch_torrey.signal import SPINS
from spinmesh.bodies.pieces import cut_where_it_pays, reduce_piece
from spinmesh.errors import ConfigError
from spinmesh.machine import side_by_side
from spinmesh.mesh import Substrates, TetMesh
from spinmesh.progress import progress
from spinmesh.reduction import ReducedModel, Span, project
from spinmesh.sequence import PGSE, Acquisition, TrapezoidalOGSE
from spinmesh.settings import Basis, TissueSettings
from spinmesh.settings.physics import LEAST_TOLERANCE
from spinmesh.stored import quantity, store
from spinmesh.tissue import Tissue

# Directions of each sequence of a strongest protocol.
DIRECTIONS = 8
# Pulses of a strongest protocol, as parts of its time, and whole periods of its oscillations.
PULSES, PERIODS = (2, 4, 8, 16), (1, 3)
# Sizes that are tried grow by this factor; the largest one kept errs by this part of the tolerance.
STEP, SPARE = 1.2, 0.1
KRYLOV = "pack: its basis has to be a krylov one, grown to a tolerance. Leave other options away."


@dataclass(frozen=True, eq=False)
class Models:
    """Of pieces one after the other; of symmetric operators the lower triangles, row by row.

    The functions of each piece are ordered by how much of a protocol's states they hold: `sizes`
    are how many serve a fifth too few, the signals, and their error's estimate. `mean` integrates
    over the whole piece, `core` is the mass of what is observed.
    """

    sizes: Int[Tensor, "piece 3"]
    error: Float[Tensor, " piece"]  # of the basis they were taken from, of the piece's own S0
    laplacian: Float[Tensor, " entry"] = quantity("1/ms")
    moments: Float[Tensor, "3 entry"] = quantity("um")
    core: Float[Tensor, " entry"] = quantity()
    mean: Float[Tensor, " mode"] = quantity("um^(3/2)")

    @classmethod
    def of(cls, model: ReducedModel, sizes: tuple[int, int, int], error: float) -> Models:
        """Of one piece."""
        assert model.core is not None
        row, column = torch.tril_indices(sizes[-1], sizes[-1])
        L, J, X = (m[..., row, column] for m in (model.laplacian, model.moments, model.core))
        missed = torch.tensor([error], dtype=torch.float64)
        return cls(torch.tensor([sizes]), missed, L, J, X, model.initial[: sizes[-1]])

    @classmethod
    def joined(cls, parts: Sequence[Models]) -> Models:
        """One after the other."""
        rows = {item.name: [getattr(part, item.name) for part in parts] for item in fields(cls)}
        return cls(*(torch.cat(row, int(name == "moments")) for name, row in rows.items()))

    def split(self) -> list[Models]:
        """Each piece alone."""
        modes = self.sizes[:, -1].tolist()
        entries = [size * (size + 1) // 2 for size in modes]
        matrices = (
            self.laplacian.split(entries),
            self.moments.split(entries, 1),
            self.core.split(entries),
        )
        rows = self.sizes.split(1), self.error.split(1), *matrices, self.mean.split(modes)
        return [Models(*row) for row in zip(*rows, strict=True)]

    @property
    def observed(self) -> float:
        """Spins (um^3 times density) of one piece's core."""
        _, _, mean, core = self.model(int(self.sizes[0, -1])).operators
        return float(mean @ core @ mean.T)

    def model(self, size: int) -> ReducedModel:
        """Of one piece, on its first `size` functions."""
        row, column = torch.tril_indices(size, size)
        every = torch.cat([self.laplacian[None], self.moments, self.core[None]])[:, : len(row)]
        matrices = every.new_zeros(5, size, size)
        matrices[:, row, column] = every
        matrices[:, column, row] = every
        return ReducedModel(matrices[0], matrices[1:4], self.mean[None, :size], matrices[4])


@store("spinmesh/pack", version=2, stage="spinmesh reduce")
@dataclass(frozen=True, eq=False)
class Pack:
    """Reduced models of bodies, of each one or one for each of its pieces.

    Of a body in pieces, sequences whose halves last up to `half_time` have signals that the cuts
    change by `cut_bound` at most; of others it is 0.
    """

    names: tuple[str, ...] = quantity(axis="substrate")
    tissue: TissueSettings = quantity()
    tolerance: float = quantity()  # of S0, of bases and cuts together
    substrate: Int[Tensor, " piece"] = quantity()  # which one each piece is of
    models: Models = quantity()
    cut_bound: Float[Tensor, " substrate"] = quantity(SPINS)
    half_time: float = quantity("ms")

    @classmethod
    def joined(cls, packs: Sequence[Pack]) -> Pack:
        """Of bodies of one tissue, made for one protocol."""
        count = [len(pack.names) for pack in packs]
        first = [sum(count[:number]) for number in range(len(packs))]
        return replace(
            packs[0],
            names=tuple(name for pack in packs for name in pack.names),
            substrate=torch.cat([p.substrate + n for p, n in zip(packs, first, strict=True)]),
            models=Models.joined([pack.models for pack in packs]),
            cut_bound=torch.cat([pack.cut_bound for pack in packs]),
        )


def strongest_protocol(gradient: float, time: float) -> Acquisition:
    """Pulses of several lengths, and oscillations, of `gradient` (mT/m) within `time` (ms).

    A pack that is made for it serves most protocols of this strength; what each of them errs by
    is estimated when it is replayed.
    """
    pulses = [PGSE(time / part, time - time / part) for part in PULSES]
    sequences = *pulses, *(TrapezoidalOGSE(time / 2, time / 2, count) for count in PERIODS)
    generator = torch.Generator().manual_seed(0)
    size = (len(sequences) * DIRECTIONS, 3)
    direction = torch.randn(size, generator=generator, dtype=torch.float64)
    timing = torch.arange(len(sequences)).repeat_interleave(DIRECTIONS)
    unit = torch.nn.functional.normalize(direction)
    return Acquisition(sequences, timing, gradient * unit)


def reduce(
    mesh: TetMesh, tissue: Tissue, acquisition: Acquisition, basis: Basis | None = None
) -> Pack:
    """The pack of a body, grown for an acquisition until `basis` has its tolerance.

    Raises MeshError, ConfigError or ReductionError as `simulate`, before compute is spent.
    """
    basis, cut = basis or Basis(), None
    if basis.kind == "laplace" or not basis.adaptive:
        raise ConfigError(KRYLOV)
    fine = basis.replace(tolerance=max(basis.tolerance / 2, LEAST_TOLERANCE))
    cut = cut_where_it_pays(mesh, tissue, acquisition, basis.tolerance)
    if cut is None:
        whole = reduce_mesh(mesh, tissue, acquisition, fine)
        models = [_smallest(whole, tissue, acquisition, fine.tolerance)]
    else:
        pieces, tolerances = cut.pieces, cut.tolerances(basis.tolerance)

        def work(number: int) -> Models:
            best = fine.replace(tolerance=max(tolerances[number] / 2, LEAST_TOLERANCE))
            reduction = reduce_piece(pieces[number], acquisition, best)
            return _smallest(reduction, tissue, acquisition, best.tolerance)

        steps = side_by_side(work, len(pieces))
        models = list(progress(steps, f"{mesh.name} in pieces", total=len(pieces)))
    return Pack(
        (mesh.name,),
        tissue.settings,
        basis.tolerance,
        torch.zeros(len(models)).long(),
        Models.joined(models),
        torch.tensor([0.0 if cut is None else cut.changed], dtype=torch.float64),
        longest_half(acquisition),
    )


def _smallest(
    reduction: Reduction, tissue: Tissue, acquisition: Acquisition, tolerance: float
) -> Models:
    """The combinations of a basis' functions that hold most of its states, as few as will do.

    Of the states from the excitation and of those from what is observed, backwards: Lall, Krysl &
    Marsden, Physica D 184 (2003), on balanced truncation by snapshots, here with one span for both.
    """
    if reduction.larger is None:
        raise ConfigError(KRYLOV)
    few = representatives(acquisition)
    with torch.no_grad():
        exact = _observing(reduction.larger, tissue)
    states = reduced_states(exact, few)[0]
    columns = np.hstack([states.real, states.imag])
    turn = torch.from_numpy(np.linalg.svd(columns, full_matrices=False)[0])
    L, J, mean, *core = exact.operators
    square = (turn.T @ matrix @ turn for matrix in core)
    turned = ReducedModel(turn.T @ L @ turn, turn.T @ J @ turn, mean @ turn, *square)
    signals, tried, sizes = Signals.of(exact, few), list[Signals](), list(_ladder(turn.shape[1]))
    for size in sizes:
        tried.append(Signals.of(turned.leading(size), few))
        if largest_change(tried[-1], signals) <= SPARE * tolerance:
            break
    errors = [estimated_error(*_changes(tried, number)) for number in range(len(tried) - 1)]
    used = next((number for number, e in enumerate(errors) if e <= tolerance), len(errors))
    last = max(len(tried) - 1, min(used + 1, len(sizes) - 1))
    chosen = (sizes[max(used - 1, 0)], sizes[used], sizes[last])
    return Models.of(turned, chosen, reduction.error or 0.0)


def _observing(span: Span, tissue: Tissue) -> ReducedModel:
    """With one mean, and a core even if all is observed."""
    model = project(span, span.mesh.points, tissue)
    core = torch.eye(span.size).double() if model.core is None else model.core
    return replace(model, mean=model.initial[None], core=core)


def _changes(tried: list[Signals], number: int) -> tuple[float, float]:
    """From the signals before one's to these, and from these to the last."""
    before, here = tried[max(number - 1, 0)], tried[number]
    return largest_change(before, here), largest_change(here, tried[-1])


def _ladder(size: int) -> Iterator[int]:
    """Numbers of functions, ascending, the last being all."""
    count = 4
    while count < size:
        yield count
        count = int(np.ceil(STEP * count))
    yield size


def reduce_substrates(
    substrates: Substrates, tissue: Tissue, acquisition: Acquisition, basis: Basis | None = None
) -> Pack:
    """One pack of every substrate of a table, in its order."""
    rows = progress(range(len(substrates)), "reduce")
    return Pack.joined([reduce(substrates.mesh(i), tissue, acquisition, basis) for i in rows])
