"""How much a cut can change a core's signal: heat that comes from the cut (docs/methods/pieces.md).

The magnetisation at x in the middle of a sequence is a mean of exp(i phase) over reflected paths
that end in x, and so is what is still to come, over paths that start there. Paths that never reach
the cut are the same in the piece and in the whole body, so that the cut changes either of the two
by at most twice the chance that a path from x has reached it in half the sequence.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float
from numpy import ndarray

from spinmesh.bodies.cutting import Piece
from spinmesh.reduction import factorise

# Steps of backward Euler: its water is a little faster than real water, never slower.
STEPS = 48


def spins_from_cut(piece: Piece, time: float) -> float:
    """Spins (um^3 times density) of the core that reach the piece's cut within `time` (ms).

    Solves for the chance u of having reached it: 1 on the cut, at first 0 elsewhere, with lumped
    masses and backward Euler, which make no chance negative where no angle between faces is obtuse;
    elsewhere negative ones count as 0. Spins that relax before they reach the cut do not count.
    """
    body = piece.body
    corners = body.corner_dofs[piece.tets]
    used = np.unique(corners)
    linear = body.linear
    inside = np.zeros(len(body.position), dtype=bool)
    inside[used] = True
    cut = np.asarray((body.coupled[used] != 0) @ ~inside) > 0
    if not cut.any():
        return 0.0
    rate = linear.decay[used][:, used]
    mass = np.asarray(linear.mass[used].sum(1))[:, 0]
    free = ~cut
    step = time / STEPS
    factor = factorise(sp.diags(mass[free]) + step * rate[free][:, free])
    source = -step * np.asarray(rate[free][:, cut].sum(1))[:, 0]
    chance = cut.astype(float)
    for _ in range(STEPS):
        chance[free] = factor.solve(mass[free] * chance[free] + source)
    return float(_core_weights(piece, used) @ np.maximum(chance, 0.0))


def _core_weights(piece: Piece, used: ndarray) -> Float[ndarray, " dof"]:
    """Spins of the core at each corner: a quarter of those of the tets around it."""
    body, tets = piece.body, piece.tets[piece.core]
    spins = body.cells.mass[tets].sum((1, 2)).numpy() / 4
    corners = np.searchsorted(used, body.corner_dofs[tets])
    return np.bincount(corners.ravel(), np.repeat(spins, 4), len(used))
