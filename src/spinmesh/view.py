"""What the page shows of stores and of a run's folder: which store is a scene, and with what."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from spinmesh.bloch_torrey import Signals
from spinmesh.bundles import ImageSet
from spinmesh.errors import StoreError
from spinmesh.files.places import place
from spinmesh.files.writing import write_text
from spinmesh.images import Draws, Synthesis
from spinmesh.inversion import Reconstruction, Target
from spinmesh.inversion.voxels import ShapeMaps
from spinmesh.io import load
from spinmesh.io.store import attributes_of
from spinmesh.maps import PosteriorMaps
from spinmesh.mesh import Substrates, TetMesh
from spinmesh.phantom import Phantom
from spinmesh.progress import progress
from spinmesh.report import page
from spinmesh.shapes import ShapeModel
from spinmesh.stored import schema_of

# Places of stores, with the noun that each of them holds.
Stores = Mapping[Path, type]
Scene = page.Scene
# Triangles of all meshes of a page together: about 4 MB.
MOST_TOGETHER = 200_000


def write_page(paths: Iterable[str | Path], out: str | Path) -> str:
    """Write one page of all that can be shown of stores, or of folders of them; says what it has.

    Raises StoreError if nothing there can be shown, or a store is damaged.
    """
    # Absolute, so that a run's folder has a name from inside too.
    stores = stores_in([place(path).absolute() for path in paths])
    scenes = []
    for path in progress([p for p in stores if stores[p] in SCENES], "view"):
        if (scene := SCENES[stores[path]](path, stores)) is not None:
            scenes.append({"group": path.parent.name} | scene)
    text = page.page_of(scenes)
    write_text(text, out)
    return f"{out}: {len(scenes)} scenes, {len(text.encode()) / 1e6:.1f} MB"


def stores_in(paths: list[Path]) -> dict[Path, type]:
    """Stores that the page shows or needs; of a folder those in it and two levels further down.

    Shards of a table (`0-of-2.zarr`) are left out. Raises StoreError if there is nothing to show.
    """
    nouns = {schema_of(noun).name: noun for noun in (*SCENES, ShapeModel)}
    files = chain(*(sorted(path.glob(f"{'*/' * n}zarr.json")) for path in paths for n in range(4)))
    whole = [file.parent for file in files if not re.search(r"/\d+-of-\d+\.", file.as_posix())]
    names = {path: str(attributes_of(path).get("schema")) for path in whole}
    stores = {path: nouns[name] for path, name in names.items() if name in nouns}
    if not SCENES.keys() & {*stores.values()}:
        there = ", ".join(sorted({*names.values()} - {"None"})) or "no store of spinmesh"
        given = ", ".join(map(str, paths))
        known = ", ".join(sorted(nouns)).replace("spinmesh/", "")
        raise StoreError(
            f"{given}: {there} here, of which the page shows nothing. Give a run's folder "
            f"(results/<run>), or stores of these kinds: {known}."
        )
    return stores


def _beside(path: Path, stage: str, other: str, stores: Stores) -> Path | None:
    """The store at the same place in another stage's folder of the run, if it is there."""
    run, found, name = path.as_posix().rpartition(f"/{stage}/")
    names = {"substrates.zarr": "signals.zarr", "signals.zarr": "substrates.zarr"}
    there = place(f"{run}/{other}/{names.get(name, name)}")
    return there if found and there in stores else None


def _mesh(path: Path, stores: Stores) -> Scene:
    count = [*stores.values()].count(TetMesh)
    notes = attributes_of(path).get("notes", [])
    scene = page.mesh_scene(
        load(TetMesh, path), notes, min(page.MOST_TRIANGLES, MOST_TOGETHER // count)
    )
    if signals := _beside(path, "mesh", "simulate", stores):
        scene |= page.signal_scene(load(Signals, signals)) | {"name": scene["name"]}
    return scene


def _table(path: Path, stores: Stores) -> Scene:
    table = load(Substrates, path)
    rows = page.evenly(len(table))
    scene = page.table_scene(path.stem, table, rows)
    if signals := _beside(path, "mesh", "simulate", stores):
        if stores[signals] is Signals:
            scene |= page.signal_scene(load(Signals, signals, substrate=rows))
        else:
            scene |= page.target_scene(load(Target, signals))
    return scene


def _reconstruction(path: Path, stores: Stores) -> Scene:
    result = load(Reconstruction, path)
    models = [p for p, noun in stores.items() if noun is ShapeModel and p.parent == path.parent]
    model = load(ShapeModel, models[0]) if models else None  # type: ignore[type-abstract]
    truth = None
    if target := _beside(path.with_name("target.zarr"), "reconstruct", "simulate", stores):
        shape = _beside(target, "simulate", "mesh", stores)
        simulated = load(Target, target).attenuation
        # A measured signal has no known shape behind it.
        if shape is not None and torch.equal(simulated, result.target.attenuation):
            truth = load(Substrates, shape).mesh(0)
    return page.reconstruction_scene(path.stem, result, model, truth)


def _signals(path: Path, stores: Stores) -> Scene | None:
    if _beside(path, "simulate", "mesh", stores):
        return None  # shown with their shapes
    noun = stores[path]
    if noun is Target:
        return {"name": path.stem} | page.target_scene(load(Target, path))
    return {"name": path.stem} | page.signal_scene(load(Signals, path, substrate=slice(60)))


def _alone(path: Path, stores: Stores) -> Scene:
    return ALONE[stores[path]](path.stem, load(stores[path], path))


ALONE: dict[type, Callable[[str, Any], Scene]] = {
    **dict.fromkeys((ImageSet, Synthesis, Draws), page.image_scene),
    **dict.fromkeys((Phantom, PosteriorMaps, ShapeMaps), page.volume_scene),
}
SCENES: dict[type, Callable[[Path, Stores], Scene | None]] = {
    Substrates: _table,
    TetMesh: _mesh,
    Signals: _signals,
    Target: _signals,
    Reconstruction: _reconstruction,
    **dict.fromkeys(ALONE, _alone),
}
