"""Weight (A) with matrices: what the library's weights of coupled drifts are compared with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class MatrixWeight:
    """Weight (A) for any smooth step F of R^d: a reference; axes (path, d, ...).

    Z <- J Z + A xi;  G <- J G J' + A A';  c_i <- <F_i'', G> + (J c)_i;
    E_ijl <- J_ik J_jq J_lr E_kqr + [(J G)_ip F_j,pq'' (G J')_ql + (j <-> l)];
    delta_k = (Z - c)' G^-1 e_k + E_ijl (G^-1)_ij (G^-1)_lk.
    """

    Z: Float[Tensor, "path d"]
    G: Float[Tensor, "path d d"]
    c: Float[Tensor, "path d"]
    E: Float[Tensor, "path d d d"]

    @classmethod
    def start(cls, x: Float[Tensor, "path d"]) -> MatrixWeight:
        """All zero."""
        n, d = x.shape
        vector, matrix = x.new_zeros(n, d), x.new_zeros(n, d, d)
        return cls(vector, matrix, vector, x.new_zeros(n, d, d, d))

    def step(
        self,
        J: Float[Tensor, "path d d"],
        H: Float[Tensor, "path d d d"],
        A: Float[Tensor, "d d"],
        xi: Float[Tensor, "path d"],
    ) -> MatrixWeight:
        """After one step; `H[:, j, p, q]` is the second derivative of F_j in x_p and x_q."""
        JG = J @ self.G
        new = torch.einsum("nip,njpq,nlq->nijl", JG, H, JG)
        carried = torch.einsum("nik,njq,nlr,nkqr->nijl", J, J, J, self.E)
        return MatrixWeight(
            Z=(J @ self.Z[..., None])[..., 0] + xi @ A.T,
            G=JG @ J.mT + A @ A.T,
            c=torch.einsum("nipq,npq->ni", H, self.G) + (J @ self.c[..., None])[..., 0],
            E=carried + new + new.transpose(2, 3),
        )

    @property
    def delta(self) -> Float[Tensor, "path d"]:
        """The weight; defined once G is invertible."""
        inverse = torch.linalg.inv(self.G)
        ito = ((self.Z - self.c)[:, None] @ inverse)[:, 0]
        return ito + torch.einsum("nijl,nij,nlk->nk", self.E, inverse, inverse)
