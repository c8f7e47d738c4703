"""Signals from a pack, with an estimate of their error for the very protocol that is asked for."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import torch

from spinmesh.bloch_torrey import Signals
from spinmesh.bloch_torrey.error_estimate import estimated_error, largest_change, representatives
from spinmesh.bodies.packs import Models, Pack, observed
from spinmesh.bodies.pieces import Parts, longest_echo
from spinmesh.bodies.substrates import device_named, sound
from spinmesh.errors import ConfigError, ReductionError
from spinmesh.progress import progress
from spinmesh.reduction import ReducedModel
from spinmesh.sequence import Acquisition
from spinmesh.tissue import Tissue

# Measurements that the estimate looks at, at most (at least 2 per sequence): three times as many
# take longer than the signals of a few hundred.
FEW = 8
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
    models, bodies = pack.models.split(), []
    for number, name in enumerate(progress(pack.names, "replay")):
        rows = (pack.substrate == number).nonzero()[:, 0].tolist()
        pieces = [models[row] for row in rows]
        signals, missed = _replayed(name, pieces, (stretch, shift), acquisition, device)
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
) -> tuple[Signals, float]:
    """Signals of one body, and the estimated error of its bases (um^3 times density)."""
    few, missed = representatives(acquisition, FEW), 0.0
    signal = torch.zeros(1, len(acquisition), dtype=torch.complex128)
    left, excited = torch.zeros_like(signal.real), torch.zeros(1, 1, dtype=torch.float64)
    for piece in pieces:
        used = _changed(piece.model(int(piece.sizes[0, 1])), *change).to(device)
        part = observed(used, acquisition)
        nested = (piece.model(size) for size in piece.sizes[0].unique().tolist())
        tried = [observed(_changed(model, *change).to(device), few) for model in nested]
        changes = [largest_change(*pair) for pair in pairwise(tried)]
        error = float(piece.error) + estimated_error(*[0.0, *changes][-2:])
        signal, left = signal + part.signal, left + part.unweighted
        missed += error * float(part.unweighted.max())
        excited += float(used.mean[0] @ used.initial)
    return sound([name], Signals(acquisition, signal, left), excited), missed


def _changed(model: ReducedModel, stretch: float, shift: float) -> ReducedModel:
    """L in another tissue."""
    unit = torch.eye(len(model.laplacian), dtype=model.laplacian.dtype)
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
    time = longest_echo(acquisition)
    if stretch * time > pack.echo_time + EQUAL:
        raise ReductionError(
            f"pack: its pieces have halos for {pack.echo_time:g} ms; echoes of {time:g} ms at "
            f"{stretch:g} times the diffusivity ask for more. Reduce the mesh for the longer time "
            "(spinmesh reduce)."
        )
