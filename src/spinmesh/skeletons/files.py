"""Skeletons with radii: SWC, CATERPillar, CACTUS and DiSCo, XNH axons, MC/DC lists.

Each becomes a union of round cones. Whatever a file has that is not its format's, and what was left
away, is said in the notes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from spinmesh.errors import MeshError
from spinmesh.files.reading import reading
from spinmesh.meshing.files import factor_of, question_unit
from spinmesh.skeletons.cones import RoundCones

SKELETONS = (".swc", ".csv", ".txt")
SOMA = 1
# A soma of three nodes (NeuroMorpho): two stand on its sphere, to this share of the radius.
THREE_POINTS = 0.2
VOXEL = 0.5  # um, of XNH axons
PER_MM = 1e3
# um: what is above is questioned in an SWC. Betz cells have a radius of 50, and traced axons nodes
# every 100 at the least.
THICKEST, FARTHEST = 100.0, 500.0
CATERPILLAR = {"x", "y", "z"}
ENDLESS = "cylinders have round ends, unless a cell (--cut) cuts them flat"


@dataclass(frozen=True, eq=False)
class Skeleton:
    """A solid, where it comes from, and what a reader must know about its file.

    `cell` is the box (um) that the file names as its own; `endless` ones are cylinders that a cell
    cuts, with round ends where none does.
    """

    cones: RoundCones
    name: str
    notes: tuple[str, ...] = ()
    cell: Float[ndarray, "2 3"] | None = None
    endless: bool = False

    def through(self, cell: Float[ndarray, "2 3"]) -> Skeleton:
        """The same, with endless cylinders so long that their ends are outside of a cell."""
        if not self.endless:
            return self
        cones, middle = self.cones, cell.mean(0)
        axis = cones.end - cones.start
        length = np.linalg.norm(axis, axis=1)
        axis = axis / np.where(length > 0, length, 1)[:, None]
        foot = cones.start + ((middle - cones.start) * axis).sum(1, keepdims=True) * axis
        reach = (np.linalg.norm(cell[1] - cell[0]) / 2 + 1.5 * cones.largest_radius)[:, None] * axis
        longer = replace(cones, start=foot - reach, end=foot + reach)
        return replace(self, cones=longer, notes=())


def read_skeletons(path: str | Path, scale_to_um: float | None = None) -> list[Skeleton]:
    """The solids of a file, the outer before the inner ones.

    `scale_to_um` multiplies lengths, by default those of the format. Raises MeshError for nodes in
    a cycle, radii that are not above 0, files of no known kind, and where no scale is given for a
    size that no cell has in um.
    """
    path = Path(path)
    factor = factor_of(path, scale_to_um)
    with reading(path, "skeleton", "Export it again, or give a surface."):
        text = path.read_text(encoding="utf-8", errors="replace")
        rows = [line.replace(",", " ").replace(";", " ").split() for line in text.splitlines()]
        rows = [row for row in rows if row and not row[0].startswith("#")]
        if not rows:
            raise MeshError(f"{path}: is empty.")
        if {word.lower() for word in rows[0]} >= CATERPILLAR:
            made = _caterpillar(path, rows)
        elif path.suffix.lower() == ".swc":
            made = [_swc(path, text.splitlines())]
        else:
            made = _list(path, rows)
    skeletons = [scaled(each, factor, path) for each in made]
    if scale_to_um is None:
        question_unit(path, float(np.ptp(skeletons[0].cones.box, axis=0).max()))
        if path.suffix.lower() == ".swc":
            _question_outliers(path, skeletons[0].cones)
    return skeletons


def _question_outliers(path: Path, cones: RoundCones) -> None:
    """A radius or a step to the parent that no cell has is a slip of the file."""
    step = np.linalg.norm(cones.end - cones.start, axis=1)
    for what, value, most in (("radius", cones.largest_radius, THICKEST), ("step", step, FARTHEST)):
        wrong = np.flatnonzero(value > most)
        if len(wrong):
            place = ", ".join(f"{x:.5g}" for x in cones.end[wrong[0]])
            raise MeshError(
                f"{path}: {len(wrong)} nodes with a {what} above {most:g} um (first at {place}: "
                f"{value[wrong[0]]:.4g} um). Mend them, or give scale_to_um, 1 if it is meant."
            )


def described(skeleton: Skeleton) -> list[str]:
    """Lines for a reader: cones, radii, the size of its box, and what was left away."""
    cones = skeleton.cones
    box = [f"({x:.5g}, {y:.5g}, {z:.5g})" for x, y, z in cones.box.tolist()]
    length = np.linalg.norm(cones.end - cones.start, axis=1).sum()
    return [
        f"{skeleton.name}: {len(cones.start):,} cones, {length:.5g} um long in all",
        f"radii {cones.smallest_radius:.3g} to {cones.largest_radius.max():.3g} um, median "
        f"{cones.median_radius:.3g}",
        f"box {box[0]} to {box[1]}",
        *skeleton.notes,
    ]


def scaled(skeleton: Skeleton, factor: float, path: Path) -> Skeleton:
    """The same with lengths times a factor; MeshError for radii not above 0 or lost places."""
    cones = skeleton.cones
    radii = np.concatenate([cones.start_radius, cones.end_radius])
    wrong = ~(radii > 0) | ~np.isfinite(radii)
    lost = ~np.isfinite(np.concatenate([cones.start, cones.end])).all(1)
    if (wrong | lost).any():
        first = int(np.argmax(wrong | lost)) % len(cones.start)
        place = ", ".join(f"{x:.5g}" for x in cones.start[first])
        raise MeshError(
            f"{path}: {int((wrong | lost).sum())} ends of segments have no radius > 0 or no place "
            f"(first at {place}). Give every node a radius."
        )
    larger = RoundCones(
        cones.start * factor, cones.end * factor, cones.start_radius * factor,
        cones.end_radius * factor,
    )  # fmt: skip
    cell = None if skeleton.cell is None else skeleton.cell * factor
    return replace(skeleton, cones=larger, cell=cell)


def _chains(places: ndarray, radii: ndarray, chain: Sequence[object]) -> RoundCones:
    """Cones from each place to the next of the same chain; a chain of one is a sphere."""
    _, number = np.unique(np.array([str(each) for each in chain]), return_inverse=True)
    follows = np.r_[False, number[1:] == number[:-1]]
    alone = ~follows & ~np.r_[follows[1:], False]
    end = np.flatnonzero(follows | alone)
    start = np.where(alone[end], end, end - 1)
    return RoundCones(places[start], places[end], radii[start], radii[end])


def _numbers(path: Path, rows: Sequence[Sequence[str]]) -> ndarray:
    try:
        return np.array([[float(word) for word in row] for row in rows])
    except ValueError:
        raise MeshError(f"{path}: rows of different length, or with words among numbers.") from None


def _caterpillar(path: Path, rows: list[list[str]]) -> list[Skeleton]:
    """Both of its formats: `inner_radius outer_radius`, or `Rin Rout`; um."""
    header = [word.lower() for word in rows[0]]
    radius = [name for name in ("outer_radius", "rout") if name in header]
    within = [name for name in ("inner_radius", "rin") if name in header]
    whole = [row for row in rows[1:] if len(row) == len(header)]
    if not radius or not within or not whole:
        raise MeshError(f"{path}: no spheres with inner and outer radius. Is it CATERPillar's?")
    column = {name: [row[i] for row in whole] for i, name in enumerate(header)}
    values = _numbers(
        path, list(zip(*(column[n] for n in ("x", "y", "z", *within, *radius)), strict=True))
    )
    keys = ("cell_type", "cell_id", "component", "component_id", "id_ax", "id_branch")
    chain = list(zip(*(column[key] for key in keys if key in header), strict=True))
    places, inner, outer = values[:, :3], values[:, 3], values[:, 4]
    short = len(rows) - 1 - len(whole)
    notes = (f"{path}: {short} rows of another length left away",) if short else ()
    made = [Skeleton(_chains(places, outer, chain), str(path), notes)]
    sheathed = np.flatnonzero(inner < outer)
    if len(sheathed):
        cones = _chains(places[sheathed], inner[sheathed], [chain[i] for i in sheathed])
        made.append(Skeleton(cones, f"{path}, inside its myelin"))
    return made


def _list(path: Path, rows: list[list[str]]) -> list[Skeleton]:
    """CACTUS or DiSCo strands, XNH axons, or MC/DC cylinders or spheres, told apart by columns."""
    widths = [len(row) for row in rows]
    if widths[0] == 1 and widths[1:2] == [1]:
        return [_strands(path, rows)]
    if widths[0] == 1 and set(widths[1:]) in ({4}, {7}):
        values = _numbers(path, rows[1:]) * float(rows[0][0]) * PER_MM
        ends = values[:, :3], values[:, -4:-1]
        cones = RoundCones(*ends, values[:, -1], values[:, -1])
        # MC/DC itself takes their ends for two points of an axis that the voxel cuts.
        endless = values.shape[1] == 7
        notes = (f"{path}: {ENDLESS}",) if endless else ()
        return [Skeleton(cones, str(path), notes, endless=endless)]
    if set(widths) == {8}:
        values = _numbers(path, rows)
        radius = values[:, 6] * PER_MM / 2
        return [Skeleton(_chains(values[:, :3] * VOXEL, radius, [0] * len(values)), str(path))]
    raise MeshError(
        f"{path}: neither strands (side, count, then points and `x y z r`), an XNH axon (8 "
        "columns), nor an MC/DC list (scale, then 4 or 7 columns). Give one of these."
    )


def _strands(path: Path, rows: list[list[str]]) -> Skeleton:
    count, at, places, chain = int(rows[1][0]), 2, [], []
    for strand in range(count):
        if at >= len(rows) or len(rows[at]) != 1:
            raise MeshError(f"{path}: strand {strand + 1} of {count} is not there. Cut off?")
        points = int(float(rows[at][0]))
        block = rows[at + 1 : at + 1 + points]
        if len(block) < points or any(len(row) != 4 for row in block):
            raise MeshError(f"{path}: strand {strand + 1} has no {points} rows of `x y z r`.")
        places += block
        chain += [strand] * points
        at += points + 1
    values, side = _numbers(path, places), _numbers(path, rows[:1])[0, 0]
    cell = np.array([[-0.5], [0.5]]) * np.full(3, side)
    return Skeleton(_chains(values[:, :3], values[:, 3], chain), str(path), cell=cell)


def _swc(path: Path, lines: list[str]) -> Skeleton:
    """Nodes with a parent each; of versions in conflict the first is taken."""
    rows, skipped, theirs = [], [], False
    for number, line in enumerate(lines, 1):
        words = line.split("#")[0].replace(",", " ").split()
        if line.startswith(("<<<<<<<", "=======", ">>>>>>>")):
            theirs = line.startswith("=======")
            skipped.append(number)
        elif words and (theirs or not _is_node(words)):
            skipped.append(number)
        elif words:
            rows.append([float(word) for word in words[:7]])
    if not rows:
        raise MeshError(f"{path}: no line `id type x y z radius parent`.")
    notes = []
    if skipped:
        notes.append(f"{path}: {len(skipped)} lines left away (first: line {skipped[0]})")
    return _tree(path, np.array(rows), notes)


def _is_node(words: list[str]) -> bool:
    try:
        return len([float(word) for word in words[:7]]) == 7
    except ValueError:
        return False


def _tree(path: Path, nodes: ndarray, notes: list[str]) -> Skeleton:
    ids, first = np.unique(nodes[:, 0].astype(np.int64), return_index=True)
    if len(ids) < len(nodes):
        notes.append(
            f"{path}: {len(nodes) - len(ids)} nodes of a number there is already, left away"
        )
        nodes = nodes[np.sort(first)]
        ids, first = np.unique(nodes[:, 0].astype(np.int64), return_index=True)
    at = np.minimum(np.searchsorted(ids, nodes[:, 6].astype(np.int64)), len(ids) - 1)
    parent = np.where(ids[at] == nodes[:, 6], first[at], -1)
    _refuse_cycles(path, nodes, parent)
    roots = np.flatnonzero(parent < 0)
    if len(roots) > 1:
        notes.append(f"{path}: {len(roots)} roots; what does not touch is apart")
    return Skeleton(_cones_of(nodes, parent), str(path), tuple(notes))


def _refuse_cycles(path: Path, nodes: ndarray, parent: ndarray) -> None:
    """Going up 2^k steps at once, everyone is at a root after log2 of the count."""
    up = np.where(parent < 0, len(parent), parent)
    up = np.append(up, len(parent))
    for _ in range(int(np.ceil(np.log2(len(parent) + 1))) + 1):
        up = up[up]
    cyclic = np.flatnonzero(up[:-1] < len(parent))
    if len(cyclic):
        raise MeshError(
            f"{path}: {len(cyclic)} nodes lie on or behind a cycle of parents (first: node "
            f"{int(nodes[cyclic[0], 0])}). Mend the parents."
        )


def _cones_of(nodes: ndarray, parent: ndarray) -> RoundCones:
    """A neurite leaves the soma with its own radius; a soma of three points is one sphere."""
    place, radius, soma = nodes[:, 2:5], nodes[:, 5], nodes[:, 1] == SOMA
    somata = np.flatnonzero(soma)
    three = False
    if len(somata) == 3:
        apart = np.linalg.norm(place[somata[1:]] - place[somata[0]], axis=1)
        three = bool((np.abs(apart - radius[somata[0]]) < THREE_POINTS * radius[somata[0]]).all())
    start = np.where(parent < 0, np.arange(len(nodes)), parent)
    start_radius = radius[start]
    leaves = ~soma & soma[parent] & (parent >= 0)
    start_radius = np.where(leaves, radius, start_radius)
    is_cone = np.ones(len(nodes), dtype=bool)
    if three:
        start = np.where(leaves, somata[0], start)
        is_cone[somata[1:]] = False
    return RoundCones(place[start][is_cone], place[is_cone], start_radius[is_cone], radius[is_cone])
