"""The tetrahedral mesh, straight (4 nodes) or curved (10 nodes), and what it must satisfy."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from skfem import ElementTetP1, ElementTetP2, ElementTriP1, ElementTriP2
from torch import Tensor

from spinmesh.errors import MeshError, ScaleWarning
from spinmesh.stored import quantity, store

# Node order of a 10-node tet (VTK, meshio `tetra10`, scikit-fem): 4 vertices, then these edges.
TET_EDGES = ((0, 1), (1, 2), (0, 2), (0, 3), (1, 3), (2, 3))
# Nodes of the face opposite each vertex: corners, oriented outwards for a positive tet, then the
# middles of the edges (01), (12), (20).
TET10_FACES = ((1, 2, 3, 5, 9, 8), (0, 3, 2, 7, 9, 6), (0, 1, 3, 4, 8, 7), (0, 2, 1, 6, 5, 4))
TET_FACES = tuple(face[:3] for face in TET10_FACES)
# Lagrange elements by their number of nodes.
ELEMENTS = {3: ElementTriP1(), 6: ElementTriP2(), 4: ElementTetP1(), 10: ElementTetP2()}
# A tet whose volume is this small beside its longest edge cubed cannot be told from a flat one.
DEGENERATE = 1e-6
# A cell is some um to a few hundred um long; beyond these the file is in m, mm or nm.
PLAUSIBLE_SIZE = (0.5, 5e3)
RESHAPE = "Re-mesh, or lower the deformation (bend, twist, bead amplitude, fan angle)."


@store("spinmesh/mesh", version=1, stage="mesh")
@dataclass(frozen=True, eq=False)
class TetMesh:
    """Tetrahedra with compartment labels.

    A tet with 10 nodes is curved: its mid-edge nodes (order of `TET_EDGES`) bend it
    (isoparametric, quadratic). A mesh with `periods` repeats itself after these along x, y and z:
    it is one cell of endless tissue, whose outer faces, matched node for node, are no walls.
    """

    points: Float[Tensor, "point 3"] = quantity("um")
    tets: Int[Tensor, "tet node"] = quantity()
    compartment: Int[Tensor, " tet"] = quantity()
    name: str = "mesh"
    periods: Float[Tensor, " axis"] | None = quantity("um", default=None)

    def __post_init__(self) -> None:
        if self.tets.ndim != 2 or self.tets.shape[0] == 0:
            raise MeshError(f"{self.name}: no tetrahedra. Give a volume mesh, not a surface.")
        if self.tets.shape[1] not in (4, 10):
            raise MeshError(
                f"{self.name}: tets have {self.tets.shape[1]} nodes. Use tetra or tetra10 cells."
            )
        if self.points.ndim != 2 or self.points.shape[1] != 3:
            raise MeshError(
                f"{self.name}: points have shape {tuple(self.points.shape)}, not (point, 3)."
            )
        if len(self.compartment) != len(self.tets):
            raise MeshError(
                f"{self.name}: {len(self.compartment)} compartment labels for {len(self.tets)} "
                "tets. Give one label per tet."
            )
        low, high = int(self.tets.min()), int(self.tets.max())
        if low < 0 or high >= len(self.points):
            raise MeshError(
                f"{self.name}: tets point at nodes {low}..{high} of {len(self.points)}. "
                "The file is damaged or counts from one; write it again."
            )

    @property
    def order(self) -> int:
        """1 for straight tets, 2 for curved 10-node tets."""
        return 1 if self.tets.shape[1] == 4 else 2

    @cached_property
    def labels(self) -> tuple[int, ...]:
        """Compartment labels, ascending."""
        return tuple(int(label) for label in torch.unique(self.compartment))

    @cached_property
    def vertices(self) -> Int[Tensor, " vertex"]:
        """Indices of the points that are tet corners (all points of a straight mesh)."""
        return torch.unique(self.tets[:, :4])

    @property
    def bounding_box(self) -> Float[Tensor, "2 3"]:
        """Lowest and highest corner (um)."""
        return torch.stack([self.points.amin(0), self.points.amax(0)])

    def with_points(self, points: Float[Tensor, "point 3"], name: str | None = None) -> TetMesh:
        """The same connectivity at other node coordinates."""
        return replace(self, points=points, name=self.name if name is None else name)

    def part(self, label: int) -> TetMesh:
        """One compartment as a mesh of its own; MeshError if there is none of that label."""
        inside = self.compartment == label
        if not bool(inside.any()):
            raise MeshError(
                f"{self.name}: no compartment {label}. It has {', '.join(map(str, self.labels))}."
            )
        used, tets = torch.unique(self.tets[inside], return_inverse=True)
        name = f"{self.name}, compartment {label}"
        return TetMesh(self.points[used], tets, self.compartment[inside], name, self.periods)


def corner_volumes(points: Float[Tensor, "point 3"], tets: Int[Tensor, "tet node"]) -> Tensor:
    """Signed volume (um^3) of each tet spanned by its four corners; differentiable in points."""
    corner = points[..., tets[:, :4], :]
    edge = corner[..., 1:, :] - corner[..., :1, :]
    return torch.linalg.det(edge) / 6


def tet_quality(mesh: TetMesh) -> Float[Tensor, " tet"]:
    """6 sqrt(2) V / (root mean square edge)^3: 1 for a regular tet, 0 for a flat one.

    Of the straight tet between the corners; the mean ratio of Liu & Joe (1994) to the power 3/2.
    """
    corner = mesh.points[mesh.tets[:, :4]]
    # Each edge stands twice in the table of distances.
    squares = torch.cdist(corner, corner).square().sum((1, 2)) / 2
    volume = corner_volumes(mesh.points, mesh.tets).clamp_min(0)
    return 6 * 2**0.5 * volume / (squares / 6) ** 1.5


def shape_functions(
    xi: Float[Tensor, "sample axis"], nodes: int
) -> tuple[Float[Tensor, "sample node"], Float[Tensor, "sample node axis"]]:
    """Shape functions and reference gradients at `xi`: triangles of 3 or 6 nodes, tets of 4 or 10.

    No derivative is taken in `xi`.
    """
    at = [ELEMENTS[nodes].lbasis(xi.cpu().numpy().T, node) for node in range(nodes)]
    value = torch.from_numpy(np.stack([phi for phi, _ in at], -1))
    return value.to(xi), torch.from_numpy(np.stack([dphi.T for _, dphi in at], 1)).to(xi)


def reference_nodes(nodes: int) -> Float[Tensor, "node axis"]:
    """Where an element's nodes lie in the reference triangle or tet."""
    return torch.from_numpy(ELEMENTS[nodes].doflocs)


def jacobian_determinants(
    points: Float[Tensor, "point 3"], tets: Int[Tensor, "tet node"]
) -> Float[Tensor, "tet sample"]:
    """Determinant of the element map at the nodes of each tet; six times the volume if straight.

    For a curved tet these samples catch every fold that reaches a node, which is where a
    quadratic tet folds first in practice; they do not prove positivity in between.
    """
    nodes = tets.shape[1]
    samples = reference_nodes(nodes)[: 1 if nodes == 4 else nodes]
    gradient = shape_functions(samples, nodes)[1].to(points)
    jacobian = torch.einsum("...tna,snb->...tsab", points[..., tets, :], gradient)
    return torch.linalg.det(jacobian)


def check_quality(mesh: TetMesh, remedy: str = RESHAPE) -> TetMesh:
    """Return the mesh unchanged if every tet is positive and well away from flat.

    Raises MeshError naming the mesh and the first bad tet; warns (ScaleWarning) with the
    bounding box if the size suggests another unit than um.
    """
    if not bool(torch.isfinite(mesh.points).all()):
        bad = int((~torch.isfinite(mesh.points)).any(1).nonzero()[0])
        raise MeshError(f"{mesh.name}: point {bad} is not finite. Repair or re-mesh.")
    low, high = mesh.bounding_box
    size = float((high - low).max())
    if not PLAUSIBLE_SIZE[0] <= size <= PLAUSIBLE_SIZE[1]:
        box = " to ".join(
            "(" + ", ".join(f"{x:.4g}" for x in c.tolist()) + ")" for c in (low, high)
        )
        warnings.warn(
            f"{mesh.name}: bounding box {box} um is {size:.3g} um long; cells are some um. "
            "Is the file in another unit? Give `scale_to_um`.",
            ScaleWarning,
            stacklevel=2,
        )
    determinant = jacobian_determinants(mesh.points, mesh.tets).amin(-1)
    corner = mesh.points[mesh.tets[:, :4]]
    longest = torch.cdist(corner, corner).amax((-1, -2))
    inverted = determinant < 0
    flat = determinant < 6 * DEGENERATE * longest**3
    for wrong, word in ((inverted, "inverted"), (flat, "degenerate (flat)")):
        count = int(wrong.sum())
        if count:
            first = int(wrong.nonzero()[0])
            raise MeshError(
                f"{mesh.name}: {count:,} of {len(mesh.tets):,} tets are {word} "
                f"(first: {first}, volume {float(determinant[first]) / 6:.3g} um^3). "
                f"{remedy}"
            )
    return mesh
