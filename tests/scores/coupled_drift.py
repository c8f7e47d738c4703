"""A drift that couples all coordinates: what weight (C) is tested on where Jacobians are dense."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import grad, jacfwd, vmap

from spinmesh.scores.equations import ConstantNoise, refuse_singular

Drift = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class CoupledDrift(ConstantNoise):
    """dX = b(X) dt + sigma dB for any smooth drift of a vector, `law`: (d,) -> (d,), d <= 10.

    The dense Jacobian of Euler's step and the gradient of its determinant come from automatic
    differentiation: O(d^3) per path, so for references and small problems.
    """

    law: Drift
    sigma: float = 1.0
    horizon: float = 2.0

    def euler(self, h: float) -> Drift:
        """F of one path, x + h b(x)."""
        return lambda x: x + h * self.law(x)

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        return vmap(self.law)(x)

    def move(self, x: Tensor, t: Tensor, h: float) -> Tensor:
        return vmap(self.euler(h))(x)

    def pull(self, x: Tensor, delta: Tensor, t: Tensor, h: float) -> Tensor:
        jacobian = jacfwd(self.euler(h))
        J = vmap(jacobian)(x)
        refuse_singular(torch.linalg.det(J), x, h)
        log_det = vmap(grad(lambda y: torch.linalg.slogdet(jacobian(y))[1]))(x)
        return torch.linalg.solve(J.mT, (delta + log_det)[..., None])[..., 0]
