"""A basis that grows block by block: each is orthonormalised and projected once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from jaxtyping import Complex, Float, Inexact
from numpy import ndarray

from spinmesh.reduction.span import orthonormal


@dataclass(frozen=True, eq=False)
class Subspace:
    """A mass-orthonormal real basis V and V'AV of every operator A.

    `signs` is 1 for an operator that is symmetric and -1 for one that is antisymmetric.
    """

    mass: sp.csr_matrix
    operators: tuple[sp.csr_matrix, ...]
    signs: tuple[int, ...]
    vectors: Float[ndarray, "dof mode"]
    products: Float[ndarray, "operator mode mode"]

    @classmethod
    def empty(
        cls, mass: sp.csr_matrix, operators: Sequence[sp.csr_matrix], signs: Sequence[int]
    ) -> Subspace:
        """No functions yet."""
        products = np.zeros((len(operators), 0, 0))
        return cls(mass, tuple(operators), tuple(signs), np.zeros((mass.shape[0], 0)), products)

    @property
    def size(self) -> int:
        """Number of modes."""
        return self.vectors.shape[1]

    def extended(self, block: Float[ndarray, "dof column"]) -> Subspace:
        """With the part of `block` that is not yet spanned; only its products are computed."""
        block = orthonormal(block, self.vectors, self.mass)
        vectors = np.hstack([self.vectors, block])
        old, new = self.size, vectors.shape[1]
        products = np.zeros((len(self.operators), new, new))
        products[:, :old, :old] = self.products
        for product, operator, sign in zip(products, self.operators, self.signs, strict=True):
            product[:, old:] = vectors.T @ (operator @ block)
            product[old:, :] = sign * product[:, old:].T
            product[old:, old:] = (product[old:, old:] + sign * product[old:, old:].T) / 2
        return replace(self, vectors=vectors, products=products)

    def residual(
        self,
        parts: Sequence[Complex[ndarray, "mode state"]],
        mixture: Inexact[ndarray, "both column"],
    ) -> Float[ndarray, "dof column"]:
        """What the full system does to reduced states and the basis cannot follow, mixed.

        With a part nu_A for each operator A, r = (1 - M V V') sum of A V nu_A. The real parts of
        all states' r, then the imaginary ones, are combined by the columns of `mixture`; mixing the
        states first makes the cost independent of their number.
        """
        result = np.zeros((len(self.vectors), mixture.shape[1]))
        for operator, part in zip(self.operators, parts, strict=True):
            mixed = np.concatenate([part.real, part.imag], 1) @ mixture
            result += operator @ (self.vectors @ mixed)
        inside = self.vectors @ (self.vectors.T @ result)
        return np.asarray(result - self.mass @ inside)
