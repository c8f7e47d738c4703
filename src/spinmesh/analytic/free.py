"""Free diffusion, isotropic or not."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.errors import ConfigError
from spinmesh.sequence import Acquisition


def free(
    acquisition: Acquisition, diffusivity: float | Float[Tensor, "3 3"]
) -> Float[Tensor, " measurement"]:
    """exp(-b e'De) with e the gradient's direction and D in um^2/ms; exact for every PGSE.

    Differentiable in `diffusivity`. Stejskal & Tanner (1965); Stejskal (1965) for a tensor.
    """
    e = acquisition.direction
    D = torch.as_tensor(diffusivity, dtype=torch.float64, device=e.device)
    D = D * torch.eye(3, dtype=D.dtype, device=D.device) if D.ndim == 0 else D
    positive = D.shape == (3, 3) and torch.allclose(D, D.T, rtol=1e-10)
    if not positive or not bool((torch.linalg.eigvalsh(D.detach()) > 0).all()):
        raise ConfigError(
            f"free: diffusivity is {D.tolist()}; give a scalar > 0 or a symmetric positive "
            "definite 3x3 tensor."
        )
    return torch.exp(-acquisition.b_value.to(e.device) * torch.einsum("mi,ij,mj->m", e, D, e))
