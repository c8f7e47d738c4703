"""The shapes of a run's own: folders and patterns to files, and a name for each."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from spinmesh.errors import ConfigError
from spinmesh.settings.mesh import MeshInput, safe_name

# Endings of the files that a folder stands for: all that `spinmesh mesh` reads. Longer ones first.
ENDINGS = (
    *(".nii.gz", ".nii", ".tif", ".tiff", ".ply", ".stl", ".obj", ".off", ".vtp", ".wrl", ".swc"),
    *(".csv", ".txt", ".sub.json", ".yaml", ".yml", ".zarr", ".msh", ".vtu", ".vtk", ".mesh"),
    *(".inp", ".med", ".xdmf"),
)


def expanded(entries: Sequence[MeshInput], root: Path) -> tuple[MeshInput, ...]:
    """An entry for each file of folders and patterns, and each bundle, with a name of its own.

    ConfigError for a folder or pattern without files, and for entries of one name.
    """
    files = [each for entry in entries for each in _files_of(entry, root)]
    names = [entry.name or safe_name(_stem(Path(entry.path[0]).name)) for entry in files]
    count = Counter(map(str.lower, names))
    for number, entry in enumerate(files):
        if entry.name is None and count[names[number].lower()] > 1:
            names[number] = safe_name("-".join(Path(entry.path[0]).parts))
    count = Counter(map(str.lower, names))
    for name, entry in zip(names, files, strict=True):
        if count[name.lower()] > 1:
            raise ConfigError(
                f"config: `mesh.inputs`: {count[name.lower()]} entries are called {name} (one of "
                f"them is {', '.join(entry.path)}). Give each a `name` of its own."
            )
    return tuple(entry.replace(name=name) for name, entry in zip(names, files, strict=True))


def _files_of(entry: MeshInput, root: Path) -> list[MeshInput]:
    if entry.bundle is not None:
        rows = range(entry.count) if entry.count > 1 else ()
        names = [(f"{entry.name}-{row + 1}", row) for row in rows]
        return [entry.replace(name=name, row=row, count=1) for name, row in names] or [entry]
    path, given = root / entry.path[0], entry.path[0]
    folder = path.is_dir() and ".zarr" not in {part[-5:] for part in path.parts}
    pattern = not path.exists() and glob.has_magic(given)
    if len(entry.path) > 1 or not (folder or pattern):
        return [entry]
    found = glob.glob(f"{glob.escape(given)}/*" if folder else given, root_dir=root, recursive=True)
    files = [file for file in sorted(found) if not folder or file.lower().endswith(ENDINGS)]
    files = [file for file in files if (root / file).is_file() or file.endswith(".zarr")]
    if not files or (entry.name and len(files) > 1):
        what = f"stands for {len(files)} files, which cannot all be called {entry.name}"
        what = what if files else f"stands for no file of {', '.join(ENDINGS)}"
        raise ConfigError(f"config: `mesh.inputs`: {given} {what}. Correct the entry.")
    return [entry.replace(path=(file,)) for file in files]


def _stem(name: str) -> str:
    ending = next((end for end in ENDINGS if name.lower().endswith(end)), Path(name).suffix)
    return name[: len(name) - len(ending)] or name
