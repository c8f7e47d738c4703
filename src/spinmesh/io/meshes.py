"""The user's meshes, through meshio."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from pathlib import Path

import meshio
import numpy as np
import torch
from numpy import ndarray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from spinmesh.errors import ConfigError, MeshError, MeshWarning, ScaleWarning
from spinmesh.files.reading import reading
from spinmesh.files.writing import complete_or_absent
from spinmesh.io.store import load
from spinmesh.mesh import TetMesh, check_quality, oriented
from spinmesh.mesh.faces import all_faces, pair_faces

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
    "nastran:ref",
    "avsucd:material",
    "materialids",
    "region",
    "gmsh:geometrical",
)
VOLUME_CELLS = {"tetra": 4, "tetra10": 10}
SURFACE_CELLS = ("triangle", "triangle6")
IGNORED_CELLS = ("vertex", "line", "line3", *SURFACE_CELLS)
# What sets of cells are called, as if they were cell data.
SETS = "cell sets"
# Nodes nearer than this fraction of the mesh, or of its shortest edge, are one: six digits.
WELD = (1e-5, 1e-2)
REMEDY = (
    "Export it again (.msh, .vtu without lz4); in gmsh give every volume a physical group, or none."
)
# um; nobody meshes 10 cm of tissue, whatever unit is given.
LARGEST = 1e5
MANY = 2**53  # Whole numbers up to here are exact in double precision.


def read_mesh(
    path: str | Path,
    scale_to_um: float | None = None,
    name: str | None = None,
    label_key: str | None = None,
) -> TetMesh:
    """A checked tetrahedral mesh from any format meshio reads (.msh, .vtu, .mesh, ...), or a store.

    Compartment labels come from the cell data or cell sets named `label_key`, by default the first
    of `LABEL_KEYS`, then sets (numbered from 1 in the file's order), then the parts that surface
    cells divide the mesh into; else all are 1. `scale_to_um` multiplies the coordinates; where it
    is not given, a size that no cell has in um is refused. Nodes at one place are made one, with a
    warning.

    Raises MeshError for other cell types, mixed orders, folded or degenerate tets, cell data that
    may be labels under other names; StoreError if the file is missing or unreadable; ConfigError
    for a scale of 0 or less. They name the file; the mesh is called `name`, by default the file's
    without its folder and suffix.
    """
    path = Path(path)
    if scale_to_um is not None and not 0 < scale_to_um < np.inf:
        raise ConfigError(f"{path}: scale_to_um is {scale_to_um}; give a number > 0, 1 for um.")
    if path.suffix == ".zarr":
        stored = load(TetMesh, path)
        factor = scale_to_um or 1.0
        periods = None if stored.periods is None else stored.periods * factor
        return replace(stored.with_points(stored.points * factor, name), periods=periods)
    mesh = _read(path)
    blocks = [i for i, cells in enumerate(mesh.cells) if cells.type not in IGNORED_CELLS]
    kinds = {mesh.cells[i].type for i in blocks}
    if len(kinds) != 1 or not kinds <= set(VOLUME_CELLS):
        raise MeshError(
            f"{path}: volume cells are {sorted(kinds) or 'absent'}; spinmesh takes tetra or "
            "tetra10, one of the two. Re-mesh with tetrahedra."
        )
    with reading(path, "mesh file", REMEDY):
        tets = np.concatenate([mesh.cells[i].data for i in blocks]).astype(np.int64)
        surface = [cells.data[:, :3] for cells in mesh.cells if cells.type in SURFACE_CELLS]
        triangles = np.concatenate([np.empty((0, 3)), *surface]).astype(np.int64)
        points = np.asarray(mesh.points, dtype=np.float64)
        arrays = _cell_arrays(mesh, blocks, len(tets))
    low, high = int(tets.min(initial=0)), int(tets.max(initial=-1))
    shapes = tets.shape[1:] == (VOLUME_CELLS[kinds.pop()],) and points.shape[1:] == (3,)
    if low < 0 or high >= len(points) or not shapes:
        raise MeshError(
            f"{path}: tets point at nodes {low}..{high} of {len(points)} with "
            f"{points.shape[-1]} coordinates. The file is damaged; write it again."
        )
    labels = _labels(path, arrays, label_key)
    points, place = _welded(path, points * (scale_to_um or 1.0), tets)
    tets, inside = place[tets], ((triangles >= 0) & (triangles < len(place))).all(1)
    labels = _divided(path, tets, place[triangles[inside]], labels)
    _question_parts(path, tets, labels, len(points))
    remedy = "Re-mesh the surface with better-shaped tets, or remove slivers."
    cells = (torch.from_numpy(tets), torch.from_numpy(labels))
    with warnings.catch_warnings():
        if scale_to_um is None:
            warnings.simplefilter("error", ScaleWarning)
        try:
            whole = oriented(TetMesh(torch.from_numpy(points), *cells, str(path)))
            checked = check_quality(whole, remedy)
        except ScaleWarning as doubt:
            raise MeshError(f"{doubt} If it is in um, say so: scale_to_um 1.") from doubt
    return checked.with_points(checked.points, name or path.stem)


def _read(path: Path) -> meshio.Mesh:
    with reading(path, "mesh file", REMEDY):
        if path.suffix.lower() == ".vtu" and len(re.findall(rb"<Piece\s", path.read_bytes())) > 1:
            raise MeshError(
                f"{path}: the file has several pieces, of which one would be read. Merge them "
                "(ParaView: Merge Blocks, then save)."
            )
        return meshio.read(path)


def _cell_arrays(mesh: meshio.Mesh, blocks: list[int], count: int) -> dict[str, ndarray]:
    """Cell data with one number for each tet, and sets of tets: 1, 2, ... if they hold each once.

    Sets that do not are 0 and 1 each; several names of one set are one.
    """
    arrays = {}
    for key, values in mesh.cell_data.items():
        parts = [np.asarray(values[i]) for i in blocks]
        if sum(part.size for part in parts) == count and all(p.dtype.kind in "biuf" for p in parts):
            # Truth values become 0 and 1.
            arrays[key] = np.concatenate([part.ravel() for part in parts]) + 0
    start = np.cumsum([0, *(len(mesh.cells[i].data) for i in blocks)])
    sets: dict[str, ndarray] = {}
    for name, members in mesh.cell_sets.items():
        inside = np.zeros(count, dtype=np.int64)
        for first, block in zip(start, blocks, strict=False):
            if members[block] is not None:
                inside[first + np.asarray(members[block], dtype=np.int64)] = 1
        again = any((inside == other).all() for other in sets.values())
        if inside.any() and ":" not in name and not again:
            sets[name] = inside
    table = np.array(list(sets.values()))
    if sets and (table.sum(0) == 1).all():
        sets = {SETS: 1 + table.argmax(0)}
    return arrays | sets


def _labels(path: Path, arrays: dict[str, ndarray], label_key: str | None) -> ndarray | None:
    """The compartment of each tet; None if the file says nothing of them."""
    if label_key is not None:
        if label_key not in arrays:
            names = ", ".join(arrays) or "none"
            raise MeshError(f"{path}: no cell data `{label_key}`. It has: {names}.")
        return _whole(path, label_key, arrays[label_key])
    order = {key: number for number, key in enumerate((*LABEL_KEYS, SETS))}
    candidates = [
        (key, values)
        for key, values in arrays.items()
        if (key.lower() in order or _may_be_labels(values))
        # Without groups programs write 0 for every tet.
        and values.any()
    ]
    if not candidates:
        return None
    candidates.sort(key=lambda item: order.get(item[0].lower(), len(order)))
    (first, labels), *others = candidates
    # A physical group may well unite several volumes, or sets overlap the cell data.
    finer = [
        key
        for key, values in others
        if key.lower() != "gmsh:geometrical" and _count(labels, values) > _count(labels)
    ]
    loose = int((labels == 0).sum()) if first == "gmsh:physical" else 0
    if first.lower() not in order or finer or loose:
        raise MeshError(
            f"{path}: which cell data are the compartments? "
            + (f"{loose} tets are in no group. " if loose else "")
            + f"Candidates: {', '.join([first, *finer])}. Name one by --label-key (in a "
            "configuration `label_key`), or remove the others."
        )
    return _whole(path, first, labels)


def _count(*arrays: ndarray) -> int:
    """How many tets some arrays tell apart."""
    return len(np.unique(np.stack(arrays), axis=1).T)


def _may_be_labels(values: ndarray) -> bool:
    """Whether they are whole numbers that tell some tets apart, but not each from all."""
    whole = bool((np.isfinite(values) & (values == np.round(values))).all())
    return whole and 1 < _count(values) < len(values)


def _whole(path: Path, key: str, values: ndarray) -> ndarray:
    with np.errstate(invalid="ignore"):
        wrong = ~(np.isfinite(values) & (values == np.round(values)) & (np.abs(values) < MANY))
    if wrong.any():
        first = int(wrong.argmax())
        raise MeshError(
            f"{path}: label `{key}` of tet {first} is {values[first]}. Compartments are "
            "whole numbers below 2^53; write them again."
        )
    return values.astype(np.int64)


def _welded(path: Path, points: ndarray, tets: ndarray) -> tuple[ndarray, ndarray]:
    """The nodes of the tets, those at one place made one, and where each node of the file is now.

    Two nodes at one place would be a wall that no spin crosses. A node of no tet is nowhere: -1.
    """
    used, renumbered = np.unique(tets, return_inverse=True)
    place = np.full(len(points), -1)
    place[used] = np.arange(len(used))
    points = points[used]
    extent = float((points.max(0) - points.min(0)).max())
    if not extent < LARGEST:
        raise MeshError(
            f"{path}: it is {extent:.3g} um long, or has points that are not finite. Give its unit "
            "by `scale_to_um`, or repair it."
        )
    corners = points[renumbered.reshape(tets.shape)[:, :4]]
    edges = np.linalg.norm(corners[:, :, None] - corners[:, None], axis=-1)
    shortest = edges[:, *np.triu_indices(4, 1)].min()
    near = min(WELD[0] * extent, WELD[1] * shortest)
    pairs = cKDTree(points).query_pairs(near, output_type="ndarray")
    if len(pairs) == 0:
        return points, place
    place_number = _parts(pairs.T, len(points))
    _, first = np.unique(place_number, return_index=True)
    _warn(
        f"{path}: {len(points) - len(first)} nodes lay on others and were made one with them; two "
        "nodes at one place are a wall. Where it is meant, give its sides two labels."
    )
    place[used] = place_number
    return points[first], place


def _divided(path: Path, tets: ndarray, triangles: ndarray, labels: ndarray | None) -> ndarray:
    """The labels; of a file without any, the parts that its surface cells divide the tets into.

    Surface cells inside one compartment otherwise are no membrane, which is said.
    """
    faces = all_faces(tets)
    one, two, _ = pair_faces(faces)
    corners = np.concatenate([np.sort(faces[one, :3], 1), np.unique(np.sort(triangles, 1), axis=0)])
    _, which, count = np.unique(corners, axis=0, return_inverse=True, return_counts=True)
    wall = count[which[: len(one)]] == 2
    sides = np.stack([one, two]) // 4
    if labels is None:
        parts = _parts(sides[:, ~wall], len(tets))
        labels = np.ones(len(tets), dtype=np.int64)
        if parts.max() > _parts(sides, len(tets)).max():
            _warn(
                f"{path}: no labels, but {int(wall.sum())} surface cells divide it into "
                f"{parts.max() + 1} parts, which are taken for compartments. If they are one, give "
                "them one label."
            )
            labels = 1 + parts
    inner = int((wall & (labels[sides[0]] == labels[sides[1]])).sum())
    if inner:
        _warn(
            f"{path}: {inner} surface cells lie inside a compartment, and are no membrane. If they "
            "are meant to be one, give the volumes on its sides two labels."
        )
    return labels


def _question_parts(path: Path, tets: ndarray, labels: ndarray, count: int) -> None:
    for label in np.unique(labels):
        inside = tets[labels == label]
        ends = np.stack([np.repeat(inside[:, 0], inside.shape[1] - 1), inside[:, 1:].ravel()])
        parts = len(np.unique(_parts(ends, count)[inside[:, 0]]))
        if parts > 1:
            _warn(
                f"{path}: compartment {label} is in {parts} parts that share no node; no spin "
                "passes between them. If they are meant to touch, mesh them together."
            )


def _parts(pairs: ndarray, count: int) -> ndarray:
    """The number of the connected part that each of `count` members is in."""
    graph = coo_array((np.ones(pairs.shape[1]), tuple(pairs)), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _warn(text: str) -> None:
    warnings.warn(text, MeshWarning, stacklevel=4)


def write_mesh(mesh: TetMesh, path: str | Path, point_data: dict | None = None) -> None:
    """Write a mesh for ParaView and other tools (.vtu, .msh, ...), complete or not at all.

    Warns (MeshWarning) of periods, for which these files have no place. Raises ConfigError for
    formats of two files.
    """
    path = Path(path)
    if mesh.periods is not None:
        warnings.warn(
            f"{path}: periods are kept in a store (.zarr) alone; read from this file, the cell has "
            "walls at its faces.",
            MeshWarning,
            stacklevel=2,
        )
    kind = "tetra" if mesh.order == 1 else "tetra10"
    labels = mesh.compartment.numpy()
    # Two programs end their files in .msh; the second, and the one meant here, is gmsh.
    file_format = meshio.extension_to_filetypes[path.suffix][-1]
    if file_format == "tetgen":
        raise ConfigError(f"{path}: needs two files. Give .vtu or .msh.")
    # In a file of their own, the numbers of .xdmf would be lost.
    options = {"data_format": "XML"} if file_format == "xdmf" else {}
    with complete_or_absent(path) as partial:
        meshio.Mesh(
            mesh.points.detach().numpy(),
            [(kind, mesh.tets.numpy())],
            cell_data={"compartment": [labels]},
            point_data={key: np.asarray(value) for key, value in (point_data or {}).items()},
        ).write(partial, file_format=file_format, **options)
