"""Every voxel of an image: whether its protocol is the model's, and the maps of the posterior."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spinmesh.errors import ConfigError
from spinmesh.grid import Grid
from spinmesh.maps.kernels import shells_of
from spinmesh.maps.model import Answers, MapModel
from spinmesh.maps.voxels import QUANTITIES
from spinmesh.progress import LOGGER
from spinmesh.sequence import Acquisition
from spinmesh.sequence.harmonics import shell_keys
from spinmesh.stored import store
from spinmesh.units import b_from_s_per_mm2, b_to_s_per_mm2

# Of b, relative, and of times in ms: what imaging gradients and rounding change.
SAME_B, SAME_TIME = 0.02, 0.2
# Of the directions of a shell and of the unweighted measurements, by how many fewer are there.
FEWER = 0.9
# s/mm^2, of unweighted measurements: more takes several per cent off S0.
UNWEIGHTED = 15.0


@store("spinmesh/posterior_maps", version=1, stage="maps")
@dataclass(frozen=True, eq=False)
class PosteriorMaps:
    """Answers of the voxels `voxel` of a grid."""

    grid: Grid
    voxel: Int[Tensor, "voxel axis"]
    answers: Answers
    names: tuple[str, ...] = tuple(QUANTITIES)
    units: tuple[str, ...] = tuple(QUANTITIES.values())


def posterior_maps(
    model: MapModel,
    acquisition: Acquisition,
    grid: Grid,
    voxel: Int[Tensor, "voxel axis"],
    attenuation: Float[Tensor, "voxel measurement"],
    sigma: Float[Tensor, " voxel"],
    device: str = "cpu",
) -> PosteriorMaps:
    """The posterior of every voxel; NaN, without flags, where a voxel has no attenuation.

    Raises ConfigError if the acquisition lacks what the model was trained with.
    """
    acquisition, columns = matched(model.kernels.acquisition, acquisition)
    usable = torch.isfinite(sigma) & torch.isfinite(attenuation).all(1)
    part = attenuation[usable][:, columns]
    given = model.answers(acquisition, part, sigma[usable], device)

    numbers = torch.stack([given.low, given.median, given.high, given.shrinkage])
    whole = numbers.new_full((4, len(voxel), numbers.shape[2]), torch.nan)
    whole[:, usable] = numbers
    flags = given.flags.new_zeros(len(voxel)).index_put((usable,), given.flags)
    low, median, high, shrinkage = whole
    return PosteriorMaps(grid, voxel, Answers(low, median, high, shrinkage, flags))


def matched(
    trained: Acquisition, acquisition: Acquisition
) -> tuple[Acquisition, Int[Tensor, " measurement"]]:
    """The measurements on shells of `trained`, with their b and times, and which ones they are.

    Other measurements are left out with a warning. Raises ConfigError, naming it, if a shell is
    missing, or much of its directions or of the unweighted measurements.
    """
    shells, keys = shells_of(trained), shell_keys(acquisition)
    of_trained = shell_keys(trained)
    columns = [torch.nonzero(acquisition.unweighted)[:, 0]]
    _compare("unweighted measurements", len(columns[0]), int(trained.unweighted.sum()))
    _warn(acquisition, columns[0])
    weighted = {row: keys[row] for row in (~acquisition.unweighted).nonzero()[:, 0].tolist()}
    for shell in shells:
        alike = [row for row, key in weighted.items() if _alike(key, shell)]
        _compare(_words(shell), len(alike), of_trained.count(shell), set(weighted.values()))
        columns.append(torch.tensor(alike))
    left_out = sorted({keys[i] for i in set(range(len(keys))) - set(torch.cat(columns).tolist())})
    if left_out:
        LOGGER.warning("left out, for the model does not know them: %s", _listed(left_out))
    parts = [acquisition.select(columns[0])]
    for (b, delta, Delta), rows in zip(shells, columns[1:], strict=True):
        along = acquisition.direction[rows]
        parts.append(Acquisition.pgse([b_from_s_per_mm2(b)] * len(rows), along, delta, Delta))
    return Acquisition.joined(parts), torch.cat(columns)


def _alike(key: tuple[float, float, float], shell: tuple[float, float, float]) -> bool:
    times = all(abs(a - b) <= SAME_TIME for a, b in zip(key[1:], shell[1:], strict=True))
    return times and abs(key[0] / shell[0] - 1) <= SAME_B


def _compare(
    what: str, count: int, needed: int, others: Collection[tuple[float, float, float]] = ()
) -> None:
    if count < FEWER * needed:
        there = f" The series has {_listed(sorted(others))}." if others else ""
        raise ConfigError(
            f"maps: {count} measurements of {what}; the model was trained with {needed}.{there} "
            "Train one for this protocol: `acquisition` in config/maps.yaml, then make maps."
        )


def _warn(acquisition: Acquisition, rows: Int[Tensor, " unweighted"]) -> None:
    b = float(b_to_s_per_mm2(acquisition.stated_b[rows].max()))
    if b > UNWEIGHTED:
        LOGGER.warning("unweighted measurements go up to b = %g s/mm^2; taken as 0.", b)


def _words(shell: tuple[float, float, float]) -> str:
    return "b = {:g} s/mm^2, delta = {:g} ms, Delta = {:g} ms".format(*shell)


def _listed(shells: list[tuple[float, float, float]]) -> str:
    return "; ".join(map(_words, shells[:8])) + (" ..." if len(shells) > 8 else "")
