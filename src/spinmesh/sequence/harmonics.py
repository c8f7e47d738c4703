"""Shells of a signal (one b, one timing) as even spherical harmonics of the directions.

The power of each order is what no rotation changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from dipy.reconst.shm import real_sh_descoteaux_from_index, smooth_pinv, sph_harm_ind_list
from jaxtyping import Float
from torch import Tensor

from spinmesh.sequence.acquisition import Acquisition
from spinmesh.units import b_to_s_per_mm2

# Even orders up to 6: 28 functions, which 30 directions determine.
DEGREE, ORDER = sph_harm_ind_list(6)
# Laplace-Beltrami weight of Descoteaux et al. (2007) for 30 directions; keeps order 6 calm.
SMOOTHING = 1e-4


def harmonics(direction: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch function"]:
    """Real, orthonormal spherical harmonics of even order (Descoteaux et al. 2007)."""
    x, y, z = direction[..., None, :].unbind(-1)
    polar, azimuth = torch.arctan2(torch.hypot(x, y), z), torch.arctan2(y, x)
    values = real_sh_descoteaux_from_index(
        DEGREE, ORDER, polar.numpy(), azimuth.numpy(), legacy=False
    )
    return torch.from_numpy(values)


@dataclass(frozen=True, eq=False)
class Harmonics:
    """Attenuations of shapes as even spherical harmonics on every shell (one b, one timing)."""

    shells: tuple[tuple[float, float, float], ...]  # b (s/mm^2), delta, Delta (ms)
    coefficients: Float[Tensor, "substrate shell function"]

    @property
    def invariants(self) -> Float[Tensor, "substrate feature"]:
        """Root of the power of each order on each shell: what no rotation of the shape changes."""
        parts = [self.coefficients[..., n == ORDER].norm(dim=-1) for n in np.unique(ORDER)]
        return torch.stack(parts, -1).flatten(1)


def shell_keys(acquisition: Acquisition) -> list[tuple[float, float, float]]:
    """(b in s/mm^2, delta, Delta) of each measurement, b rounded to 1 s/mm^2."""
    b = b_to_s_per_mm2(acquisition.b_value).round().tolist()
    delta = acquisition.durations("delta").tolist()
    Delta = acquisition.durations("Delta").tolist()
    return list(zip(b, delta, Delta, strict=True))


def fit_harmonics(
    acquisition: Acquisition, attenuation: Float[Tensor, "substrate measurement"]
) -> Harmonics:
    """Smoothed least squares on every shell."""
    keys = shell_keys(acquisition)
    shells = tuple(sorted(set(keys)))
    parts = []
    for shell in shells:
        index = torch.tensor([i for i, key in enumerate(keys) if key == shell])
        penalty = (SMOOTHING * len(index) / 30) ** 0.5 * ORDER * (ORDER + 1)
        inverse = smooth_pinv(harmonics(acquisition.direction[index]).numpy(), penalty)
        parts.append(attenuation[:, index] @ torch.from_numpy(inverse).T)
    return Harmonics(shells, torch.stack(parts, 1))
