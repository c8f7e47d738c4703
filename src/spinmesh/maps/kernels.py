"""Signals of endless axons and of the water between them, for a continuum of tissues.

An axon is one period of a beaded tube that repeats itself for ever; axons of all periods of a
range are mixed evenly, for one alone would diffract where the gradient's wave number is 2 pi over
its period. The water lies between the circles of a random packing. Both are simulated at unit size
and diffusivity: a body of another size s and diffusivity D has their signal under an acquisition of
times t D / s^2 and gradients g s^3 / D. Turned evenly about its axis, a body has a signal that
depends on the angle theta to the axis alone, which is a sum of Legendre polynomials of cos theta on
each shell (one b, one timing). Their coefficients are known at Chebyshev nodes of size, diffusivity
and shape; between them they are polynomials.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from numpy.polynomial import chebyshev, legendre
from scipy.interpolate import BarycentricInterpolator
from torch import Tensor

from spinmesh.bloch_torrey import simulate_periodic
from spinmesh.bundles import assemble_plane, plane_attenuation
from spinmesh.errors import ConfigError
from spinmesh.mesh import (
    PARAMETERS,
    SweptDisk,
    TetMesh,
    deform,
    mesh_plane,
    neutral_parameters,
    rotation_matrix,
    swept_disk,
)
from spinmesh.mesh.packing import pack_densely
from spinmesh.progress import progress
from spinmesh.sequence import Acquisition
from spinmesh.sequence.harmonics import ORDER, shell_keys
from spinmesh.settings.maps import KernelNodes as Nodes
from spinmesh.settings.maps import TissueRanges
from spinmesh.settings.setting import Range
from spinmesh.stored import store
from spinmesh.tissue import Tissue
from spinmesh.units import b_from_s_per_mm2

# Even Legendre degrees, and angles between axis and gradient that give them: Gauss' nodes.
DEGREES = np.arange(0, 13, 2)
_COSINE, _WEIGHT = (half[10:] for half in legendre.leggauss(20))
# An axon's mesh, and the error of its signals: with large beads the mesh errs by 0.7 % of S0 in a
# mean over directions.
AXON = SweptDisk(rings=3, layers=12, radius_um=1.0, length_um=1.0)
TOLERANCE = 3e-3
# Standard deviation of the radii of a packing over their mean, least gap and triangles, in radii.
VARIATION, GAP, TRIANGLE = 0.3, 0.05, 0.5
# Substrates whose coefficients are interpolated together.
TOGETHER = 1000


@store("spinmesh/kernels", version=1, stage="maps")
@dataclass(frozen=True, eq=False)
class Kernels:
    """Legendre coefficients of attenuations about the axis, at the nodes of `nodes`.

    Bodies are the axons (bead amplitude times period, at Gauss' nodes), then the packings of each
    fraction.
    """

    acquisition: Acquisition
    tissue: TissueRanges
    nodes: Nodes
    coefficients: Float[Tensor, "body size diffusivity shell degree"]

    @cached_property
    def shells(self) -> list[tuple[float, float, float]]:
        """(b in s/mm^2, delta, Delta in ms) of the weighted measurements, ascending."""
        return shells_of(self.acquisition)

    def axons(
        self, radius: Tensor, amplitude: Tensor, diffusivity: Tensor
    ) -> Float[Tensor, "substrate shell degree"]:
        """Of water in axons of all periods; radius in um, diffusivity in um^2/ms."""
        nodes, tissue = self.nodes, self.tissue
        shape = (nodes.bead_amplitude, nodes.bead_period)
        axons = self.coefficients[: shape[0] * shape[1]].unflatten(0, shape)
        share = torch.from_numpy(legendre.leggauss(shape[1])[1] / 2)
        axes = [
            _weights(_squared(tissue.bead_amplitude), shape[0], amplitude**2),
            _weights(_logarithms(tissue.radius_um), nodes.size, radius.log()),
            _weights(tissue.diffusivity_inside_um2_per_ms, nodes.diffusivity, diffusivity),
        ]
        return _interpolated(torch.tensordot(share, axons, dims=([0], [1])), axes)

    def between(
        self, radius: Tensor, fraction: Tensor, diffusivity: Tensor
    ) -> Float[Tensor, "substrate shell degree"]:
        """Of water between axons of an outer radius (um) that cover a fraction of the plane.

        A fraction outside the simulated range counts as its end.
        """
        nodes, tissue = self.nodes, self.tissue
        fraction = fraction.clamp(*tissue.packed_fraction)
        first = nodes.bead_amplitude * nodes.bead_period
        packed = self.coefficients[first:].unflatten(0, (nodes.packed_fraction, nodes.packings))
        axes = [
            _weights(tissue.packed_fraction, nodes.packed_fraction, fraction),
            _weights(_logarithms(outer_radius(tissue)), nodes.size, radius.log()),
            _weights(tissue.diffusivity_between_um2_per_ms, nodes.diffusivity, diffusivity),
        ]
        return _interpolated(packed.mean(1), axes)


def simulate_kernels(
    acquisition: Acquisition,
    tissue: TissueRanges,
    nodes: Nodes,
    seed: int,
    shard: int = 0,
    shards: int = 1,
) -> Kernels:
    """Coefficients of the bodies `shard`, `shard` + `shards`, ...; `io.load_shards` joins them.

    Raises ConfigError if the acquisition has a shell of too few directions.
    """
    shells = shells_of(acquisition)
    polar = _polar(shells)
    ranges = tissue.radius_um, outer_radius(tissue)
    sizes = [np.exp(_chebyshev(_logarithms(pair), nodes.size)) for pair in ranges]
    rates = [
        _chebyshev(pair, nodes.diffusivity)
        for pair in (tissue.diffusivity_inside_um2_per_ms, tissue.diffusivity_between_um2_per_ms)
    ]
    axons = itertools.product(
        np.sqrt(_chebyshev(_squared(tissue.bead_amplitude), nodes.bead_amplitude)),
        _scaled(tissue.bead_period, legendre.leggauss(nodes.bead_period)[0]),
    )
    packings = itertools.product(
        _chebyshev(tissue.packed_fraction, nodes.packed_fraction), np.arange(float(nodes.packings))
    )
    bodies = [(_axon, pair, sizes[0], rates[0]) for pair in axons]
    bodies += [(_packing, pair, sizes[1], rates[1]) for pair in packings]
    rows = []
    for number in progress(range(shard, len(bodies), shards), "simulating bodies"):
        build, shape, radii, diffusivities = bodies[number]
        signals = build(shape, nodes, np.random.default_rng([seed, number]))
        # All diffusivities at once: they share a basis.
        rescaled = (
            Acquisition.joined(_rescaled(polar, s, D) for D in diffusivities) for s in radii
        )
        values = torch.stack([signals(each) for each in rescaled])
        rows.append(_expanded(values.unflatten(1, (len(diffusivities), len(shells), -1))))
    return Kernels(acquisition, tissue, nodes, torch.stack(rows))


def shells_of(acquisition: Acquisition) -> list[tuple[float, float, float]]:
    """(b in s/mm^2, delta, Delta in ms) of the weighted measurements, ascending.

    Raises ConfigError if the directions of a shell do not determine its harmonics.
    """
    keys = shell_keys(acquisition.select(~acquisition.unweighted))
    shells = sorted(set(keys))
    few = {shell: n for shell in shells if (n := keys.count(shell)) < len(ORDER)}
    if few:
        (b, _, Delta), count = next(iter(few.items()))
        raise ConfigError(
            f"maps: the shell b = {b:g} s/mm^2, Delta = {Delta:g} ms has {count} directions; "
            f"{len(ORDER)} are needed. Leave the shell out, or give b-values that are equal."
        )
    return shells


def outer_radius(tissue: TissueRanges) -> Range:
    """[low, high] of axons with their myelin (um)."""
    return tissue.radius_um[0] / tissue.g_ratio[1], tissue.radius_um[1] / tissue.g_ratio[0]


def mean_radius(weighted: float, amplitude: float) -> float:
    """Mean radius of a tube r = R (1 + a sin) whose <r^3>/<r^2> is `weighted`."""
    return weighted * (1 + amplitude**2 / 2) / (1 + 1.5 * amplitude**2)


def axon_cell(
    amplitude: float, period: float, radius: float = 1.0, size: SweptDisk = AXON
) -> TetMesh:
    """Mesh of one period of a beaded tube of a volume-weighted radius (um); `period` in radii."""
    template = swept_disk(size)
    values = {
        "radius": mean_radius(radius, amplitude),
        "length": period * radius,
        "bead_amplitude": amplitude,
    }
    parameters = neutral_parameters(template)
    for name, value in values.items():
        parameters[PARAMETERS.index(name)] = value
    # Along x and y nothing comes back: images are far away.
    periods = torch.tensor([100.0, 100.0, period], dtype=torch.float64) * radius
    return replace(template.with_points(deform(template, parameters), "axon"), periods=periods)


def _axon(
    shape: tuple[float, float], nodes: Nodes, rng: np.random.Generator
) -> Callable[[Acquisition], Tensor]:
    """Attenuations of the water in an axon of unit size."""
    mesh, tissue = axon_cell(float(shape[0]), float(shape[1])), Tissue.uniform(1.0)
    return lambda acquisition: simulate_periodic(
        mesh, tissue, acquisition, TOLERANCE
    ).signals.attenuation[0]


def _packing(
    shape: tuple[float, float], nodes: Nodes, rng: np.random.Generator
) -> Callable[[Acquisition], Tensor]:
    """Of the water between circles whose <r^3>/<r^2> is 1; the mean of both directions across."""
    gamma = 1 / VARIATION**2
    radii = rng.gamma(gamma, 1 / gamma, nodes.axons)
    radii *= (radii**2).sum() / (radii**3).sum()
    disks = pack_densely(radii, float(shape[0]), GAP, rng)
    plane = assemble_plane(mesh_plane(disks, TRIANGLE, int(rng.integers(2**32))), 1.0)
    quarter = rotation_matrix(torch.tensor([0.0, 0.0, torch.pi / 2], dtype=torch.float64))

    def attenuation(acquisition: Acquisition) -> Tensor:
        both = (acquisition, acquisition.rotated(quarter))
        return torch.stack([plane_attenuation(plane, each) for each in both]).mean(0)

    return attenuation


def _polar(shells: Sequence[tuple[float, float, float]]) -> Acquisition:
    """Every shell along Gauss' angles to z."""
    direction = np.column_stack([np.sqrt(1 - _COSINE**2), 0 * _COSINE, _COSINE])
    return Acquisition.joined(
        Acquisition.pgse([b_from_s_per_mm2(b)] * len(direction), direction, delta, Delta)
        for b, delta, Delta in shells
    )


def _rescaled(acquisition: Acquisition, size: float, diffusivity: float) -> Acquisition:
    """What a body of unit size and diffusivity has to be measured with."""
    pace = diffusivity / size**2
    parts = []
    for number, pulse in enumerate(acquisition.sequences):
        rows = acquisition.timing == number
        strength, along = acquisition.amplitude[rows], acquisition.direction[rows]
        times = (pace * pulse.delta, pace * pulse.Delta)  # type: ignore[attr-defined]
        parts.append(Acquisition.from_gradient(strength * size / pace, along, *times))
    return Acquisition.joined(parts)


def _expanded(
    values: Float[Tensor, "size diffusivity shell angle"],
) -> Float[Tensor, "size diffusivity shell degree"]:
    """Coefficients (2 l + 1) int_0^1 P_l S."""
    basis = (2 * DEGREES + 1) * legendre.legvander(_COSINE, int(DEGREES[-1]))[:, DEGREES]
    return values @ torch.from_numpy(_WEIGHT[:, None] * basis)


def _squared(pair: Range) -> Range:
    return pair[0] ** 2, pair[1] ** 2


def _logarithms(pair: Range) -> Range:
    return float(np.log(pair[0])), float(np.log(pair[1]))


def _chebyshev(pair: Range, count: int) -> Float[ndarray, " node"]:
    return _scaled(pair, chebyshev.chebpts1(count))


def _scaled(pair: Range, places: Float[ndarray, " node"]) -> Float[ndarray, " node"]:
    """From [-1, 1] to a range."""
    return np.asarray(sum(pair) / 2 + (pair[1] - pair[0]) / 2 * places)


def _weights(pair: Range, count: int, values: Tensor) -> Float[Tensor, "substrate node"]:
    """Of the nodes, in the polynomial through them."""
    if count == 1:
        return torch.ones(len(values), 1, dtype=torch.float64)
    nodes = _chebyshev(pair, count)
    through = BarycentricInterpolator(nodes, np.eye(count), rng=0)
    return torch.from_numpy(through(values.double().numpy()))


def _interpolated(table: Tensor, axes: Sequence[Tensor]) -> Float[Tensor, "substrate shell degree"]:
    """The product of all axes' polynomials."""
    rows = []
    for some in zip(*(axis.split(TOGETHER) for axis in axes), strict=True):
        weight = reduce(lambda a, b: (a[..., None] * b[:, None]).flatten(1), some)
        rows.append(weight @ table.flatten(0, len(axes) - 1).flatten(1))
    return torch.cat(rows).unflatten(1, table.shape[-2:])
