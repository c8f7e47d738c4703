"""Files of surfaces: .ply, .stl, .obj, .off by trimesh, .vtp by pyvista, .wrl by ourselves."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy import ndarray

from spinmesh.errors import ConfigError, MeshError
from spinmesh.files.reading import reading
from spinmesh.meshing.mending import Fault, mended
from spinmesh.meshing.surface import Surface

SURFACES = (".ply", ".stl", ".obj", ".off", ".vtp", ".wrl")
REMEDY = "Export it again as .ply or .stl, of triangles."
# Half a micrometre to five millimetres: beyond it, which unit makes of it something of the
# size of a cell (um of each).
PLAUSIBLE = (0.5, 5e3)
UNITS = {"m": 1e6, "mm": 1e3, "nm": 1e-3, "angstrom": 1e-4}


def read_surface(
    path: str | Path, scale_to_um: float | None = None
) -> tuple[Surface, tuple[Fault, ...]]:
    """The parts of a file of triangles, and the faults that were mended.

    `scale_to_um` multiplies the coordinates; where it is not given, a size that no cell has in um
    is refused. Polygons of more corners are cut into triangles. Raises StoreError for a file that
    cannot be read, MeshError for one without triangles.
    """
    path = Path(path)
    factor = factor_of(path, scale_to_um)
    kind = path.suffix.lower()
    if kind not in SURFACES:
        raise ConfigError(f"{path}: surfaces are read from {', '.join(SURFACES)}. Export as one.")
    with reading(path, "surface", REMEDY):
        points, triangles = {".vtp": _polydata, ".wrl": _vrml}.get(kind, _by_trimesh)(path)
        points, triangles = points.reshape(-1, 3), triangles.reshape(-1, 3)
    surface, faults = mended(points * factor, triangles, str(path))
    if scale_to_um is None:
        question_unit(path, surface.length)
    return surface, faults


def factor_of(path: Path, scale_to_um: float | None) -> float:
    """What coordinates are multiplied with, 1 if nothing is given; ConfigError unless above 0."""
    if scale_to_um is None:
        return 1.0
    if not 0 < scale_to_um < np.inf:
        raise ConfigError(f"{path}: scale_to_um is {scale_to_um}; give a number > 0, 1 for um.")
    return scale_to_um


def question_unit(path: Path, length: float) -> None:
    """Raises MeshError for a length that no cell has in um."""
    if unit_of(length) != "um":
        raise MeshError(
            f"{path}: {length:.3g} um long; cells are some um. Is it in {unit_of(length)}? Give "
            "scale_to_um, 1 if it is in um."
        )


def unit_of(length: float) -> str:
    """The unit in which something of this length would be a cell; um wherever it may be."""
    if PLAUSIBLE[0] <= length <= PLAUSIBLE[1]:
        return "um"
    fitting = [name for name, um in UNITS.items() if PLAUSIBLE[0] <= length * um <= PLAUSIBLE[1]]
    return " or ".join(fitting) or "an unusual unit"


def _by_trimesh(path: Path) -> tuple[ndarray, ndarray]:
    import trimesh

    mesh = trimesh.load(path, process=False, maintain_order=True, skip_materials=True)
    if isinstance(mesh, trimesh.Scene):
        mesh = mesh.to_mesh()
    if not isinstance(mesh, trimesh.Trimesh):
        raise MeshError(f"{path}: no triangles. {REMEDY}")
    return np.array(mesh.vertices, dtype=np.float64), np.array(mesh.faces, dtype=np.int64)


def _polydata(path: Path) -> tuple[ndarray, ndarray]:
    import pyvista

    mesh = pyvista.read(path).triangulate()
    # VTK's whole numbers are of a type of their own, as long as these.
    return np.array(mesh.points, dtype=np.float64), np.array(mesh.regular_faces).view(np.int64)


def _vrml(path: Path) -> tuple[ndarray, ndarray]:
    """Every IndexedFaceSet of a VRML file (Imaris, Amira); moved or turned ones are refused."""
    text = re.sub(r"#.*", "", path.read_text(errors="replace"))
    for word, rest in (("translation", 0.0), ("scale", 1.0)):
        for numbers in re.findall(rf"\b{word}\s+(\S+\s+\S+\s+\S+)", text):
            if any(float(number) != rest for number in numbers.split()):
                raise MeshError(f"{path}: has a {word} of {numbers}. Apply it and export again.")
    points, triangles, start = [], [], 0
    for body in text.split("IndexedFaceSet")[1:]:
        coordinates = re.search(r"\bpoint\s*\[([^\]]*)\]", body)
        faces = re.search(r"\bcoordIndex\s*\[([^\]]*)\]", body)
        if coordinates is None or faces is None:
            raise MeshError(f"{path}: an IndexedFaceSet without points or faces. {REMEDY}")
        corner = np.array(coordinates[1].replace(",", " ").split(), dtype=np.float64)
        points.append(corner.reshape(-1, 3))
        index = np.array(faces[1].replace(",", " ").split(), dtype=np.int64)
        triangles.append(_fans(index) + start)
        start += len(points[-1])
    if not points:
        raise MeshError(f"{path}: no IndexedFaceSet. {REMEDY}")
    return np.concatenate(points), np.concatenate(triangles)


def _fans(index: ndarray) -> ndarray:
    """Triangles of polygons that are each ended by -1."""
    polygons = np.split(index, np.flatnonzero(index < 0) + 1)
    corners = [polygon[polygon >= 0] for polygon in polygons]
    fans = [
        (corner[0], corner[i], corner[i + 1])
        for corner in corners
        for i in range(1, len(corner) - 1)
    ]
    return np.array(fans, dtype=np.int64).reshape(-1, 3)
