"""The user's meshes, through meshio."""

from __future__ import annotations

from pathlib import Path

import meshio
import numpy as np
import torch

from spinmesh.errors import MeshError, StoreError
from spinmesh.mesh import TetMesh, check_quality, oriented
from spinmesh.writing import complete_or_absent

# Cell data that may name the compartments, in the order in which they are looked for.
LABEL_KEYS = ("gmsh:physical", "medit:ref", "compartment", "cell_markers")
VOLUME_CELLS = {"tetra": 4, "tetra10": 10}
IGNORED_CELLS = ("vertex", "line", "line3", "triangle", "triangle6")


def read_mesh(path: str | Path, scale_to_um: float = 1.0, name: str | None = None) -> TetMesh:
    """A checked tetrahedral mesh from any format meshio reads (.msh, .vtu, .mesh, ...).

    Compartment labels come from the first of `LABEL_KEYS` in the cell data (all 1 without).
    `scale_to_um` multiplies the coordinates. Surface and line cells are ignored.

    Raises MeshError for other cell types, mixed orders, folded or degenerate tets; StoreError if
    the file is missing or unreadable. They name the file; the mesh is called `name`, by default the
    file's without its folder and suffix.
    """
    path = Path(path)
    if not path.is_file():
        raise StoreError(f"{path}: no such mesh file. Check the path (from the folder of the run).")
    try:
        mesh = meshio.read(path)
    except (meshio.ReadError, KeyError, ValueError, SystemExit) as error:
        raise StoreError(f"{path}: meshio cannot read it ({error}). Export it again.") from error
    blocks = [i for i, cells in enumerate(mesh.cells) if cells.type not in IGNORED_CELLS]
    kinds = {mesh.cells[i].type for i in blocks}
    if len(kinds) != 1 or not kinds <= set(VOLUME_CELLS):
        raise MeshError(
            f"{path}: volume cells are {sorted(kinds) or 'absent'}; spinmesh takes tetra or "
            "tetra10, one of the two. Re-mesh with tetrahedra."
        )
    tets = np.concatenate([mesh.cells[i].data for i in blocks]).astype(np.int64)
    used, renumbered = np.unique(tets, return_inverse=True)
    points = np.asarray(mesh.points, dtype=np.float64)[used] * scale_to_um
    labels = torch.from_numpy(_labels(path, mesh, blocks, len(tets)))
    cells = torch.from_numpy(renumbered.reshape(tets.shape))
    checked = check_quality(oriented(TetMesh(torch.from_numpy(points), cells, labels, str(path))))
    return checked.with_points(checked.points, name or path.stem)


def _labels(path: Path, mesh: meshio.Mesh, blocks: list[int], count: int) -> np.ndarray:
    for key in LABEL_KEYS:
        if key in mesh.cell_data:
            labels = np.concatenate([np.ravel(mesh.cell_data[key][i]) for i in blocks])
            wrong = ~np.isfinite(labels) | (labels != np.round(labels))
            if wrong.any():
                first = int(wrong.argmax())
                raise MeshError(
                    f"{path}: label `{key}` of tet {first} is {labels[first]}. Compartments are "
                    "whole numbers; write them again."
                )
            return labels.astype(np.int64)
    return np.ones(count, dtype=np.int64)


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
