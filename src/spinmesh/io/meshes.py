"""The user's meshes, through meshio."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import meshio
import numpy as np
import torch
from numpy import ndarray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from spinmesh.errors import ConfigError, MeshError, MeshWarning, ScaleWarning
from spinmesh.mesh import TET_FACES, TetMesh, check_quality, oriented
from spinmesh.reading import reading
from spinmesh.writing import complete_or_absent

# Cell data that names the compartments, in the order in which they are looked for; in any case.
LABEL_KEYS = (
    "gmsh:physical",
    "medit:ref",
    "compartment",
    "cell_markers",
    "tetgen:ref",
    "cell_tags",
    "cellentityids",
    "su2:tag",
    "materialids",
    "region",
    "gmsh:geometrical",
)
VOLUME_CELLS = {"tetra": 4, "tetra10": 10}
IGNORED_CELLS = ("vertex", "line", "line3", "triangle", "triangle6")
# Nodes nearer than this fraction of the mesh, or of its shortest edge, are one: six digits.
WELD = (1e-5, 1e-2)
REMEDY = "Export it again (.msh, .vtu); in gmsh give every volume a physical group, or none."
HUGE = 1e12  # um
MANY = 2**53  # Whole numbers up to here are exact in double precision.


def read_mesh(
    path: str | Path,
    scale_to_um: float | None = None,
    name: str | None = None,
    label_key: str | None = None,
) -> TetMesh:
    """A checked tetrahedral mesh from any format meshio reads (.msh, .vtu, .mesh, ...).

    Compartment labels come from the cell data or cell sets named `label_key`, by default the first
    of `LABEL_KEYS`, then sets (numbered from 1 in the file's order); all 1 without. `scale_to_um`
    multiplies the coordinates; where it is not given, a size that no cell has in um is refused.
    Nodes at one place are made one, with a warning. Surface and line cells are ignored.

    Raises MeshError for other cell types, mixed orders, folded or degenerate tets, cell data that
    may be labels under other names; StoreError if the file is missing or unreadable. They name the
    file; the mesh is called `name`, by default the file's without its folder and suffix.
    """
    path = Path(path)
    if scale_to_um is not None and not 0 < scale_to_um < np.inf:
        raise ConfigError(f"{path}: scale_to_um is {scale_to_um}; give a number > 0, 1 for um.")
    with reading(path, "mesh file", REMEDY):
        if path.suffix.lower() == ".vtu" and path.read_bytes().count(b"<Piece ") > 1:
            raise MeshError(
                f"{path}: the file has several pieces, of which one would be read. Merge them "
                "(ParaView: Merge Blocks, then save)."
            )
        mesh = meshio.read(path)
    blocks = [i for i, cells in enumerate(mesh.cells) if cells.type not in IGNORED_CELLS]
    kinds = {mesh.cells[i].type for i in blocks}
    if len(kinds) != 1 or not kinds <= set(VOLUME_CELLS):
        raise MeshError(
            f"{path}: volume cells are {sorted(kinds) or 'absent'}; spinmesh takes tetra or "
            "tetra10, one of the two. Re-mesh with tetrahedra."
        )
    with reading(path, "mesh file", REMEDY):
        tets = np.concatenate([mesh.cells[i].data for i in blocks]).astype(np.int64)
        points = np.asarray(mesh.points, dtype=np.float64)
    low, high = int(tets.min(initial=0)), int(tets.max(initial=-1))
    shapes = tets.shape[1:] == (VOLUME_CELLS[kinds.pop()],) and points.shape[1:] == (3,)
    if low < 0 or high >= len(points) or not shapes:
        raise MeshError(
            f"{path}: tets point at nodes {low}..{high} of {len(points)} with "
            f"{points.shape[-1]} coordinates. The file is damaged; write it again."
        )
    labels = _labels(path, mesh, blocks, len(tets), label_key)
    _question_inner_surfaces(path, mesh, tets, labels)
    used, renumbered = np.unique(tets, return_inverse=True)
    points, tets = points[used] * (scale_to_um or 1.0), renumbered.reshape(tets.shape)
    points, tets = _welded(path, points, tets, labels)
    cells, compartment = torch.from_numpy(tets), torch.from_numpy(labels)
    remedy = "Re-mesh the surface with better-shaped tets, or remove slivers."
    with warnings.catch_warnings():
        if scale_to_um is None:
            warnings.simplefilter("error", ScaleWarning)
        try:
            checked = check_quality(
                oriented(TetMesh(torch.from_numpy(points), cells, compartment, str(path))), remedy
            )
        except ScaleWarning as doubt:
            raise MeshError(f"{doubt} If it is in um, say so: scale_to_um 1.") from doubt
    return checked.with_points(checked.points, name or path.stem)


@dataclass(frozen=True)
class _CellArray:
    """One number for each tet."""

    key: str
    values: ndarray

    @property
    def count(self) -> int:
        """How many different ones there are."""
        return len(np.unique(self.values))

    @property
    def may_be_labels(self) -> bool:
        """Known by name, or whole numbers that tell some tets apart, but not each from all."""
        known = self.key.lower() in LABEL_KEYS
        return known or (self.values.dtype.kind in "iu" and 1 < self.count < len(self.values))

    def splits(self, other: _CellArray) -> bool:
        """Whether it tells apart tets that the other one does not."""
        pairs = np.unique(np.stack([other.values, self.values], 1), axis=0)
        return len(pairs) > other.count


def _labels(
    path: Path, mesh: meshio.Mesh, blocks: list[int], count: int, label_key: str | None
) -> ndarray:
    arrays = [*_cell_arrays(mesh, blocks, count), *_cell_sets(mesh, blocks, count)]
    names = ", ".join(dict.fromkeys(array.key for array in arrays)) or "none"
    if label_key is not None:
        chosen = [array for array in arrays if array.key == label_key]
        if not chosen:
            raise MeshError(f"{path}: no cell data `{label_key}`. It has: {names}.")
        return _whole(path, chosen[0])
    order = {key: number for number, key in enumerate(LABEL_KEYS)}
    candidates = [array for array in arrays if array.may_be_labels]
    candidates.sort(key=lambda array: order.get(array.key.lower(), len(order)))
    # Without groups gmsh writes 0 for every tet.
    grouped = [a for a in candidates if a.key != "gmsh:physical" or a.values.any()]
    if not grouped:
        return np.ones(count, dtype=np.int64)
    first, *others = grouped
    known = first.key.lower() in LABEL_KEYS or first.key == SETS
    # A physical group may well unite several volumes, or sets overlap the cell data.
    finer = [a.key for a in others if a.splits(first) and a.key.lower() != "gmsh:geometrical"]
    loose = first.key == "gmsh:physical" and not first.values.all()
    if not known or finer or loose:
        raise MeshError(
            f"{path}: which cell data are the compartments? "
            + (f"{int((first.values == 0).sum())} tets are in no group. " if loose else "")
            + f"Candidates: {', '.join([first.key, *finer])}. Name one by --label-key (in a "
            "configuration `label_key`), or remove the others."
        )
    return _whole(path, first)


SETS = "cell sets"


def _cell_arrays(mesh: meshio.Mesh, blocks: list[int], count: int) -> list[_CellArray]:
    found = []
    for key, values in mesh.cell_data.items():
        parts = [np.asarray(values[i]) for i in blocks]
        if sum(part.size for part in parts) == count and all(p.dtype.kind in "biuf" for p in parts):
            found.append(_CellArray(key, np.concatenate([part.ravel() for part in parts])))
    return found


def _cell_sets(mesh: meshio.Mesh, blocks: list[int], count: int) -> list[_CellArray]:
    """Labels 1, 2, ... from sets that hold each tet once, several names of one set being one."""
    start = np.cumsum([0, *(len(mesh.cells[i].data) for i in blocks)])
    sets: list[_CellArray] = []
    for name, members in mesh.cell_sets.items():
        inside = np.zeros(count, dtype=np.int64)
        for number, block in enumerate(blocks):
            if members[block] is not None:
                inside[start[number] + np.asarray(members[block], dtype=np.int64)] = 1
        again = any((inside == other.values).all() for other in sets)
        if inside.any() and ":" not in name and not again:
            sets.append(_CellArray(name, inside))
    members_of = np.array([each.values for each in sets])
    if sets and (members_of.sum(0) == 1).all():
        return [_CellArray(SETS, 1 + members_of.argmax(0))]
    return sets


def _whole(path: Path, array: _CellArray) -> ndarray:
    values = array.values
    with np.errstate(invalid="ignore"):
        wrong = ~(np.isfinite(values) & (values == np.round(values)) & (np.abs(values) < MANY))
    if wrong.any():
        first = int(wrong.argmax())
        raise MeshError(
            f"{path}: label `{array.key}` of tet {first} is {values[first]}. Compartments are "
            "whole numbers below 2^53; write them again."
        )
    return values.astype(np.int64)


def _question_inner_surfaces(path: Path, mesh: meshio.Mesh, tets: ndarray, labels: ndarray) -> None:
    """Warn of surface cells inside one compartment: a membrane whose sides bear one label."""
    surface = [c.data[:, :3] for c in mesh.cells if c.type in ("triangle", "triangle6")]
    if not surface:
        return
    triangles = np.unique(np.sort(np.concatenate(surface), 1), axis=0)
    faces = np.sort(tets[:, np.array(TET_FACES)], 2).reshape(-1, 3)
    sides = np.column_stack([faces, np.repeat(labels, 4)])
    unique, count = np.unique(sides, axis=0, return_counts=True)
    both = np.concatenate([unique[count == 2, :3], triangles])
    inner = int((np.unique(both, axis=0, return_counts=True)[1] == 2).sum())
    if inner:
        warnings.warn(
            f"{path}: {inner} surface cells lie inside a compartment, and are no membrane. If they "
            "are meant to be one, give the volumes on its sides two labels.",
            MeshWarning,
            stacklevel=3,
        )


def _welded(path: Path, points: ndarray, tets: ndarray, labels: ndarray) -> tuple[ndarray, ndarray]:
    """Nodes at one place made one: two would be a wall that no spin crosses."""
    if not np.abs(points).max() < HUGE:
        return points, tets  # Refused by its size, or as not finite.
    corners = points[tets[:, :4]]
    edges = np.linalg.norm(corners[:, :, None] - corners[:, None], axis=-1)
    shortest = edges[:, *np.triu_indices(4, 1)].min()
    extent = float((points.max(0) - points.min(0)).max())
    near = min(WELD[0] * extent, WELD[1] * shortest)
    pairs = cKDTree(points).query_pairs(near, output_type="ndarray")
    if len(pairs):
        graph = coo_array((np.ones(len(pairs)), pairs.T), shape=(len(points),) * 2)
        count, owner = connected_components(graph, directed=False)
        _, first = np.unique(owner, return_index=True)
        warnings.warn(
            f"{path}: {len(points) - count} nodes lay on others and were made one with them; two "
            "nodes at one place are a wall. Where it is meant, give its sides two labels.",
            MeshWarning,
            stacklevel=3,
        )
        points, tets = points[first], owner[tets].astype(np.int64)
    for label in np.unique(labels):
        own = tets[labels == label]
        ends = (np.repeat(own[:, 0], own.shape[1] - 1), own[:, 1:].ravel())
        graph = coo_array((np.ones(len(ends[0])), ends), shape=(len(points),) * 2)
        parts = len(np.unique(connected_components(graph, directed=False)[1][own[:, 0]]))
        if parts > 1:
            warnings.warn(
                f"{path}: compartment {label} is in {parts} parts that share no node; no spin "
                "passes between them. If they are meant to touch, mesh them together.",
                MeshWarning,
                stacklevel=3,
            )
    return points, tets


def write_mesh(mesh: TetMesh, path: str | Path, point_data: dict | None = None) -> None:
    """Write a mesh for ParaView and other tools (.vtu, .msh, ...), complete or not at all."""
    path = Path(path)
    kind = "tetra" if mesh.order == 1 else "tetra10"
    labels = mesh.compartment.numpy()
    # Two programs end their files in .msh; the second, and the one meant here, is gmsh.
    file_format = meshio.extension_to_filetypes[path.suffix][-1]
    with complete_or_absent(path) as partial:
        meshio.Mesh(
            mesh.points.detach().numpy(),
            [(kind, mesh.tets.numpy())],
            cell_data={"compartment": [labels]},
            point_data={key: np.asarray(value) for key, value in (point_data or {}).items()},
        ).write(partial, file_format=file_format)
