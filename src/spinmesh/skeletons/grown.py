"""The solid of a skeleton, grown in a process of its own: as a surface, or as tets at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy import ndarray

from spinmesh.errors import MeshError
from spinmesh.mesh import TetMesh, check_quality, oriented
from spinmesh.mesh.curved import Solid
from spinmesh.meshing.fill import Filling
from spinmesh.meshing.mending import mended
from spinmesh.meshing.process import Limits, run_apart
from spinmesh.meshing.surface import Surface, winding_numbers
from spinmesh.meshing.tets import boundary, parts_by_faces, pinches, quality
from spinmesh.skeletons.background import CUT_SIZE, expected_tets
from spinmesh.skeletons.files import Skeleton

# Edges in local radii, and how far facets may be from the surface in median radii; skeletons of
# many cones are meshed more coarsely, with a third of the tets.
FINE, COARSE = (1.0, 0.2), (1.3, 0.4)
MANY_CONES = 500
LONGEST = 3.0  # um


def grown(
    skeleton: Skeleton,
    size: float | None = None,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> tuple[Surface, Filling]:
    """The union of a skeleton's cones: its surface, and tets that fill it as compartment 1.

    `size` (um) is the longest edge. Notes say how many parts it is in, and how many nodes of the
    skeleton are not inside. Raises MeshError where two sheets meet in a corner or a limit is
    reached.
    """
    edges, hausdorff = FINE if len(skeleton.cones.start) <= MANY_CONES else COARSE
    cones = skeleton.cones.in_pieces()
    limits.question(expected_tets(cones, CUT_SIZE, size or LONGEST), skeleton.name)
    job: dict[str, ndarray | float] = {
        "start": cones.start,
        "end": cones.end,
        "start_radius": cones.start_radius,
        "end_radius": cones.end_radius,
        "size": edges,
        "hausdorff": hausdorff,
        "longest": size or LONGEST,
    }
    done = run_apart("spinmesh.skeletons.solid:grow", job, limits, f"meshing {skeleton.name}")
    points, tets = done["points"], done["tets"]
    pinched = pinches(tets)
    if len(pinched):
        place = ", ".join(f"{x:.5g}" for x in points[pinched[0]])
        raise MeshError(
            f"{skeleton.name}: two sheets meet in {len(pinched)} corners (first at {place}). "
            "Do branches touch there? Move them apart, or give a smaller --size."
        )
    surface, _ = mended(points, boundary(tets), skeleton.name)
    mesh = TetMesh(
        torch.from_numpy(points),
        torch.from_numpy(tets),
        torch.ones(len(tets), dtype=torch.int64),
        skeleton.name,
    )
    checked = check_quality(oriented(mesh), "Give the skeleton's nodes larger radii.")
    notes = (*skeleton.notes, *_notes(skeleton, surface, tets))
    worst = f"worst quality of {len(tets):,} tets {quality(points, tets).min():.3g}"
    solid = Solid(surface.points, skeleton.cones.nearest)
    return surface, Filling(checked, {1: skeleton.name}, (*notes, worst), (solid,))


def _notes(skeleton: Skeleton, surface: Surface, tets: ndarray) -> Sequence[str]:
    parts = int(parts_by_faces(tets).max()) + 1
    notes = [f"{skeleton.name}: in {parts} parts apart"] if parts > 1 else []
    nodes = np.unique(np.concatenate([skeleton.cones.start, skeleton.cones.end]), axis=0)
    outside = np.flatnonzero(winding_numbers(nodes, surface.corners) < 0.5)
    if len(outside):
        place = ", ".join(f"{x:.5g}" for x in nodes[outside[0]])
        words = f"{len(outside)} of {len(nodes)} nodes are not inside (first at {place})"
        notes.append(f"{skeleton.name}: {words}")
    return notes
