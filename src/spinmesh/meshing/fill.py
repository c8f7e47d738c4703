"""Tetrahedra inside closed surfaces, and in the water around them, that share every membrane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from spinmesh.errors import ConfigError, MeshError
from spinmesh.mesh import TetMesh, check_quality, oriented
from spinmesh.mesh.curved import Solid
from spinmesh.meshing.faults import faults_of, patched, question_loose
from spinmesh.meshing.mending import SLIVER, mended, triangle_quality, without_slivers
from spinmesh.meshing.process import Limits, MesherFailedError, run_apart
from spinmesh.meshing.surface import Surface, depths, parents, united, winding_numbers
from spinmesh.meshing.tets import quality, volumes
from spinmesh.meshing.water import WATER

# A sealed fill has the surfaces' own triangles as faces, so that volumes agree to rounding.
SEALED = 1e-12
# mmgs may leave a surface by this fraction of the median edge, and change a volume by this.
EVENED = 0.1
EVEN_VOLUME = 0.01
# Of the volume, that fTetWild may change: more, and the surface was not one of that body.
CHANGED = 0.05
TETS_PER_TRIANGLE = 5  # of netgen's, beside a surface
# fTetWild may move a surface by this fraction of the diagonal of the box.
EPSILON = 5e-4


@dataclass(frozen=True, eq=False)
class Filling:
    """A mesh, what its compartments are, what was done to get it, and the solids it was made of."""

    mesh: TetMesh
    names: Mapping[int, str]
    notes: tuple[str, ...]
    solids: tuple[Solid, ...] = ()

    def named(self, name: str) -> Filling:
        """The same under another name."""
        return replace(self, mesh=self.mesh.with_points(self.mesh.points, name))

    @property
    def lines(self) -> tuple[str, ...]:
        """What the compartments are, then the notes: for a reader and for the store."""
        return (
            *(f"compartment {label}: {name}" for label, name in self.names.items()),
            *self.notes,
        )


def fill(
    surface: Surface,
    compartments: Sequence[int] | None = None,
    size: float | None = None,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> Filling:
    """A conforming mesh of what each part encloses, except what encloses a part within it.

    `compartments` has a label for each part, 0 where what it encloses stays empty; parts of the
    name `WATER` are the outer surface of the extracellular water. `size` (um) is the largest edge
    away from the surfaces, by default twice their median edge. Surfaces without faults are filled
    by netgen with the very triangles given, small faults being cut out and closed before; others by
    fTetWild. All changes are in the notes.

    Raises MeshError where a fault leaves no volume, or a limit is reached.
    """
    parent = parents(surface)
    labels = np.array(labels_of(surface) if compartments is None else compartments)
    _question_labels(surface, parent, labels)
    size = size or 2 * surface.usual_edge
    name = surface.names[0]
    question_loose(surface)
    limits.question(_expected_tets(surface, parent, labels, size), name)
    surface, labels, wrong, repairs = _patched(surface, labels)
    parent = parents(surface)
    if not wrong:
        surface, slivers = _without_slivers(surface, limits)
        repairs += slivers
        try:
            points, tets, part = _filled(surface, parent, labels, size, limits)
        except MesherFailedError as failure:
            wrong = [f"no fault was seen, but {failure}"]
    if wrong:
        points, tets, part = _filled_roughly(surface, size, limits)
    inside = labels[part] != 0
    if not inside.any():
        raise MeshError(f"{name}: {'; '.join(wrong)}. It encloses no volume. Close the surface.")
    used, tets = np.unique(tets[inside], return_inverse=True)
    points, tets, part = points[used], tets.reshape(-1, 4), part[inside]
    expected, volume = _contents(surface, parent), volumes(points, tets)
    filled = np.bincount(part, volume, len(labels))
    error = np.abs(filled - expected)[labels != 0] / surface.volumes[labels != 0]
    notes = [*repairs, *_notes(wrong, error, name)]
    worst = float(quality(points, tets).min())
    notes += [f"worst quality of {len(tets):,} tets {worst:.3g}"]
    mesh = TetMesh(
        torch.from_numpy(points), torch.from_numpy(tets), torch.from_numpy(labels[part]), name
    )
    checked = check_quality(oriented(mesh), "Give surfaces with better triangles.")
    names = {label: _named(surface, labels, label) for label in checked.labels}
    return Filling(checked, names, tuple(notes))


def labels_of(surface: Surface) -> list[int]:
    """A compartment for each name and, within a name, for each depth, from 1; water comes last.

    So several files are as many compartments, and in one file what lies in what is another. Depth
    counts the parts around of that name alone.
    """
    depth = depths(parents(surface), np.unique(surface.names, return_inverse=True)[1])
    keys = list(zip(surface.names, depth.tolist(), strict=True))
    first = {name: number for number, name in reversed(list(enumerate(surface.names)))}
    kinds = sorted(set(keys), key=lambda key: (key[0] == WATER, first[key[0]], key[1]))
    order = {key: index for index, key in enumerate(kinds)}
    return [1 + order[key] for key in keys]


def _named(surface: Surface, labels: ndarray, label: int) -> str:
    return ", ".join(dict.fromkeys(np.array(surface.names)[labels == label].tolist()))


def _question_labels(surface: Surface, parent: ndarray, labels: ndarray) -> None:
    if len(labels) != len(surface.names):
        raise ConfigError(
            f"{len(labels)} compartments for {len(surface.names)} parts. Give one for each."
        )
    if (labels < 0).any() or not labels.any():
        raise ConfigError("compartments are numbers from 1, or 0 for what stays empty.")
    same = np.flatnonzero((parent >= 0) & (labels[parent] == labels) & (labels > 0))
    if len(same):
        part = int(same[0])
        raise ConfigError(
            f"part {part + 1} ({surface.names[part]}) lies in part {parent[part] + 1}, and both "
            f"are compartment {labels[part]}: no membrane would be between them. Give it another."
        )


def _patched(surface: Surface, labels: ndarray) -> tuple[Surface, ndarray, list[str], list[str]]:
    """A surface with the labels of its parts, the faults that it has, and what was repaired."""
    faults = [str(fault) for fault in faults_of(surface)]
    closed = patched(surface) if faults else None
    if closed is None:
        return surface, labels, faults, []
    whole, origin, words = closed
    return whole, labels[origin], [], [f"repaired: {'; '.join(faults)}: {words}"]


def _without_slivers(surface: Surface, limits: Limits) -> tuple[Surface, list[str]]:
    """Without triangles beside which no good tet has room, and what was done.

    mmgs moves the corners of parts that have such, unless that changes a volume by more than a
    percent, as it does where branches are thin; then only the slivers' own edges are changed.
    """
    count = int((triangle_quality(surface.corners) < SLIVER).sum())
    if not count:
        return surface, []
    even, done = _evened(surface, limits), f"evened by mmgs within {EVENED:g} of the median edge"
    if even is None:
        even, left = without_slivers(surface)
        done = "turned or collapsed" + (f", {left:,} stay" if left else "")
        if faults_of(even):
            return surface, [f"{count:,} sliver triangles stay, beside which tets are flat"]
    change = float(np.abs(even.volumes / surface.volumes - 1).max())
    words = f"volume of a part changed by up to {change:.2g} of it"
    return even, [f"repaired: {count:,} sliver triangles {done}; {words}"]


def _evened(surface: Surface, limits: Limits) -> Surface | None:
    """Parts with slivers after mmgs; None if that breaks one or changes its volume too much."""
    size = surface.usual_edge
    bad = np.unique(surface.part[triangle_quality(surface.corners) < SLIVER])
    parts = []
    for part, name in enumerate(surface.names):
        points, triangles = surface.points, surface.triangles[surface.part == part]
        if part in bad:
            job: dict[str, ndarray | float] = {
                "points": points,
                "triangles": triangles,
                "size": size,
                "hausdorff": EVENED * size,
                "moved": 1.0,
            }
            done = run_apart("spinmesh.meshing.worker:even", job, limits, f"evening {name}")
            points, triangles = done["points"], done["triangles"]
        parts.append(mended(points, triangles, name)[0])
    even = united(parts)
    whole = even.names == surface.names and not faults_of(even)
    few = whole and np.abs(even.volumes / surface.volumes - 1).max() <= EVEN_VOLUME
    return even if few else None


def _contents(surface: Surface, parent: ndarray) -> Float[ndarray, " part"]:
    """Volume directly inside each part, without the parts in it."""
    volume = surface.volumes
    inner = np.bincount(parent[parent >= 0], volume[parent >= 0], len(volume))
    return volume - inner


def _filled(
    surface: Surface, parent: ndarray, labels: ndarray, size: float, limits: Limits
) -> tuple[ndarray, ndarray, ndarray]:
    """Points, tets and the part of each tet, by netgen."""
    domain = np.where(labels > 0, np.arange(1, len(labels) + 1), 0)
    outer = np.where(parent >= 0, domain[parent], 0)
    job: dict[str, ndarray | float] = {
        "points": surface.points,
        "triangles": surface.triangles,
        "inner": domain[surface.part],
        "outer": outer[surface.part],
        "size": size,
    }
    done = run_apart("spinmesh.meshing.worker:seal", job, limits, f"meshing {surface.names[0]}")
    return done["points"], done["tets"], done["domain"] - 1


def _expected_tets(surface: Surface, parent: ndarray, labels: ndarray, size: float) -> float:
    """Regular tets of the size that fill all, and some for each triangle."""
    volume = np.maximum(_contents(surface, parent), 0)[labels != 0].sum()
    return float(volume / (size**3 / (6 * np.sqrt(2))) + TETS_PER_TRIANGLE * len(surface.triangles))


def _filled_roughly(
    surface: Surface, size: float, limits: Limits
) -> tuple[ndarray, ndarray, ndarray]:
    """The same by fTetWild: a tet is of the smallest part that goes round its middle."""
    job: dict[str, ndarray | float] = {
        "points": surface.points,
        "triangles": surface.triangles,
        "size": size,
        "epsilon": EPSILON,
    }
    limits = replace(limits, seconds=limits.repair_seconds)
    done = run_apart("spinmesh.meshing.worker:wild", job, limits, f"meshing {surface.names[0]}")
    points, tets = done["points"], done["tets"]
    middle, part = points[tets].mean(1), np.full(len(tets), -1)
    for number in np.argsort(-surface.volumes):
        low, high = surface.boxes[number]
        near = np.flatnonzero(((middle > low) & (middle < high)).all(1))
        turns = winding_numbers(middle[near], surface.corners[surface.part == number])
        part[near[turns > 0.5]] = number
    return points, tets[part >= 0], part[part >= 0]


def _notes(wrong: Sequence[str], error: ndarray, name: str) -> list[str]:
    worst = float(error.max())
    if not wrong:
        if worst > SEALED:
            raise MeshError(
                f"{name}: the tets' volume differs from the surface's by {worst:.2g} of it, though "
                "no fault was seen. Do parts touch or overlap? Move them apart."
            )
        return []
    if worst > CHANGED:
        raise MeshError(
            f"{name}: {'; '.join(wrong)}. Filled nevertheless, its volume would change "
            f"by {worst:.2g} of it. Close the surface (Blender, MeshLab) and export it again."
        )
    return [
        *(f"repaired by fTetWild: {fault}" for fault in wrong),
        f"fTetWild changed the volume of a part by up to {worst:.2g} of it",
    ]
