"""The finite-element space: one set of unknowns per compartment, and the membranes between."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from spinmesh.mesh import TetMesh
from spinmesh.mesh.faces import all_faces, pair_faces


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


def function_space(mesh: TetMesh) -> Space:
    """Split shared nodes by compartment and find the interface and wall faces."""
    tets, label = mesh.tets.cpu().numpy(), mesh.compartment.cpu().numpy()
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


def _matched(faces: np.ndarray, others: np.ndarray, dofs: np.ndarray) -> np.ndarray:
    """`dofs` of `others` reordered so that they follow the node order of `faces`."""
    if len(faces) == 0:
        return dofs
    position = (others[:, None, :] == faces[:, :, None]).argmax(-1)
    return np.take_along_axis(dofs, position, axis=1)
