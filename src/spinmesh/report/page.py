"""One page on which inputs are turned and cut open: no other file and no network is needed."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from spinmesh.mesh import TetMesh, sizes, tet_quality
from spinmesh.report.inputs import palette
from spinmesh.report.surface import surface

TEMPLATE = Path(__file__).with_name("turnable.html")
# Of each compartment; a larger surface is decimated, which moves it by less than a pixel or so.
MOST_TRIANGLES = 12_000
STEPS = 2**16 - 1


def scene_of(mesh: TetMesh, notes: Sequence[str]) -> str:
    """What the page draws of one mesh, as JSON: each compartment's closed surface, in 16 bits."""
    low, high = mesh.bounding_box.detach().numpy()
    length, colours, parts = float((high - low).max()), palette(mesh, notes), []
    for label, (volume, area) in zip(mesh.labels, sizes(mesh).tolist(), strict=True):
        points, triangles = _outer(mesh.part(label))
        places = np.round(STEPS * ((points - low) / length).clip(0, 1)).astype("<u2")
        colour, words = colours[label]
        parts.append(
            {
                "colour": colour,
                "words": f"{words}: {volume:.4g} um³, {area:.4g} um²",
                "places": b64encode(places.tobytes()).decode(),
                "triangles": b64encode(triangles.astype("<u4").tobytes()).decode(),
            }
        )
    worst = float(tet_quality(mesh).min())
    about = f"{len(mesh.points):,} nodes, {len(mesh.tets):,} tets, worst quality {worst:.2f}"
    box = ((high - low) / length).tolist()
    scene = {"name": mesh.name, "about": about, "um": length, "box": box, "parts": parts}
    return json.dumps(scene | {"notes": list(notes)[len(parts) :]})


def page_of(scenes: Sequence[str]) -> str:
    """The page of the scenes, which are JSON from `scene_of`."""
    # A note cannot end the script that it stands in.
    data = "[" + ",\n".join(scenes).replace("</", "<\\/") + "]"
    return TEMPLATE.read_text(encoding="utf-8").replace("/*SCENES*/", data)


def _outer(mesh: TetMesh) -> tuple[Float[ndarray, "point 3"], Int[ndarray, "triangle 3"]]:
    """The surface of a mesh, curved faces in pieces, with few triangles."""
    corners = surface(mesh, np.eye(3), ["black"]).triangles
    # Corners of neighbouring faces differ by rounding only.
    places = corners.reshape(-1, 3)
    _, first, number = np.unique(places.round(6), axis=0, return_index=True, return_inverse=True)
    points, triangles = places[first], number.reshape(-1, 3).astype(int)
    if len(triangles) > MOST_TRIANGLES:
        import pyvista

        whole = pyvista.PolyData.from_regular_faces(points, triangles)
        few = whole.decimate(1 - MOST_TRIANGLES / len(triangles), volume_preservation=True)
        points, triangles = (
            np.array(few.points, dtype=np.float64),
            np.array(few.regular_faces).view(np.int64),
        )
    return points, triangles
