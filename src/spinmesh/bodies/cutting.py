"""A body cut into cores with halos: what is observed, and what its water can come from.

The signal is a sum over the cores where spins are in the middle of the sequence, and what happens
to them before and after depends on what lies within the reach of diffusion: the halo. Distances
are geodesic, along the edges of the mesh and through permeable membranes, so that water on the
other side of a sealed one is not near.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.spatial import cKDTree

from spinmesh.fem import (
    CellMatrices,
    Matrices,
    Part,
    Patterns,
    Space,
    assemble,
    cell_matrices,
    function_space,
    summed,
)
from spinmesh.mesh import TetMesh, check_quality
from spinmesh.reduction import Projection
from spinmesh.tissue import Tissue

# The cost of a piece grows as its tets to this power (measured on a neuron: 1.7 to 2.3).
COST = 2.0
# Length (um) of the way through a permeable membrane; a graph knows no edge of length zero.
THROUGH = 1e-9


@dataclass(frozen=True, eq=False)
class Body:
    """A mesh with its tissue, assembled once for all its pieces."""

    mesh: TetMesh
    tissue: Tissue
    space: Space
    cells: CellMatrices
    linear: Matrices  # of the straight tets between the corners: distances and heat

    @classmethod
    def of(cls, mesh: TetMesh, tissue: Tissue) -> Body:
        """Raises MeshError or ConfigError as `assemble`."""
        straight = replace(mesh, tets=mesh.tets[:, :4])
        linear = assemble(straight, tissue)
        space = linear.space if mesh.order == 1 else function_space(check_quality(mesh))
        with torch.no_grad():
            cells = cell_matrices(mesh, space, tissue)
        return cls(mesh, tissue, space, cells, linear)

    @cached_property
    def corner_dofs(self) -> Int[ndarray, "tet 4"]:
        """Unknowns of the straight tets; they have numbers of their own."""
        return self.linear.space.tet_dofs.numpy()

    @cached_property
    def position(self) -> Float[ndarray, "dof 3"]:
        """Where the straight tets' unknowns are, um."""
        return self.mesh.points.detach().numpy()[self.linear.space.dof_point.numpy()]

    @cached_property
    def tree(self) -> cKDTree:
        """Of the positions."""
        return cKDTree(self.position)

    @cached_property
    def coupled(self) -> sp.csr_matrix:
        """Not zero where unknowns share a tet, or a membrane that lets water through."""
        return self.linear.mass + abs(self.linear.flux)

    @cached_property
    def ways(self) -> sp.csr_matrix:
        """Lengths (um) of the edges, and of the ways through membranes that let water through."""
        pattern = self.coupled.tocoo()
        apart = (pattern.row != pattern.col) & (pattern.data != 0)
        ends = pattern.row[apart], pattern.col[apart]
        lengths = np.linalg.norm(self.position[ends[0]] - self.position[ends[1]], axis=1)
        count = len(self.position)
        return sp.csr_matrix((np.maximum(lengths, THROUGH), ends), shape=(count, count))

    @cached_property
    def tets_of(self) -> sp.csr_matrix:
        """Which tets are around each unknown, (dof, tet)."""
        tets = np.repeat(np.arange(len(self.corner_dofs)), 4)
        shape = (len(self.position), len(self.corner_dofs))
        return sp.csr_matrix((np.ones(len(tets)), (self.corner_dofs.ravel(), tets)), shape=shape)

    def cores(self, size: float) -> list[Int[ndarray, " tet"]]:
        """Cores of tets whose first corner is nearest to one seed.

        Seeds are `size` um apart, and no unknown is farther from its own.
        """
        component = connected_components(self.ways, directed=False)[1]
        first = np.unique(component, return_index=True)[1]
        along, seeds = dijkstra(self.ways, indices=first, min_only=True), first
        distance = along
        while True:
            far = np.flatnonzero(distance > size)
            if not len(far):
                break
            left = np.zeros(len(distance), dtype=bool)
            left[far] = True
            new = []
            for dof in far[np.argsort(along[far])]:
                if left[dof]:
                    new.append(dof)
                    left[self.tree.query_ball_point(self.position[dof], size)] = False
            seeds = np.r_[seeds, new]
            distance = dijkstra(self.ways, indices=seeds, min_only=True)
        _, _, source = dijkstra(self.ways, indices=seeds, min_only=True, return_predecessors=True)
        core = source[self.corner_dofs[:, 0]]
        order = np.argsort(core, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(core[order])) + 1)


@dataclass(frozen=True, eq=False)
class Piece:
    """A core with its halo: the tets of which all corners are within reach of the core."""

    body: Body
    tets: Int[ndarray, " tet"]  # of the body
    core: Bool[ndarray, " tet"]  # of the piece's tets

    @cached_property
    def part(self) -> Part:
        """The piece's own unknowns, and where in the body they are."""
        chosen = torch.zeros(len(self.body.mesh.tets), dtype=torch.bool)
        chosen[torch.from_numpy(self.tets)] = True
        return self.body.space.part(chosen)

    @cached_property
    def mesh(self) -> TetMesh:
        """Of the piece alone."""
        body, tets = self.body.mesh, torch.from_numpy(self.tets)
        points = self.part.points
        number = torch.full((len(body.points),), -1).index_put((points,), torch.arange(len(points)))
        return TetMesh(
            body.points.detach()[points], number[body.tets[tets]], body.compartment[tets], body.name
        )

    def assembled(self) -> Projection:
        """Matrices of the piece with a reflecting cut, and no functions yet."""
        part, body = self.part, self.body
        cells = body.cells.part(torch.from_numpy(self.tets), part.faces, part.walls)
        core = torch.from_numpy(self.core)
        mass = Patterns.of(part.space).tets.filled(cells.mass * core[:, None, None])
        return Projection.empty(self.mesh, summed(part.space, cells), core, mass)


def piece_around(body: Body, tets: Int[ndarray, " tet"], halo: float) -> Piece:
    """The core of these tets with all that is within `halo` um of it."""
    start = np.unique(body.corner_dofs[tets])
    low, high = body.position[start].min(0), body.position[start].max(0)
    radius = np.linalg.norm(high - low) / 2 + halo
    around = np.sort(body.tree.query_ball_point((low + high) / 2, radius))
    ways = body.ways[around][:, around]
    first = np.searchsorted(around, start)
    distance = dijkstra(ways, indices=first, min_only=True, limit=halo)
    near = around[np.isfinite(distance)]
    touched = np.unique(body.tets_of[near].indices)
    inside = touched[np.isin(body.corner_dofs[touched], near).all(1)]
    return Piece(body, inside, np.isin(inside, tets))


def joined(
    body: Body, cores: Sequence[Int[ndarray, " _"]], halo: float
) -> list[Int[ndarray, " _"]]:
    """Neighbouring cores joined where one piece costs less than two.

    Around a soma the halo of each dendrite holds the whole soma: its core takes them over.
    """
    pieces = {i: piece_around(body, tets, halo).tets for i, tets in enumerate(cores)}
    core_of = np.full(len(body.mesh.tets), -1)
    for i, tets in enumerate(cores):
        core_of[tets] = i
    for i in sorted(pieces, key=lambda i: -len(pieces[i])):
        while i in pieces:
            gains = {
                j: _cost(pieces[i]) + _cost(pieces[j]) - _cost(np.union1d(pieces[i], pieces[j]))
                for j in np.unique(core_of[pieces[i]]).tolist()
                if j != i
            }
            best = max(gains, key=lambda j: gains[j], default=i)
            if best == i or gains[best] <= 0:
                break
            pieces[i] = np.union1d(pieces[i], pieces.pop(best))
            core_of[core_of == best] = i
    return [np.flatnonzero(core_of == i) for i in pieces]


def _cost(tets: Int[ndarray, " _"]) -> float:
    return float(len(tets) ** COST)
