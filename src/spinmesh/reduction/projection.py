"""The reduced model of assembled matrices, in a basis that grows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import scipy.sparse as sp
import torch
from jaxtyping import Bool, Complex, Float, Inexact
from numpy import ndarray
from torch import Tensor

from spinmesh.fem import Matrices
from spinmesh.mesh import TetMesh
from spinmesh.reduction.reduced import ReducedModel
from spinmesh.reduction.span import Span
from spinmesh.reduction.subspace import Subspace
from spinmesh.units import GAMMA


@dataclass(frozen=True, eq=False)
class Projection:
    """A basis of a body's functions and the operators in it, without gradients.

    The numbers are those of `project` at the points the matrices were assembled at; `project` is
    the differentiable road, this the cheap one. Positions count from the vertices' mean.
    """

    mesh: TetMesh
    matrices: Matrices
    core: Bool[Tensor, " tet"] | None  # as that of `Span`
    core_mass: sp.csr_matrix | None
    subspace: Subspace  # of S + Q + R and the three moments

    @classmethod
    def empty(
        cls,
        mesh: TetMesh,
        matrices: Matrices,
        core: Bool[Tensor, " tet"] | None = None,
        core_mass: sp.csr_matrix | None = None,
    ) -> Projection:
        """No functions yet; the mass of the `core` goes with it."""
        centre = mesh.points[mesh.vertices].mean(0).detach().tolist()
        operators = (matrices.decay, *matrices.moments_about(centre))
        subspace = Subspace.empty(matrices.mass, operators, [1] * len(operators))
        return cls(mesh, matrices, core, core_mass, subspace)

    @property
    def size(self) -> int:
        """Number of modes k."""
        return self.subspace.size

    @property
    def vectors(self) -> Float[ndarray, "dof mode"]:
        """The functions."""
        return self.subspace.vectors

    @property
    def span(self) -> Span:
        """The frozen basis."""
        return Span(torch.from_numpy(self.vectors), self.matrices.space, self.mesh, self.core)

    def extended(self, block: Float[ndarray, "dof column"]) -> Projection:
        """With the part of `block` that is not yet spanned."""
        return replace(self, subspace=self.subspace.extended(block))

    @cached_property
    def reduced(self) -> ReducedModel:
        """Operators in the basis."""
        laplacian, *moments = torch.from_numpy(self.subspace.products.copy())
        integrals = self.matrices.space.inside.numpy() @ self.matrices.mass
        mean = torch.from_numpy(integrals @ self.vectors)
        squares = (mass for mass in (self.core_mass,) if mass is not None)
        core = (torch.from_numpy(self.vectors.T @ (mass @ self.vectors)) for mass in squares)
        return ReducedModel(laplacian, torch.stack(moments), mean, *core)

    def residual(
        self,
        states: Complex[ndarray, "mode state"],
        gradient: Float[ndarray, "3 state"],
        mixture: Inexact[ndarray, "both column"],
    ) -> Float[ndarray, "dof column"]:
        """That of the subspace for (S + Q + R + i gamma g.J) V nu of each state nu."""
        turned = 1j * GAMMA * gradient[:, None, :] * states
        return self.subspace.residual((states, *turned), mixture)
