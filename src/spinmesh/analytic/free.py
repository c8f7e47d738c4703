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
    """exp(-b:D) with the b-tensor b and D in um^2/ms; exact for every sequence.

    Differentiable in `diffusivity`. Raises ConfigError unless D is positive definite. Stejskal &
    Tanner (1965); Stejskal (1965) for a tensor; Mattiello, Basser & Le Bihan (1994) for the
    b-tensor.
    """
    b = acquisition.b_tensor
    D = torch.as_tensor(diffusivity, dtype=torch.float64, device=b.device)
    D = D * torch.eye(3, dtype=D.dtype, device=D.device) if D.ndim == 0 else D
    positive = D.shape == (3, 3) and torch.allclose(D, D.T, rtol=1e-10)
    if not positive or not bool((torch.linalg.eigvalsh(D.detach()) > 0).all()):
        raise ConfigError(
            f"free: diffusivity is {D.tolist()}; give a scalar > 0 or a symmetric positive "
            "definite 3x3 tensor."
        )
    return torch.exp(-torch.einsum("mij,ij->m", b, D))
