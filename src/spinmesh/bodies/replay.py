"""Signals from a pack, with an estimate of their error for the very protocol that is asked for."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import torch

from spinmesh.bloch_torrey import Signals
from spinmesh.bloch_torrey.error_estimate import (
    estimated_error,
    largest_change,
    representative_rows,
)
from spinmesh.bloch_torrey.program import longest_half
from spinmesh.bodies.packs import Models, Pack
from spinmesh.bodies.pieces import Parts
from spinmesh.bodies.splitting import extrapolated
from spinmesh.bodies.substrates import sound
from spinmesh.errors import ConfigError, ReductionError
from spinmesh.machine import device_named
from spinmesh.progress import progress
from spinmesh.reduction import ReducedModel
from spinmesh.sequence import Acquisition
from spinmesh.tissue import Tissue

# Measurements that the estimate looks at, at most (at least 2 per sequence): three times as many
# take longer than the signals of a few hundred.
FEW = 8
# Of the tolerance: what extrapolation in the number of steps may still change in a signal.
SETTLED = 0.1
# Numbers of two tissues, and times (ms), that are closer than this are one.
EQUAL = 1e-9


def replay(
    pack: Pack,
    acquisition: Acquisition,
    tissue: Tissue | None = None,
    device: str = "cpu",
    *,
    tolerance: float | None = None,
) -> Parts:
    """Signals of a pack's bodies; the errors are those of the body where they are largest.

    `tissue` may differ from the pack's as docs/methods/pieces.md says; `tolerance` replaces the
    pack's. Raises ConfigError for another tissue; ReductionError if echoes are longer than the
    bound of the cuts was made for, or the estimated error and the bound exceed the tolerance.
    """
    device, most = device_named(device), pack.tolerance if tolerance is None else tolerance
    before = Tissue.from_settings(pack.tissue)
    stretch, shift = change_between(before, tissue or before)
    if bool((pack.cut_bound > 0).any()):
        _check_reach(pack, stretch, acquisition)
    echo = torch.tensor([sequence.echo_time for sequence in acquisition.sequences])
    # The shift takes this from every path, also from those that reach a cut.
    lasting = torch.exp(-shift * echo.double())[acquisition.timing]
    models, bodies, settled = pack.models.split(), [], SETTLED * min(most, pack.tolerance)
    for number, name in enumerate(progress(pack.names, "replay")):
        rows = (pack.substrate == number).nonzero()[:, 0].tolist()
        pieces = [models[row] for row in rows]
        signals, missed = _replayed(name, pieces, (stretch, shift), acquisition, device, settled)
        error = missed / float(signals.unweighted.min())
        bound = float((pack.cut_bound[number] * lasting / signals.unweighted).max())
        if not error + bound <= most:
            raise ReductionError(
                f"{name}: this protocol leaves an estimated error of {error:.2g} of S0, and one of "
                f"at most {bound:.2g} by cuts; {most:g} was asked for. Reduce the mesh for this "
                "protocol (spinmesh reduce), or raise the tolerance."
            )
        bodies.append(Parts(signals, error, bound, tuple(pack.models.sizes[rows, 1].tolist())))
    sums = [body.signals for body in bodies]
    return Parts(
        Signals(
            acquisition,
            torch.cat([each.signal for each in sums]),
            torch.cat([each.unweighted for each in sums]),
        ),
        max(body.basis_error for body in bodies),
        max(body.cut_bound for body in bodies),
        tuple(size for body in bodies for size in body.modes),
    )


def _replayed(
    name: str,
    pieces: list[Models],
    change: tuple[float, float],
    acquisition: Acquisition,
    device: str,
    tolerance: float,
) -> tuple[Signals, float]:
    """Signals of one body, and the estimated error of its bases (um^3 times density)."""
    rows, missed = representative_rows(acquisition, FEW), 0.0
    few = acquisition.select(rows)
    signal = torch.zeros(1, len(acquisition), dtype=torch.complex128)
    left = torch.zeros_like(signal.real)
    for group in _of_one_size(pieces):
        below, here, above = (
            _changed(_stacked(group, place), *change).to(device) for place in range(3)
        )
        part, settled = extrapolated(here, acquisition, tolerance)
        signal += part.signal.sum(0)
        left += part.unweighted.sum(0)
        tried = [extrapolated(other, few, tolerance)[0].rows() for other in (below, above)]
        middle = Signals(few, part.signal[:, rows], part.unweighted[:, rows]).rows()
        for number, three in enumerate(zip(tried[0], middle, tried[1], strict=True)):
            previous, last = (largest_change(*pair) for pair in pairwise(three))
            if here.laplacian.shape == above.laplacian.shape:
                previous, last = 0.0, previous
            basis = float(group[number].error) + estimated_error(previous, last)
            missed += (basis + float(settled[number])) * float(part.unweighted[number].max())
    excited = sum(piece.observed for piece in pieces)
    all_water = torch.tensor([[excited]], dtype=torch.float64)
    return sound([name], Signals(acquisition, signal, left), all_water), missed


def _of_one_size(pieces: list[Models]) -> list[list[Models]]:
    """Pieces that are worked on together."""
    groups = dict[tuple[int, ...], list[Models]]()
    for piece in pieces:
        groups.setdefault(tuple(piece.sizes[0].tolist()), []).append(piece)
    return list(groups.values())


def _stacked(pieces: list[Models], place: int) -> ReducedModel:
    """All pieces at once, on the number of functions at a place of their sizes."""
    models = [piece.model(int(piece.sizes[0, place])).operators for piece in pieces]
    return ReducedModel(*(torch.stack(parts) for parts in zip(*models, strict=True)))


def _changed(model: ReducedModel, stretch: float, shift: float) -> ReducedModel:
    """L in another tissue."""
    unit = torch.eye(model.laplacian.shape[-1], dtype=model.laplacian.dtype)
    return replace(model, laplacian=stretch * model.laplacian + shift * unit)


def change_between(before: Tissue, after: Tissue) -> tuple[float, float]:
    """s and c (1/ms) of L' = s L + c, where that is what another tissue makes of L.

    Then D' = s D and kappa' = s kappa everywhere, and 1/T2' = s/T2 + c with one c. ConfigError for
    other tissues, for which the basis was not made.
    """
    if after.labels != before.labels:
        raise ConfigError(f"pack: has compartments {before.labels}, the tissue {after.labels}.")
    stretch = float(after.diffusivity[0].trace() / before.diffusivity[0].trace())
    shift = float(1 / after.t2[0] - stretch / before.t2[0])
    pairs = {*before.permeability, *after.permeability}
    walls = {*before.wall_permeability, *after.wall_permeability}
    wall = [(t.wall_permeability.get(label, 0.0)) for t in (before, after) for label in walls]
    through = [t.between(*pair) for t in (before, after) for pair in pairs]
    kappa, outer = (torch.tensor(x, dtype=torch.float64).reshape(2, -1) for x in (through, wall))
    for what, old, new in (
        ("density", before.density, after.density),
        ("diffusivity", stretch * before.diffusivity, after.diffusivity),
        ("1/T2 (1/ms)", stretch / before.t2 + shift, 1 / after.t2),
        ("permeability", stretch * kappa[0], kappa[1]),
        ("walls' permeability", stretch * outer[0], outer[1]),
    ):
        if not torch.allclose(old, new, rtol=EQUAL, atol=EQUAL):
            raise ConfigError(
                f"pack: {what} would have to be {old.tolist()}, not {new.tolist()}: one factor for "
                "diffusivities and permeabilities, and one number added to every 1/T2, is all that "
                "a pack can change. Reduce the mesh again with this tissue (spinmesh reduce)."
            )
    return stretch, shift


def _check_reach(pack: Pack, stretch: float, acquisition: Acquisition) -> None:
    """ReductionError if water reaches farther than the halos were made for."""
    time = longest_half(acquisition)
    if stretch * time > pack.half_time + EQUAL:
        raise ReductionError(
            f"pack: its pieces have halos for {pack.half_time:g} ms on either side of a sequence's "
            f"middle; {time:g} ms at {stretch:g} times the diffusivity ask for more. Reduce the "
            "mesh for the longer time (spinmesh reduce)."
        )
