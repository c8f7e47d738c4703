"""A basis that grows: each block is orthonormalised and projected once, on assembled matrices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Bool, Complex, Float, Inexact
from numpy import ndarray
from torch import Tensor

from spinmesh.fem import Matrices
from spinmesh.mesh import TetMesh
from spinmesh.reduction.reduced import ReducedModel
from spinmesh.reduction.span import Span, orthonormal
from spinmesh.units import GAMMA


@dataclass(frozen=True, eq=False)
class Projection:
    """A mass-orthonormal basis V and V'AV of every operator A, without gradients.

    The numbers are those of `project` at the points the matrices were assembled at; `project` is
    the differentiable road, this the cheap one. Positions count from the vertices' mean.
    """

    mesh: TetMesh
    matrices: Matrices
    operators: tuple[sp.csr_matrix, ...]  # S + Q + R and the three moments
    core: Bool[Tensor, " tet"] | None  # as that of `Span`
    integrals: Float[ndarray, "row dof"]
    vectors: Float[ndarray, "dof mode"]
    products: Float[ndarray, "4 mode mode"]

    @classmethod
    def empty(
        cls,
        mesh: TetMesh,
        matrices: Matrices,
        core: Bool[Tensor, " tet"] | None = None,
        integrals: Float[ndarray, "row dof"] | None = None,
    ) -> Projection:
        """No functions yet; `integrals` of the `core` go with it."""
        centre = mesh.points[mesh.vertices].mean(0).detach().tolist()
        operators = (matrices.decay, *matrices.moments_about(centre))
        if integrals is None:
            integrals = matrices.space.inside.numpy() @ matrices.mass
        nothing = np.zeros((len(matrices.space), 0))
        return cls(mesh, matrices, operators, core, integrals, nothing, np.zeros((4, 0, 0)))

    @property
    def size(self) -> int:
        """Number of modes k."""
        return self.vectors.shape[1]

    @property
    def span(self) -> Span:
        """The frozen basis."""
        return Span(torch.from_numpy(self.vectors), self.matrices.space, self.mesh, self.core)

    def extended(self, block: Float[ndarray, "dof column"]) -> Projection:
        """With the part of `block` that is not yet spanned; only its products are computed."""
        block = orthonormal(block, self.vectors, self.matrices.mass)
        vectors = np.hstack([self.vectors, block])
        old, new = self.size, vectors.shape[1]
        products = np.zeros((4, new, new))
        products[:, :old, :old] = self.products
        for product, operator in zip(products, self.operators, strict=True):
            product[:, old:] = vectors.T @ (operator @ block)
            product[old:, :] = product[:, old:].T
            product[old:, old:] = (product[old:, old:] + product[old:, old:].T) / 2
        return replace(self, vectors=vectors, products=products)

    @cached_property
    def reduced(self) -> ReducedModel:
        """Operators in the basis."""
        return ReducedModel(
            torch.from_numpy(self.products[0].copy()),
            torch.from_numpy(self.products[1:].copy()),
            torch.from_numpy(self.integrals @ self.vectors),
        )

    def residual(
        self,
        states: Complex[ndarray, "mode state"],
        gradient: Float[ndarray, "3 state"],
        mixture: Inexact[ndarray, "both column"],
    ) -> Float[ndarray, "dof column"]:
        """What the full system does to reduced states and the span cannot follow, mixed.

        For each state nu: r = (1 - M V V') (S + Q + R + i gamma g.J) V nu. The real parts of all r,
        then the imaginary ones, are combined by the columns of `mixture`; mixing the states first
        makes the cost independent of their number.
        """
        turned = 1j * GAMMA * gradient[:, None, :] * states
        parts = (states, *turned)
        result = np.zeros((len(self.vectors), mixture.shape[1]))
        for operator, part in zip(self.operators, parts, strict=True):
            mixed = np.concatenate([part.real, part.imag], 1) @ mixture
            result += operator @ (self.vectors @ mixed)
        inside = self.vectors @ (self.vectors.T @ result)
        return np.asarray(result - self.matrices.mass @ inside)
