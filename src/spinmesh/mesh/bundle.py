"""Packed bundles in three dimensions: triangles of their plane swept in layers, then deformed."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from spinmesh.mesh.faces import turned_positive
from spinmesh.mesh.maps import beaded_fibres, dispersed, undulating, unfolded
from spinmesh.mesh.packing import Disks, pack_densely
from spinmesh.mesh.plane import AXON, MYELIN, SIDES, WATER, PeriodicPlane, mesh_plane
from spinmesh.mesh.template import prisms_to_tets, with_mid_edge_nodes
from spinmesh.mesh.tetmesh import TET_EDGES, TetMesh
from spinmesh.settings.bundle import PackedBundle

# What deforms a straight bundle, in the order of the maps, with its unit; 0 is straight.
SHAPE = {"bead_amplitude": "1", "dispersion_deg": "deg", "undulation_amplitude_um": "um"}
# Of axons that have each a label of their own.
FIRST_AXON = 4


@dataclass(frozen=True, eq=False)
class Bundle:
    """A straight bundle in its periodic cell, and what its deformations need to know of it."""

    straight: TetMesh  # curved tets, z from 0 to the length
    fibres: Disks  # with their myelin
    phase: Float[Tensor, " disk"]  # of the beads, rad
    settings: PackedBundle  # without ranges

    @property
    def periods(self) -> tuple[float, float, float]:
        """After which the bundle repeats itself along x, y and z (um)."""
        return self.fibres.cell, self.fibres.cell, self.settings.length_um

    @property
    def names(self) -> dict[int, str]:
        """What each compartment holds."""
        usual = {AXON: "axons", WATER: "water between axons", MYELIN: "myelin"}
        labels = self.straight.labels
        return {label: usual.get(label, f"axon {label - FIRST_AXON + 1}") for label in labels}

    def points(self, shape: Mapping[str, float | Tensor]) -> Float[Tensor, "point 3"]:
        """Node coordinates (um) at the values of `SHAPE`; differentiable in them.

        Axons are beaded, then dispersed, then undulate. Each map has the cell's periods, so that
        opposite faces match node for node whatever the values.
        """
        settings = self.settings
        points = self.straight.points
        t = points[:, 2] / settings.length_um
        amplitude, count = shape["bead_amplitude"], settings.bead_count
        points = beaded_fibres(points, t, self.fibres, amplitude, count, self.phase)
        tilt = torch.deg2rad(torch.as_tensor(shape["dispersion_deg"], dtype=points.dtype))
        amplitude = torch.tan(tilt) * settings.length_um
        amplitude = amplitude / (torch.pi * settings.dispersion_count)
        points = dispersed(points, t, self.fibres.cell, amplitude, settings.dispersion_count)
        amplitude = shape["undulation_amplitude_um"]
        return undulating(points, t, amplitude, settings.undulation_count)

    def mesh(self) -> TetMesh:
        """The bundle at the values of its settings.

        Raises MeshError if a tet is turned, naming the parameter to blame.
        """
        values = {name: float(getattr(self.settings, name)) for name in SHAPE}
        mesh = self.straight.with_points(self.points(values))
        return unfolded(mesh, self.points, values, dict.fromkeys(SHAPE, 0.0), SHAPE)


def bundle_of(settings: PackedBundle, row: int = 0) -> Bundle:
    """One of the bundles that the settings stand for; it depends on their seed and its row alone.

    Raises MeshError if the radii find no room, or triangles none between the circles.
    """
    rng = np.random.default_rng([settings.seed, row])
    settings = _drawn(settings, rng)
    shape = 1 / settings.variation**2
    radii = settings.radius_um * rng.gamma(shape, 1 / shape, settings.axons)
    fibres = pack_densely(radii, settings.volume_fraction, settings.gap_um, rng)
    seed = int(rng.integers(2**32))
    plane = mesh_plane(fibres, settings.size_um, seed, inside=True, g_ratio=settings.g_ratio)
    if settings.label_each_axon:
        label = np.where(plane.label == AXON, FIRST_AXON + plane.disk, plane.label)
        plane = replace(plane, label=label)
    plane = unrolled(plane, fibres)
    mesh = swept(plane, settings.length_um, settings.layers, f"bundle of {settings.axons} axons")
    periods = torch.tensor([fibres.cell, fibres.cell, settings.length_um], dtype=torch.float64)
    mesh = replace(mesh, periods=periods)
    phase = torch.from_numpy(2 * np.pi * rng.random(settings.axons))
    return Bundle(mesh, fibres, phase, settings)


def _drawn(settings: PackedBundle, rng: np.random.Generator) -> PackedBundle:
    """The same settings with a number, drawn evenly, in the place of every range."""
    values = {key: float(rng.uniform(*pair)) for key, pair in settings.ranges.items()}
    return settings.replace(**values, ranges={})


def unrolled(plane: PeriodicPlane, disks: Disks) -> PeriodicPlane:
    """The same triangles where they lie side by side, with other nodes for each image of a node.

    A disk stays whole, around its centre in the cell. Water grows from the triangle nearest to the
    cell's middle, the nearest next, so that it stays in one piece. The rim is jagged; what faces it
    across the cell is its translation. Images of a node have neighbouring numbers, so that two
    nodes on the rim are in the order of their images.
    """
    cell, centre = plane.cell, plane.points[:, :3].mean(1)
    shift = np.zeros((len(centre), 2), dtype=int)
    within = plane.disk >= 0
    home = disks.centres[plane.disk[within]] % cell
    shift[within] = -np.round((centre[within] - home) / cell)
    water = np.flatnonzero(~within)
    shift[water] = _grown(plane.points[water], plane.nodes[water], cell)
    points = plane.points + cell * shift[:, None]
    flat, first = plane.nodes.ravel(), np.zeros(plane.nodes.max() + 1, dtype=int)
    first[flat] = np.arange(len(flat))
    image = np.round((points - points.reshape(-1, 2)[first][plane.nodes]) / cell).astype(int)
    key = np.column_stack([flat, image.reshape(-1, 2)])
    _, nodes = np.unique(key, axis=0, return_inverse=True)
    return replace(plane, points=points, nodes=nodes.reshape(plane.nodes.shape))


def _grown(
    points: Float[ndarray, "triangle 6 2"], nodes: Int[ndarray, "triangle 6"], cell: float
) -> Int[ndarray, "triangle 2"]:
    """Shifts, in cells, by which triangles lie side by side around the cell's middle."""
    sides = nodes[:, 3:].ravel()
    order = np.argsort(sides, kind="stable")
    twice = np.flatnonzero(sides[order][1:] == sides[order][:-1])
    neighbours: list[list[tuple[int, ndarray]]] = [[] for _ in nodes]
    middle = points[:, 3:].reshape(-1, 2)
    for one, other in zip(order[twice], order[twice + 1], strict=True):
        step = np.round((middle[one] - middle[other]) / cell).astype(int)
        neighbours[one // 3].append((other // 3, step))
        neighbours[other // 3].append((one // 3, -step))
    away = points[:, :3].mean(1) / cell - 0.5
    shifts = np.zeros((len(nodes), 2), dtype=int)
    reached = np.zeros(len(nodes), dtype=bool)
    heap = [(0.0, triangle, (0, 0)) for triangle in np.abs(away).max(1).argsort()[:1].tolist()]
    while heap:
        _, triangle, shift = heapq.heappop(heap)
        if reached[triangle]:
            continue
        reached[triangle], shifts[triangle] = True, shift
        for other, step in neighbours[triangle]:
            if not reached[other]:
                there = np.array(shift) + step
                distance = float(np.abs(away[other] + there).max())
                heapq.heappush(heap, (distance, int(other), tuple(there.tolist())))
    return shifts


def swept(plane: PeriodicPlane, length: float, layers: int, name: str) -> TetMesh:
    """The triangles of an unrolled plane swept along z: curved tets from 0 to `length` (um).

    A tet is the image of a straight one under the map of its triangle, so that sheets between
    compartments stay curved and volumes are areas times the length.
    """
    flat = np.zeros((plane.nodes.max() + 1, 2))
    flat[plane.nodes] = plane.points
    count = int(plane.nodes[:, :3].max()) + 1
    levels = np.repeat(np.linspace(0, length, layers + 1), count)
    points = np.column_stack([np.tile(flat[:count], (layers + 1, 1)), levels])
    tets = turned_positive(points, prisms_to_tets(plane.nodes[:, :3], count, layers))
    points, tets = with_mid_edge_nodes(points, tets)
    # The middle of an edge lies over the middle of the side that it projects to.
    sides = np.sort(plane.nodes[:, :3][:, SIDES], -1) @ [count, 1]
    side, place = np.unique(sides, return_index=True)
    ends = np.sort(tets[:, np.array(TET_EDGES)] % count, -1)
    leaning = ends[..., 0] != ends[..., 1]
    middles = plane.nodes[:, 3:].ravel()[place][np.searchsorted(side, ends[leaning] @ [count, 1])]
    points[tets[:, 4:][leaning], :2] = flat[middles]
    label = torch.from_numpy(np.tile(plane.label, 3 * layers))
    return TetMesh(torch.from_numpy(points), torch.from_numpy(tets), label, name)
