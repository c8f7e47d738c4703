"""What a voxel holds, its signal, and what of the signal no rotation changes.

A voxel is free water and tissue; tissue is water in beaded axons of one size and water between
them. Both are turned about their axes evenly, which are spread about a mean axis by a Watson law:
that multiplies the Legendre coefficient of degree l by the law's own, w_l. Fractions are of the
unweighted signal. Nothing crosses membranes, and all axons of a voxel are alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.polynomial import legendre
from torch import Tensor

from spinmesh.estimators import Examples, Names
from spinmesh.maps.kernels import DEGREES, Kernels, shells_of
from spinmesh.noise import add_rician
from spinmesh.sequence import Acquisition, same_echo
from spinmesh.sequence.harmonics import ORDER, fit_harmonics, shell_keys
from spinmesh.settings.maps import TissueRanges
from spinmesh.stored import quantity, store
from spinmesh.units import b_from_s_per_mm2

# What a voxel is asked for, with units.
QUANTITIES = {
    "radius": "um",
    "bead_amplitude": "1",
    "orientation_order": "1",
    "axon_fraction": "1",
    "free_water_fraction": "1",
    "diffusivity_inside": "um^2/ms",
    "diffusivity_between": "um^2/ms",
}
# um^2/ms, at body temperature.
FREE_WATER = 3.0
# Concentrations whose orders are tabulated, and Gauss' nodes of their integrals.
CONCENTRATION = np.concatenate([[0.0], np.geomspace(1e-3, 100.0, 400)])
GAUSS = 128
# Voxels whose signals are computed together: 2,000 x 186 measurements x 7 degrees take 21 MB.
TOGETHER = 2000


@store("spinmesh/voxels", version=1, stage="maps")
@dataclass(frozen=True, eq=False)
class Voxels:
    """Tissue of many voxels; `quantities` in the order of `QUANTITIES`.

    `group` numbers the substrate: radius, beads, packing and diffusivities; voxels of one differ in
    orientation order, free water and noise.
    """

    group: Int[Tensor, " voxel"]
    quantities: Float[Tensor, "voxel quantity"] = quantity("as named")
    g_ratio: Float[Tensor, " voxel"] = quantity()
    snr: Float[Tensor, " voxel"] = quantity()

    def __len__(self) -> int:
        return len(self.group)

    def __getitem__(self, which: slice) -> Voxels:
        """Some of them."""
        return Voxels(*(getattr(self, name)[which] for name in self.__dataclass_fields__))

    def kernels(self, kernels: Kernels) -> Float[Tensor, "voxel shell degree"]:
        """Legendre coefficients of the attenuation about each voxel's mean axis."""
        radius, beads, order, fraction, water, inside, between = self.quantities.T
        axons = kernels.axons(radius, beads, inside)
        packed = packed_fraction(fraction, self.g_ratio)
        around = kernels.between(radius / self.g_ratio, packed, between)
        tissue = fraction[:, None, None] * axons + (1 - fraction)[:, None, None] * around
        tissue = watson(order)[:, None] * tissue
        free = torch.zeros_like(tissue)
        b = b_from_s_per_mm2(torch.tensor([shell[0] for shell in kernels.shells]).double())
        free[..., 0] = torch.exp(-FREE_WATER * b)
        return water[:, None, None] * free + (1 - water)[:, None, None] * tissue


def draw_voxels(ranges: TissueRanges, substrates: int, each: int, seed: int) -> Voxels:
    """`each` voxels of every one of `substrates` tissues of the prior."""
    rng = np.random.default_rng(seed)

    def drawn(pair: tuple[float, float], of: int) -> Tensor:
        """The same for all voxels of a substrate, or (of each) for every voxel its own."""
        values = rng.uniform(*pair, substrates * of)
        return torch.from_numpy(values).repeat_interleave(each // of)

    radius, beads, packed, g_ratio, inside, between = (
        drawn(getattr(ranges, name), 1)
        for name in (
            "radius_um", "bead_amplitude", "packed_fraction", "g_ratio",
            "diffusivity_inside_um2_per_ms", "diffusivity_between_um2_per_ms",
        )
    )  # fmt: skip
    order = drawn(ranges.orientation_order, each)
    low, high = np.sqrt(ranges.free_water_fraction)
    water = drawn((low, high), each) ** 2
    snr = drawn(tuple(np.log(ranges.snr)), each).exp()
    axons = axon_fraction(packed, g_ratio)
    columns = torch.stack([radius, beads, order, axons, water, inside, between], 1)
    group = torch.arange(substrates).repeat_interleave(each)
    return Voxels(group, columns, g_ratio, snr)


def bounds_of(ranges: TissueRanges) -> list[tuple[float, float]]:
    """The least and the largest value of each of `QUANTITIES`."""
    packed, g_ratio = map(torch.tensor, (ranges.packed_fraction, ranges.g_ratio))
    axons = axon_fraction(packed.double(), g_ratio.double())
    return [
        ranges.radius_um,
        ranges.bead_amplitude,
        ranges.orientation_order,
        (float(axons[0]), float(axons[1])),
        ranges.free_water_fraction,
        ranges.diffusivity_inside_um2_per_ms,
        ranges.diffusivity_between_um2_per_ms,
    ]


def axon_fraction(packed: Tensor, g_ratio: Tensor) -> Tensor:
    """The axons' part of a tissue's water, from the part that they and their myelin cover."""
    return g_ratio**2 * packed / (g_ratio**2 * packed + 1 - packed)


def packed_fraction(axons: Tensor, g_ratio: Tensor) -> Tensor:
    """The inverse of `axon_fraction`."""
    return axons / (axons + g_ratio**2 * (1 - axons))


def watson(order: Float[Tensor, " voxel"]) -> Float[Tensor, "voxel degree"]:
    """Legendre coefficients of the Watson law whose mean of P2 is `order`; the first is 1."""
    x, weight = legendre.leggauss(GAUSS)
    density = weight * np.exp(CONCENTRATION[:, None] * (x**2 - 1))
    table = density @ legendre.legvander(x, int(DEGREES[-1]))[:, DEGREES]
    table = table / table[:, :1]
    place = np.interp(order.numpy(), table[:, 1], np.arange(len(table)))
    columns = [np.interp(place, np.arange(len(table)), column) for column in table.T]
    return torch.from_numpy(np.stack(columns, 1))


def signals(
    acquisition: Acquisition,
    coefficients: Float[Tensor, "voxel shell degree"],
    axis: Float[Tensor, "voxel 3"],
) -> Float[Tensor, "voxel measurement"]:
    """Attenuations of voxels with a mean axis; 1 where unweighted."""
    result = torch.ones(len(axis), len(acquisition), dtype=torch.float64)
    weighted = (~acquisition.unweighted).nonzero()[:, 0]
    shells, keys = shells_of(acquisition), shell_keys(acquisition)
    shell = torch.tensor([shells.index(keys[row]) for row in weighted.tolist()])
    direction = acquisition.direction[weighted]
    for some in torch.arange(len(axis)).split(TOGETHER):
        cosine = axis[some] @ direction.T
        basis = torch.from_numpy(legendre.legvander(cosine.numpy(), int(DEGREES[-1])))
        result[some[:, None], weighted] = (basis[..., DEGREES] * coefficients[some][:, shell]).sum(
            -1
        )
    return result.clamp_min(0.0)


def random_axes(count: int, generator: torch.Generator) -> Float[Tensor, "voxel 3"]:
    """Unit vectors, evenly over the sphere."""
    axis = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return axis / axis.norm(dim=1, keepdim=True)


def measured(
    acquisition: Acquisition,
    attenuation: Float[Tensor, "voxel measurement"],
    snr: Float[Tensor, " voxel"],
    generator: torch.Generator,
) -> Float[Tensor, "voxel measurement"]:
    """With Rician noise, relative to the mean unweighted magnitude of the same echo time."""
    noisy = add_rician(attenuation * snr[:, None], 1.0, generator)
    weight = (same_echo(acquisition) & acquisition.unweighted).double()
    return noisy / (noisy @ (weight / weight.sum(1, keepdim=True)).T)


def features(
    acquisition: Acquisition,
    attenuation: Float[Tensor, "voxel measurement"],
    snr: Float[Tensor, " voxel"],
) -> Float[Tensor, "voxel feature"]:
    """Root of the power of each degree of harmonics on each shell, and the SNR's logarithm."""
    weighted = ~acquisition.unweighted
    harmonics = fit_harmonics(acquisition.select(weighted), attenuation[:, weighted])
    return torch.cat([harmonics.invariants, snr.log()[:, None]], 1)


def feature_names(acquisition: Acquisition) -> tuple[str, ...]:
    """Of `features`, in their order; all have the unit 1."""
    degrees = np.unique(ORDER).tolist()
    shells = [(b, Delta, degree) for b, _, Delta in shells_of(acquisition) for degree in degrees]
    return (*(f"b{b:g} Delta{Delta:g} l{degree}" for b, Delta, degree in shells), "log snr")


def simulate_measured(
    kernels: Kernels, voxels: Voxels, seed: int
) -> Float[Tensor, "voxel measurement"]:
    """Noisy attenuations of voxels in random orientations."""
    generator = torch.Generator().manual_seed(seed)
    axis = random_axes(len(voxels), generator)
    rows = []
    for start in range(0, len(voxels), TOGETHER):
        part = slice(start, start + TOGETHER)
        some = voxels[part]
        clean = signals(kernels.acquisition, some.kernels(kernels), axis[part])
        rows.append(measured(kernels.acquisition, clean, some.snr, generator))
    return torch.cat(rows)


def simulate_examples(kernels: Kernels, substrates: int, each: int, seed: int) -> Examples:
    """Features of drawn voxels with what they hold; `each` voxels of every substrate."""
    voxels = draw_voxels(kernels.tissue, substrates, each, seed)
    names = feature_names(kernels.acquisition)
    labels = Names(names, ("1",) * len(names), tuple(QUANTITIES), tuple(QUANTITIES.values()))
    attenuation = simulate_measured(kernels, voxels, seed)
    table = features(kernels.acquisition, attenuation, voxels.snr)
    return Examples(voxels.group, labels, target=voxels.quantities, table=table)
