"""The shapes of ReMiDi (arXiv 2502.01988): its three families, parameter steps and splits."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.errors import ConfigError
from spinmesh.mesh import (
    PARAMETERS,
    Substrates,
    TetMesh,
    checked,
    neutral_parameters,
)

Steps = Literal["published", "between"]
SPLITS = ("train", "validation", "test")
# Shapes per split. Each count includes six quarter and half turns of the same shapes, which a model
# without pose need not see.
TURNS = 6
COUNTS = {
    "bend_twist": (26_136, 4_500, 4_500),
    "beading": (24_696, 4_500, 4_500),
    "fanning": (26_136, 4_500, 4_500),
}
BEND, TWIST = 0.5, 3.1
BEAD_AMPLITUDES, MOST_BEADS = (0.3, 0.4), 8
FAN_DEGREES, FAN_HEIGHTS = 60, (0.25, 0.5, 0.75)
# One axis is scaled by a factor between these; the publication takes the two ends.
SCALING = (0.5, 1.5)
# Training counts of beads "between" the steps go this far beyond them.
MARGIN = 0.5


def distinct_counts(
    fraction: float, training: float | None = None
) -> dict[str, tuple[int, int, int]]:
    """Shapes per family and split (train, validation, test) at a fraction of the published sets.

    `training` is another fraction for split `train`. Turns are not counted. Raises ConfigError
    unless both are in (0, 1].
    """
    training = fraction if training is None else training
    for part in (fraction, training):
        if not 0 < part <= 1:
            raise ConfigError(f"published shapes: fraction {part}; give a number in (0, 1].")
    parts = (training, fraction, fraction)
    sizes = {
        family: [max(1, round(part * n / TURNS)) for part, n in zip(parts, counts, strict=True)]
        for family, counts in COUNTS.items()
    }
    return {family: (n[0], n[1], n[2]) for family, n in sizes.items()}


def published_substrates(
    template: TetMesh, counts: dict[str, tuple[int, int, int]], steps: Steps, seed: int
) -> Substrates:
    """Seeded draws of the three families, split as published.

    Beads and fans of splits `validation` and `test` have the even counts and degrees, those of
    `train` the odd ones; bend and twist are drawn from their ranges in every split. `steps`
    "between" trains on every real count, amplitude, angle and height in the range instead: a linear
    or learned decoder that has seen only odd counts of beads cannot represent an even one
    (docs/decisions/0007). One axis of each shape is scaled by 0.5 to 1.5.
    """
    if steps not in ("published", "between"):
        raise ConfigError(f"published shapes: steps {steps!r}; give published or between.")
    unknown = set(counts) - set(COUNTS)
    if unknown:
        raise ConfigError(f"published shapes: unknown {sorted(unknown)}. Known: {list(COUNTS)}.")
    rng = np.random.default_rng(seed)
    rows, family, split = [], [], []
    for name, sizes in counts.items():
        for part, size in zip(SPLITS, sizes, strict=True):
            rows.append(_draw(template, name, size, part, steps, rng))
            family += [name] * size
            split += [part] * size
    parameters = torch.cat(rows)
    return checked(Substrates(template, parameters, PARAMETERS, tuple(family), tuple(split)))


def further_parameters(
    template: TetMesh, count: int, steps: Steps, seed: int
) -> Float[Tensor, "shape parameter"]:
    """Parameters of `count` more training shapes of each family: for a decoder, without signals."""
    rng = np.random.default_rng([seed, 1])
    rows = [_draw(template, family, count, "train", steps, rng) for family in COUNTS]
    return torch.cat(rows)


def _draw(
    template: TetMesh, family: str, count: int, part: str, steps: Steps, rng: np.random.Generator
) -> Float[Tensor, "count parameter"]:
    odd = part == "train"
    if odd and steps == "between":
        free = _between(family, count, rng)
    else:
        free = _steps(family, count, odd, rng)
    axis = rng.integers(0, 3, count)
    factor = rng.uniform(*SCALING, count)
    for i, name in enumerate(("scale_x", "scale_y", "scale_z")):
        free[name] = np.where(axis == i, factor, 1.0)
    values = neutral_parameters(template).repeat(count, 1)
    for name, column in free.items():
        values[:, PARAMETERS.index(name)] = torch.from_numpy(column)
    return values


def _steps(family: str, count: int, odd: bool, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Parameters on the published steps."""
    if family == "bend_twist":
        return {"bend": rng.uniform(0, BEND, count), "twist": rng.uniform(0, TWIST, count)}
    if family == "beading":
        return {
            "bead_amplitude": rng.choice(BEAD_AMPLITUDES, count),
            "bead_count": _parity(MOST_BEADS, odd, count, rng),
        }
    degrees = _parity(FAN_DEGREES, odd, count, rng)
    return {"fan_angle": np.deg2rad(degrees), "fan_height": rng.choice(FAN_HEIGHTS, count)}


def _parity(most: int, odd: bool, count: int, rng: np.random.Generator) -> np.ndarray:
    """Odd, or even and positive, whole numbers up to `most`."""
    return rng.choice(np.arange(1 if odd else 2, most + 1, 2), count).astype(float)


def _between(family: str, count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Parameters anywhere in the range of the published steps."""
    if family == "bend_twist":
        return _steps(family, count, True, rng)
    if family == "beading":
        return {
            "bead_amplitude": rng.uniform(*BEAD_AMPLITUDES, count),
            "bead_count": rng.uniform(MARGIN, MOST_BEADS + MARGIN, count),
        }
    return {
        "fan_angle": np.deg2rad(rng.uniform(0, FAN_DEGREES, count)),
        "fan_height": rng.uniform(min(FAN_HEIGHTS), max(FAN_HEIGHTS), count),
    }
