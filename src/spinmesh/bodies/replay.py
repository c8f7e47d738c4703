"""Signals from a pack, with an estimate of their error for the very protocol that is asked for."""

from __future__ import annotations

from itertools import pairwise

import torch

from spinmesh.bloch_torrey import Signals
from spinmesh.bloch_torrey.error_estimate import estimated_error, largest_change, representatives
from spinmesh.bodies.packs import Models, Pack, observed
from spinmesh.bodies.pieces import Parts, longest_echo
from spinmesh.bodies.substrates import device_named, sound
from spinmesh.bodies.terms import EQUAL, REDUCE, Change
from spinmesh.errors import ConfigError, ReductionError
from spinmesh.progress import progress
from spinmesh.sequence import Acquisition
from spinmesh.tissue import Tissue

# Measurements that the estimate looks at, at most (at least 2 per sequence): three times as many
# take longer than the signals of a few hundred.
FEW = 8
# Echo times (ms) are sums of durations.
ROUNDING = 1e-9


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
    change = Change.between(before, tissue or before)
    if bool((pack.cut_bound > 0).any()):
        _check_reach(pack, change, acquisition)
    echo = torch.tensor([sequence.echo_time for sequence in acquisition.sequences])
    # Paths that reach a cut relax faster or slower than they did, by this much at most.
    lasting = torch.exp(-change.faster * echo.double())[acquisition.timing]
    models, bodies = pack.models.split(), []
    for number, name in enumerate(progress(pack.names, "replay")):
        rows = (pack.substrate == number).nonzero()[:, 0].tolist()
        pieces = [models[row] for row in rows]
        signals, missed = _replayed(name, pieces, change, acquisition, device)
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
    change: Change,
    acquisition: Acquisition,
    device: str,
) -> tuple[Signals, float]:
    """Signals of one body, and the estimated error of its bases (um^3 times density)."""
    few, missed = representatives(acquisition, FEW), 0.0
    signal = torch.zeros(1, len(acquisition), dtype=torch.complex128)
    left, excited = torch.zeros_like(signal.real), torch.zeros(1, 1, dtype=torch.float64)
    for piece in pieces:
        size = int(piece.sizes[0, 1])
        used = piece.terms(size).model(change)
        part = observed(used.to(device), acquisition)
        nested = (piece.terms(size).model(change) for size in piece.sizes[0].unique().tolist())
        tried = [observed(model.to(device), few) for model in nested]
        changes = [largest_change(*pair) for pair in pairwise(tried)]
        error = float(piece.error) + estimated_error(*[0.0, *changes][-2:])
        signal, left = signal + part.signal, left + part.unweighted
        missed += error * float(part.unweighted.max())
        excited += float(used.mean[0] @ used.initial)
    return sound([name], Signals(acquisition, signal, left), excited), missed


def _check_reach(pack: Pack, change: Change, acquisition: Acquisition) -> None:
    """Errors if water may reach farther than the halos were made for."""
    stretch, time = change.stretch, longest_echo(acquisition)
    if change.through and not bool((stretch == 1).all()):
        raise ConfigError(
            f"pack: pieces with membranes or walls that let water through keep their diffusivity "
            f"and permeability. {REDUCE}"
        )
    if float(stretch.max() - stretch.min()) > EQUAL:
        raise ConfigError(
            f"pack: the diffusivities of a body in pieces are changed by one factor, not by "
            f"{stretch.tolist()}. {REDUCE}"
        )
    if float(stretch[0]) * time > pack.echo_time + ROUNDING:
        raise ReductionError(
            f"pack: its pieces have halos for {pack.echo_time:g} ms; echoes of {time:g} ms at "
            f"{float(stretch[0]):g} times the diffusivity ask for more. Reduce the mesh for the "
            "longer time (spinmesh reduce)."
        )
