"""Global finite-element matrices of the Bloch-Torrey equation in its symmetric form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.errors import ConfigError, MeshError
from spinmesh.fem.elements import element_matrices, face_mass
from spinmesh.fem.space import Space, function_space
from spinmesh.mesh import TetMesh, check_quality
from spinmesh.tissue import Tissue


class CellMatrices(NamedTuple):
    """Element and face matrices with the tissue's factors in, differentiable in points and tissue.

    The unknown is w = u / rho, so every volume matrix carries the density rho and all are
    symmetric: M w' = -(S + Q + R + i gamma f g.J) w, w(0) = 1, signal = 1' M w. A tuple, so that
    torch.func takes it as it is; leading axes, if any, run over shapes.
    """

    mass: Float[Tensor, "*shape tet node node"]
    stiffness: Float[Tensor, "*shape tet node node"]
    relaxation: Float[Tensor, "*shape tet node node"]  # mass / T2
    moments: Float[Tensor, "*shape tet 3 node node"]
    membrane: Float[Tensor, "*shape face node node"]  # kappa times the interface's surface mass
    wall: Float[Tensor, "*shape wall node node"]  # kappa_out rho times the wall's surface mass

    @property
    def decay(self) -> Float[Tensor, "*shape tet node node"]:
        """S + R of each tet."""
        return self.stiffness + self.relaxation

    def part(self, tets: Tensor, faces: Tensor, walls: Tensor) -> CellMatrices:
        """Those of some tets, membrane faces and wall faces of one shape."""
        return CellMatrices(
            self.mass[tets],
            self.stiffness[tets],
            self.relaxation[tets],
            self.moments[tets],
            self.membrane[faces],
            self.wall[walls],
        )


def cell_matrices(mesh: TetMesh, space: Space, tissue: Tissue) -> CellMatrices:
    """All cell matrices of a mesh filled with a tissue."""
    labels = torch.tensor(tissue.labels, device=mesh.compartment.device)
    row = torch.searchsorted(labels, mesh.compartment)
    density = tissue.density[row][:, None, None]
    mass, stiffness, moments = element_matrices(mesh.points[mesh.tets], tissue.diffusivity[row])
    mass = density * mass
    relaxation = (1 / tissue.t2[row])[:, None, None] * mass
    density_of = dict(zip(tissue.labels, tissue.density, strict=True))

    def weight(a: int, b: int) -> Tensor:
        # The harmonic mean makes kappa the usual one for equal densities and the flux symmetric.
        mean = 2 * density_of[a] * density_of[b] / (density_of[a] + density_of[b])
        return mean * tissue.between(a, b)

    membrane = _scaled_faces(
        _corners(mesh, space, space.interface_dofs[:, 0]), space.interface_labels, weight
    )
    wall = _scaled_faces(
        _corners(mesh, space, space.wall_dofs),
        space.wall_label[:, None],
        lambda c: density_of[c] * tissue.wall_permeability.get(c, 0.0),
    )
    moments = density[..., None] * moments
    return CellMatrices(mass, density * stiffness, relaxation, moments, membrane, wall)


def _corners(mesh: TetMesh, space: Space, dofs: Tensor) -> Tensor:
    """Nodes of faces (face, node, 3), together where the images of a periodic node are apart."""
    points = mesh.points[space.dof_point[dofs]]
    if mesh.periods is None:
        return points
    apart = points - points[:, :1]
    return points - mesh.periods * torch.round(apart / mesh.periods)


def _scaled_faces(points: Tensor, labels: Tensor, weight) -> Tensor:
    """Surface mass of each face times the weight of its labels."""
    if len(points) == 0:
        return points.new_zeros(0, points.shape[1], points.shape[1])
    unique, row = torch.unique(labels, dim=0, return_inverse=True)
    weights = [torch.as_tensor(weight(*pair), dtype=points.dtype) for pair in unique.tolist()]
    return torch.stack(weights).to(points)[row][:, None, None] * face_mass(points)


@dataclass(frozen=True, eq=False)
class Matrices:
    """Sparse matrices over the dofs of `space` (simulator.md section 1), all symmetric."""

    space: Space
    mass: sp.csr_matrix  # um^3
    stiffness: sp.csr_matrix  # um^3/ms
    flux: sp.csr_matrix  # um^3/ms, interfaces and walls
    relaxation: sp.csr_matrix  # um^3/ms, mass / T2
    moments: tuple[sp.csr_matrix, ...]  # um^4, of x, y and z

    @cached_property
    def decay(self) -> sp.csr_matrix:
        """S + Q + R."""
        return self.stiffness + self.flux + self.relaxation

    def moments_about(self, centre: Sequence[float]) -> tuple[sp.csr_matrix, ...]:
        """J of x, y and z with positions counted from `centre` (um)."""
        pairs = zip(self.moments, centre, strict=True)
        return tuple(moment - c * self.mass for moment, c in pairs)


def assemble(mesh: TetMesh, tissue: Tissue) -> Matrices:
    """Mass, stiffness, flux, relaxation and moment matrices of a checked mesh.

    Raises MeshError for inverted tets and for a periodic cell, in which positions have no meaning,
    and ConfigError if labels of mesh and tissue disagree or an interface of the tissue does not
    exist in the mesh.
    """
    if mesh.periods is not None:
        raise MeshError(
            f"{mesh.name}: is a periodic cell, which `simulate` takes, with a Krylov basis that "
            "grows to its tolerance. For walls at its faces, write it to a .vtu and read that, or "
            "in Python give it no periods: dataclasses.replace(mesh, periods=None)."
        )
    check_quality(mesh)
    space = function_space(mesh)
    check_tissue(mesh, space, tissue)
    with torch.no_grad():
        return summed(space, cell_matrices(mesh, space, tissue))


def summed(space: Space, cells: CellMatrices) -> Matrices:
    """Sparse matrices from those of the space's cells, without gradients."""
    patterns = Patterns.of(space)
    filled = patterns.tets.filled
    return Matrices(
        space,
        filled(cells.mass),
        filled(cells.stiffness),
        patterns.flux(cells.membrane, cells.wall),
        filled(cells.relaxation),
        tuple(filled(moment) for moment in cells.moments.unbind(1)),
    )


def jumps(membrane: Float[Tensor, "*shape node node"]) -> Float[Tensor, "*shape twice twice"]:
    """kappa (w_c - w_c') tested on either side, over the dofs of one side, then the other's."""
    sides = torch.cat([membrane, -membrane], -1), torch.cat([-membrane, membrane], -1)
    return torch.cat(sides, -2)


@dataclass(frozen=True, eq=False)
class Pattern:
    """Where the entries of cell matrices go in a sparse matrix; found once for all matrices."""

    entry: np.ndarray  # of each block's number: its place among the nonzeros
    column: np.ndarray  # of each nonzero
    row_start: np.ndarray

    @classmethod
    def of(cls, dofs: np.ndarray, count: int) -> Pattern:
        cells, nodes = dofs.shape
        starts = np.arange(0, dofs.size + 1, nodes)
        of_cells = sp.csr_matrix((np.ones(dofs.size, int), dofs.ravel(), starts), (cells, count))
        numbers = (of_cells.T @ of_cells).tocsr()
        numbers.sort_indices()
        numbers.data = np.arange(numbers.nnz)
        rows, columns = np.repeat(dofs, nodes, axis=1), np.tile(dofs, (1, nodes))
        # Of no pairs scipy makes a sparse matrix.
        entry = numbers[rows.ravel(), columns.ravel()] if len(dofs) else np.zeros((1, 0), int)
        return cls(np.asarray(entry)[0], numbers.indices, numbers.indptr)

    def filled(self, blocks: Tensor) -> sp.csr_matrix:
        values = np.bincount(self.entry, blocks.numpy().ravel(), len(self.column))
        count = len(self.row_start) - 1
        return sp.csr_matrix((values, self.column, self.row_start), shape=(count, count))


@dataclass(frozen=True, eq=False)
class Patterns:
    """Those of a space's tets, membranes and walls."""

    tets: Pattern
    membranes: Pattern
    walls: Pattern

    @classmethod
    def of(cls, space: Space) -> Patterns:
        dofs = (space.tet_dofs, space.interface_dofs.flatten(1), space.wall_dofs)
        return cls(*(Pattern.of(cells.numpy(), len(space)) for cells in dofs))

    def flux(self, membrane: Tensor, wall: Tensor) -> sp.csr_matrix:
        """Q: kappa (w_c - w_c') tested on either side, plus the wall's loss."""
        return self.membranes.filled(jumps(membrane)) + self.walls.filled(wall)


def check_tissue(mesh: TetMesh, space: Space, tissue: Tissue) -> None:
    """ConfigError unless tissue and mesh name the same compartments and touching interfaces."""
    if tuple(sorted(tissue.labels)) != tissue.labels:
        raise ConfigError(f"tissue: labels {tissue.labels} are not ascending. Sort them.")
    if mesh.labels != tissue.labels:
        missing = set(mesh.labels) - set(tissue.labels)
        extra = set(tissue.labels) - set(mesh.labels)
        raise ConfigError(
            f"tissue: mesh `{mesh.name}` has compartments {mesh.labels}, the tissue "
            f"{tissue.labels} (not in the tissue: {sorted(missing)}, not in the mesh: "
            f"{sorted(extra)}). Make the two agree."
        )
    touching = {tuple(pair) for pair in torch.unique(space.interface_labels, dim=0).tolist()}
    for pair in tissue.permeability:
        if tuple(sorted(pair)) not in touching:
            raise MeshError(
                f"tissue: compartments {pair} share no face in mesh `{mesh.name}` (touching: "
                f"{sorted(touching) or 'none'}). Remove the interface, or make the mesh conforming."
            )
