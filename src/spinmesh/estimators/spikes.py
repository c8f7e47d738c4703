"""Examples as trains of spikes, which is what spiking networks hear."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.errors import ConfigError
from spinmesh.estimators.examples import Examples

# Spikes that a band sends by its level: one for each of these steps above its median.
LEVELS = (1, 2, 3)


def band_spikes(examples: Examples, step_db: float) -> Examples:
    """Levels of bands (dB) as spikes: for each band, risen; fallen; 1, 2, 3 steps above its median.

    Risen or fallen is a band that has moved by `step_db` or more since it last sent such a spike
    (send-on-delta); the median is that of the example. Raises ConfigError without sequences.
    """
    if examples.sequence is None:
        raise ConfigError("spiking: examples without sequences. Give levels of bands over time.")
    levels = examples.sequence
    above = levels - levels.median(1, keepdim=True).values
    high = [above > count * step_db for count in LEVELS]
    spikes = torch.cat([*changes(levels, step_db), *high], 2).float()
    return Examples(examples.group, examples.names, label=examples.label, sequence=spikes)


def changes(levels: Float[Tensor, "example step band"], threshold: float) -> tuple[Tensor, Tensor]:
    """Where each band has risen, and where fallen, by the threshold since its last spike.

    The level of reference then moves by as many thresholds.
    """
    reference = levels[:, 0].clone()
    moves = []
    for level in levels.unbind(1):
        move = torch.trunc((level - reference) / threshold)
        reference = reference + move * threshold
        moves.append(move)
    moved = torch.stack(moves, 1)
    return moved > 0, moved < 0
