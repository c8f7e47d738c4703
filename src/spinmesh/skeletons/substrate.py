"""Substrates of dmipy-sim (`.sub.json`): walls of known shapes, in metres, in a box of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from spinmesh.errors import MeshError
from spinmesh.files.reading import reading
from spinmesh.meshing.files import factor_of, question_unit, read_surface
from spinmesh.meshing.surface import Surface
from spinmesh.skeletons.cones import RoundCones
from spinmesh.skeletons.files import ENDLESS, Skeleton, read_skeletons, scaled

METRE = 1e6  # um
# Files of walls that are surfaces; lists are skeletons.
SURFACES, LISTS = ("ply", "stl", "obj"), ("strands", "caterpillar")

Solid = tuple[Skeleton | Surface, Sequence[str]]


def read_substrate(path: str | Path, scale_to_um: float | None = None) -> list[Solid]:
    """The solid inside each wall of a substrate, with what was mended, named by its pool.

    `scale_to_um` multiplies lengths after metres became um. Diffusivities and times of pools are
    not taken. Raises StoreError for a file without walls, MeshError for walls of other kinds.
    """
    path = Path(path)
    factor = factor_of(path, scale_to_um)
    remedy = "Is it a substrate of dmipy-sim (Substrate.save)? Export it again."
    with reading(path, "substrate", remedy):
        about = json.loads(path.read_text())
        pools = {pool["id"]: pool["name"] for pool in about["pools"]}
        cell = np.array([about["domain"]["box_min"], about["domain"]["box_max"]], dtype=np.float64)
        solids = [
            each
            for wall in about["walls"]
            for each in _solids(path, wall, cell, factor, f"{path}, {pools[wall['inside_pool']]}")
        ]
        if not solids:
            raise MeshError(f"{path}: has no walls. Give one with cells or axons.")
    if scale_to_um is None:
        question_unit(path, float(np.ptp(cell, axis=0).max() * METRE))
    return _by_name(solids)


def _solids(
    path: Path, wall: Mapping[str, Any], cell: ndarray, factor: float, name: str
) -> list[Solid]:
    surface, scale = wall["surface"], METRE * factor
    kind, form = surface["kind"], surface.get("format")
    if kind in SHAPES and "file" not in surface:
        endless = kind == "cylinder" and "length" not in surface
        notes = (f"{path}: {ENDLESS}",) if kind == "cylinder" else ()
        solid = Skeleton(SHAPES[kind](surface, cell), name, notes, cell, endless)
        return [(scaled(solid, scale, path), ())]
    file = path.parent / surface.get("file", "")
    scale *= surface.get("scale", 1.0)
    if form in SURFACES:
        there, faults = read_surface(file, scale)
        named = replace(there, names=(name,) * len(there.names))
        return [(named, [f"{file}: {fault}" for fault in faults])]
    if form in LISTS and "cell_type" not in surface:
        parts = read_skeletons(file, scale)
        inner = surface.get("column") == "inner_radius"
        return [(replace(parts[-1 if inner else 0], name=name, cell=cell * METRE * factor), ())]
    form = f"one cell type of a {form}" if "cell_type" in surface else form
    raise MeshError(
        f"{path}: wall {wall['name']} is a {kind}{f' of {form} file' * bool(form)}; taken are "
        f"{', '.join(SHAPES)}, and files of {', '.join((*SURFACES, *LISTS))}. Give a label volume "
        "by itself."
    )


ENDS = ("start", "end", "start_radius", "end_radius")


def _instances(surface: Mapping[str, Any]) -> tuple[ndarray, ndarray]:
    """Centres and radii of all bodies that a wall goes round."""
    many = surface.get("instances", surface)
    centres = many.get("centers", [surface.get("center", (0, 0, 0))])
    radii = many.get("radii", [surface.get("radius")])
    places = np.array(centres, dtype=np.float64).reshape(-1, 3)
    return places, np.broadcast_to(np.array(radii, dtype=np.float64), len(places))


def _spheres(surface: Mapping[str, Any], _: ndarray) -> RoundCones:
    centres, radii = _instances(surface)
    return RoundCones(centres, centres, radii, radii)


def _cylinders(surface: Mapping[str, Any], cell: ndarray) -> RoundCones:
    centres, radii = _instances(surface)
    axis = np.array(surface.get("instances", surface).get("axes", surface.get("axis")), dtype=float)
    axis = axis / np.linalg.norm(axis, axis=-1, keepdims=True)
    half = surface.get("length", float(np.ptp(cell, axis=0).max())) / 2 * axis
    return RoundCones(centres - half, centres + half, radii, radii)


def _polyline(surface: Mapping[str, Any], _: ndarray) -> RoundCones:
    line = np.array(surface["centerline"], dtype=np.float64).reshape(-1, 3)
    radius = np.broadcast_to(np.array(surface["radius"], dtype=np.float64), len(line))
    return RoundCones(line[:-1], line[1:], radius[:-1], radius[1:])


SHAPES: Mapping[str, Callable[[Mapping[str, Any], ndarray], RoundCones]] = {
    "sphere": _spheres,
    "sphere_union": _spheres,
    "cylinder": _cylinders,
    "swept_polyline": _polyline,
}


def _by_name(solids: Sequence[Solid]) -> list[Solid]:
    """Skeletons of one pool as one, for they are one compartment."""
    joined: dict[str, Skeleton] = {}
    others = []
    for solid, mended in solids:
        if not isinstance(solid, Skeleton):
            others.append((solid, mended))
        elif solid.name not in joined:
            joined[solid.name] = solid
        else:
            first = joined[solid.name]
            cones = RoundCones(
                *(
                    np.concatenate([getattr(each.cones, key) for each in (first, solid)])
                    for key in ENDS
                )
            )
            joined[solid.name] = replace(first, cones=cones)
    return [*((solid, ()) for solid in joined.values()), *others]
