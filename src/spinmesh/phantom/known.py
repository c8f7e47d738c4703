"""A slice of voxels whose tissue is known, for maps to be laid beside the truth."""

from __future__ import annotations

import torch
from torch import Tensor

from spinmesh.maps.kernels import Kernels
from spinmesh.maps.model import KNOWN
from spinmesh.maps.voxels import Voxels, axon_fraction, draw_voxels, signals
from spinmesh.noise import add_rician
from spinmesh.phantom.field import Field, grid_affine
from spinmesh.phantom.series import Phantom
from spinmesh.settings.maps import MapPhantom
from spinmesh.settings.setting import Range

# Unweighted magnitude, in the image's unit, and the voxels' side (mm).
AMPLITUDE, SIDE = 1000.0, 2.0
# Rows at the back that no model explains: crossing fibres in one half, free water in the other.
ROWS = 3
# What of the drawn free water is left in the others.
LITTLE = 0.1


def known_phantom(kernels: Kernels, settings: MapPhantom, seed: int) -> tuple[Phantom, Voxels]:
    """A noisy slice and what each voxel holds, voxels in the order of the image's indices.

    The radius grows from left to right and the axons' fraction from front to back in even steps;
    the rest is drawn from the prior, but for little free water. In the last rows the left half is
    free water and the right half two bundles that cross at right angles, whose quantities are NaN.
    """
    nx, ny = settings.shape
    drawn = draw_voxels(kernels.tissue, nx * ny, 1, seed + KNOWN)
    x, y = torch.cartesian_prod(torch.arange(nx), torch.arange(ny)).T
    tissue, quantities = kernels.tissue, drawn.quantities.clone()
    g_ratio = torch.full_like(drawn.g_ratio, sum(tissue.g_ratio) / 2)
    quantities[:, 0] = _along(tissue.radius_um, x, nx)
    quantities[:, 3] = axon_fraction(_along(tissue.packed_fraction, y, ny), g_ratio)
    quantities[:, 4] *= LITTLE
    back = y >= ny - ROWS
    water, crossing = back & (x < nx / 2), back & (x >= nx / 2)
    quantities[water, 4] = tissue.free_water_fraction[1]
    snr = torch.full_like(drawn.snr, settings.snr)
    voxels = Voxels(drawn.group, quantities, g_ratio, snr)
    axis, across = _axes(x / nx)
    coefficients = voxels.kernels(kernels)
    attenuation = signals(kernels.acquisition, coefficients, axis)
    other = signals(kernels.acquisition, coefficients, across)
    attenuation[crossing] = (attenuation[crossing] + other[crossing]) / 2
    noisy = add_rician(attenuation, settings.snr, torch.Generator().manual_seed(seed + KNOWN))
    quantities[crossing] = torch.nan
    fractions = torch.stack([1 - quantities[:, 4].nan_to_num(), quantities[:, 4].nan_to_num()], 1)
    field = Field(
        fractions.reshape(nx, ny, 1, 2),
        axis.reshape(nx, ny, 1, 1, 3),
        grid_affine((nx, ny, 1), (SIDE, SIDE, SIDE)),
        ("tissue", "free water"),
    )
    clean, series = (AMPLITUDE * a.reshape(nx, ny, 1, -1) for a in (attenuation, noisy))
    phantom = Phantom(kernels.acquisition, field, clean, series, AMPLITUDE / settings.snr)
    return phantom, voxels


def _along(pair: Range, index: Tensor, count: int) -> Tensor:
    """Even steps through a range."""
    return pair[0] + (pair[1] - pair[0]) * (index.double() + 0.5) / count


def _axes(turn: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors that turn from x towards y and z, and others at right angles."""
    angle = turn.double() * torch.pi / 2
    axis = torch.stack([angle.cos(), angle.sin() * 0.6, angle.sin() * 0.8], 1)
    across = torch.stack([-angle.sin(), angle.cos() * 0.6, angle.cos() * 0.8], 1)
    return axis, across
