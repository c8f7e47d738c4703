"""The finite-element space: one set of unknowns per compartment, and the membranes between."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Bool, Float, Int
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from torch import Tensor

from spinmesh.errors import MeshError
from spinmesh.mesh import TetMesh
from spinmesh.mesh.faces import all_faces, pair_faces

# Of the shortest period: nodes closer than this are images of each other.
SAME = 1e-7
# Of a period: a tet reaches less far.
LONGEST = 0.45


@dataclass(frozen=True, eq=False)
class Space:
    """Continuous Lagrange elements inside each compartment, discontinuous across membranes.

    A node shared by two compartments carries one unknown (dof) for each. A face is listed with the
    dofs of its two sides (`inner`, `outer`) or, on the outer wall, with one.
    """

    tet_dofs: Int[Tensor, "tet node"]
    dof_point: Int[Tensor, " dof"]
    dof_compartment: Int[Tensor, " dof"]  # label
    interface_labels: Int[Tensor, "face 2"]
    interface_dofs: Int[Tensor, "face 2 face_node"]
    wall_label: Int[Tensor, " wall"]
    wall_dofs: Int[Tensor, "wall face_node"]

    def __len__(self) -> int:
        return len(self.dof_point)

    @cached_property
    def inside(self) -> Float[Tensor, "compartment dof"]:
        """1 where an unknown belongs to a compartment (labels ascending), 0 elsewhere."""
        labels = torch.unique(self.dof_compartment)
        return (self.dof_compartment == labels[:, None]).double()

    def part(self, tets: Bool[Tensor, " tet"]) -> Part:
        """The unknowns of some tets, renumbered, with the membranes and walls between them.

        Where tets are left out, nothing flows: the cut reflects.
        """
        used = torch.unique(self.tet_dofs[tets])
        number = torch.full((len(self),), -1).index_put((used,), torch.arange(len(used)))
        faces = (number[self.interface_dofs] >= 0).all(-1).all(-1)
        walls = (number[self.wall_dofs] >= 0).all(-1)
        points, dof_point = torch.unique(self.dof_point[used], return_inverse=True)
        space = Space(
            number[self.tet_dofs[tets]],
            dof_point,
            self.dof_compartment[used],
            self.interface_labels[faces],
            number[self.interface_dofs[faces]],
            self.wall_label[walls],
            number[self.wall_dofs[walls]],
        )
        return Part(space, used, points, faces, walls)


class Part(NamedTuple):
    """The space of some tets, and where its unknowns, points and faces are in the whole one's."""

    space: Space
    dofs: Int[Tensor, " dof"]
    points: Int[Tensor, " point"]
    faces: Bool[Tensor, " face"]
    walls: Bool[Tensor, " wall"]


def function_space(mesh: TetMesh) -> Space:
    """Split shared nodes by compartment and find the interface and wall faces.

    Nodes that are periods apart are one. Raises MeshError if a periodic cell is too small for that.
    """
    tets, label = mesh.tets.cpu().numpy(), mesh.compartment.cpu().numpy()
    if mesh.periods is not None:
        _refuse_few(mesh, mesh.periods)
        tets = _first_images(mesh, mesh.periods.numpy())[tets]
    node_count = int(tets.max()) + 1
    numbers = np.searchsorted(np.array(mesh.labels), label)
    key = numbers[:, None] * node_count + tets
    unique, inverse = np.unique(key, return_inverse=True)
    tet_dofs = inverse.reshape(tets.shape)

    faces, face_dofs = all_faces(tets), all_faces(tet_dofs)
    face_label = np.repeat(label, 4)
    first, second, single = pair_faces(faces)
    across = face_label[first] != face_label[second]
    swap = face_label[first] > face_label[second]
    first, second = np.where(swap, second, first)[across], np.where(swap, first, second)[across]
    inner, outer = face_dofs[first], face_dofs[second]
    outer = _matched(faces[first], faces[second], outer)

    as_tensor = torch.from_numpy
    return Space(
        as_tensor(tet_dofs),
        as_tensor(unique % node_count),
        torch.tensor(mesh.labels)[as_tensor(unique // node_count)],
        as_tensor(np.stack([face_label[first], face_label[second]], 1)),
        as_tensor(np.stack([inner, outer], 1)),
        as_tensor(face_label[single]),
        as_tensor(face_dofs[single]),
    )


def _first_images(mesh: TetMesh, periods: np.ndarray) -> np.ndarray:
    """Of each node, the first that is a whole number of periods away."""
    points = mesh.points.detach().numpy()
    inside = points % periods
    inside[inside >= periods] = 0.0
    tree = cKDTree(inside, boxsize=periods)
    one, other = tree.query_pairs(SAME * float(periods.min()), output_type="ndarray").T
    count = len(points)
    graph = sp.coo_matrix((np.ones(len(one)), (one, other)), shape=(count, count))
    image = connected_components(graph, directed=False)[1]
    return np.asarray(np.unique(image, return_index=True)[1][image])


def _refuse_few(mesh: TetMesh, periods: Tensor) -> None:
    """MeshError if tets are too long to tell which image of a node is theirs."""
    points = mesh.points.detach()[mesh.tets]
    longest = ((points.amax(1) - points.amin(1)) / periods).amax(0)
    if bool((longest > LONGEST).any()):
        axis = int(longest.argmax())
        raise MeshError(
            f"{mesh.name}: tets reach over {float(longest[axis]):.2g} of the period along "
            f"{'xyz'[axis]}. A periodic cell needs three elements or more along each axis: give "
            "more layers, or smaller triangles."
        )


def _matched(faces: np.ndarray, others: np.ndarray, dofs: np.ndarray) -> np.ndarray:
    """`dofs` of `others` reordered so that they follow the node order of `faces`."""
    if len(faces) == 0:
        return dofs
    position = (others[:, None, :] == faces[:, :, None]).argmax(-1)
    return np.take_along_axis(dofs, position, axis=1)
