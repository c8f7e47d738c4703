"""Attenuations as even spherical harmonics on every shell."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from scipy.special import sph_harm_y
from torch import Tensor

from spinmesh.errors import SequenceError
from spinmesh.sequence import Acquisition
from spinmesh.units import b_to_s_per_mm2

# Even orders up to this one: 28 functions, which 30 directions determine.
ORDER = 6
# Laplace-Beltrami weight of Descoteaux et al. (2007); keeps order 6 calm with few directions.
SMOOTHING = 1e-4


@dataclass(frozen=True, eq=False)
class Harmonics:
    """Attenuations of shapes as even spherical harmonics on every shell (one b, one timing)."""

    shells: tuple[tuple[float, float, float], ...]  # b (s/mm^2), delta, Delta (ms)
    coefficients: Float[Tensor, "substrate shell function"]

    @property
    def invariants(self) -> Float[Tensor, "substrate feature"]:
        """Root of the power of each order on each shell: what no rotation of the shape changes."""
        return _power(self.coefficients)

    def take(self, index: Int[Tensor, " chosen"]) -> Harmonics:
        """Those of some shapes."""
        return Harmonics(self.shells, self.coefficients[index])

    def predict(
        self, substrate: int, acquisition: Acquisition, rotations: Float[Tensor, "batch 3 3"]
    ) -> Float[Tensor, "batch measurement"]:
        """Attenuations of one shape turned by each rotation, without simulating again."""
        shell = self.shell_of(acquisition)
        turned = torch.einsum("ma,bac->bmc", acquisition.direction, rotations)
        return torch.einsum("bmf,mf->bm", harmonics(turned), self.coefficients[substrate][shell])

    def shell_of(self, acquisition: Acquisition) -> Int[Tensor, " measurement"]:
        """Shell of each measurement; SequenceError if one is unknown."""
        known = {shell: i for i, shell in enumerate(self.shells)}
        wanted = shell_keys(acquisition)
        missing = sorted(set(wanted) - set(known))
        if missing:
            raise SequenceError(
                f"alignment: no training signal at b = {missing[0][0]:g} s/mm^2, delta = "
                f"{missing[0][1]:g} ms, Delta = {missing[0][2]:g} ms. Simulate the training shapes "
                "with the target's shells."
            )
        return torch.tensor([known[key] for key in wanted])


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
    penalty = torch.cat([torch.full((2 * n + 1,), float((n * (n + 1)) ** 2)) for n in _orders()])
    parts = []
    for shell in shells:
        index = torch.tensor([i for i, key in enumerate(keys) if key == shell])
        Y = harmonics(acquisition.direction[index])
        normal = Y.T @ Y + SMOOTHING * len(index) / 30 * penalty.to(Y).diag()
        parts.append(torch.linalg.solve(normal, Y.T @ attenuation[:, index].T).T)
    return Harmonics(shells, torch.stack(parts, 1))


def harmonics(direction: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch function"]:
    """Real, orthonormal spherical harmonics of even order up to ORDER."""
    x, y, z = direction.unbind(-1)
    polar = torch.arctan2(torch.hypot(x, y), z).numpy()
    azimuth = torch.arctan2(y, x).numpy()
    columns = []
    for n in _orders():
        columns.append(torch.as_tensor(sph_harm_y(n, 0, polar, azimuth).real))
        for m in range(1, n + 1):
            value = torch.as_tensor(sph_harm_y(n, m, polar, azimuth)) * 2**0.5
            columns += [value.real, value.imag]
    return torch.stack(columns, -1)


def _orders() -> range:
    return range(0, ORDER + 1, 2)


def _power(coefficients: Tensor) -> Tensor:
    parts = coefficients.split([2 * n + 1 for n in _orders()], dim=-1)
    return torch.stack([part.norm(dim=-1) for part in parts], -1).flatten(-2)
