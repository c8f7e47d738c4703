"""Slab, cylinder and sphere, and concentric layers with permeable interfaces.

For each angular order n the radial problem in d = 1, 2, 3 dimensions

    r^(1-d) (r^(d-1) D w')' - (n(n + d - 2) D / r^2 + 1/T2) w = -rate w

is discretised by Galerkin's method with polynomials in each layer: r^n times Jacobi polynomials
in r^2 in the core (Zernike's in the disk and the ball, so regularity at r = 0 is built in) and
Legendre polynomials in the shells, with the membranes as exact surface terms. Unlike piecewise
Bessel functions these need no roots of determinants that nearly coincide as kappa -> 0, and the
error falls exponentially with the degree.

The flux through a membrane is kappa h (u'/rho' - u/rho) with h = 2 rho rho'/(rho + rho'), so the
density rho is the equilibrium. The unknown w = u/sqrt(rho) keeps every matrix symmetric.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.linalg import block_diag, eigh
from scipy.special import eval_jacobi
from torch import Tensor

from spinmesh.analytic import modes
from spinmesh.errors import ConfigError
from spinmesh.sequence import Acquisition
from spinmesh.tissue import Tissue

# Total polynomial degrees (radial plus angular) of the refinements.
DEGREES = (8, 12, 16, 20, 24, 32, 40, 48, 64, 96, 128, 192)


def slab(
    acquisition: Acquisition, width: float, diffusivity: float, normal, tolerance=modes.TOLERANCE
) -> Float[Tensor, " measurement"]:
    """S(g)/S(0) between two parallel walls `width` (um) apart, free within the plane."""
    in_plane, across = modes.split_gradient(acquisition, normal)
    layers = _Layers.of([width / 2], Tissue.uniform(diffusivity), 1)
    return _signals(layers, acquisition, across, in_plane, tolerance)


def cylinder(
    acquisition: Acquisition, radius: float, diffusivity: float, axis, tolerance=modes.TOLERANCE
) -> Float[Tensor, " measurement"]:
    """S(g)/S(0) within an infinite circular cylinder of `radius` (um), free along `axis`."""
    tissue = Tissue.uniform(diffusivity)
    return multilayer_cylinder(acquisition, [radius], tissue, axis, tolerance)


def sphere(
    acquisition: Acquisition, radius: float, diffusivity: float, tolerance=modes.TOLERANCE
) -> Float[Tensor, " measurement"]:
    """S(g)/S(0) within a sphere of `radius` (um)."""
    return multilayer_sphere(acquisition, [radius], Tissue.uniform(diffusivity), tolerance)


def multilayer_cylinder(
    acquisition: Acquisition,
    radii: Sequence[float],
    tissue: Tissue,
    axis,
    tolerance=modes.TOLERANCE,
) -> Float[Tensor, " measurement"]:
    """S(g)/S(0) of concentric infinite cylinders, free along `axis`.

    `radii` (um) increase; `tissue.labels` name the layers from the core outwards, each isotropic.
    Permeability is read between neighbours, `wall_permeability` from the last label only.
    Carries no gradient. Raises ConfigError for anything else. Accurate to ten times `tolerance`,
    to a hundred times where layers of unequal D meet a gradient along the axis: their generator
    changes during the pulses, which takes seconds per measurement.
    """
    across, along = modes.split_gradient(acquisition, axis)
    return _signals(_Layers.of(radii, tissue, 2), acquisition, across, along, tolerance)


def multilayer_sphere(
    acquisition: Acquisition, radii: Sequence[float], tissue: Tissue, tolerance=modes.TOLERANCE
) -> Float[Tensor, " measurement"]:
    """S(g)/S(0) of concentric spheres; arguments as in `multilayer_cylinder`."""
    across = acquisition.amplitude.detach().cpu().numpy()
    return _signals(_Layers.of(radii, tissue, 3), acquisition, across, 0 * across, tolerance)


@dataclass(frozen=True, eq=False)
class _Layers:
    """Radii and material of the layers, core first; `kappa[i]` is on the outside of layer i."""

    dimension: int
    bounds: ndarray
    diffusivity: ndarray
    relaxation: ndarray
    density: ndarray
    kappa: ndarray

    @classmethod
    def of(cls, radii: Sequence[float], tissue: Tissue, dimension: int) -> _Layers:
        bounds, labels = np.array([0.0, *radii]), tissue.labels
        thickness = np.diff(bounds)
        if len(radii) != len(labels) or not ((thickness > 0) & (thickness < np.inf)).all():
            raise ConfigError(
                f"multilayer: radii {list(radii)} for layers {labels}. "
                "Give one radius per label, increasing from the core outwards."
            )
        pairs = list(itertools.pairwise(labels))
        allowed = {frozenset(pair) for pair in pairs}
        foreign: list = [pair for pair in tissue.permeability if frozenset(pair) not in allowed]
        foreign += [label for label in tissue.wall_permeability if label != labels[-1]]
        if foreign:
            raise ConfigError(
                f"multilayer: {foreign} is not a membrane of the layers {labels}; "
                "only neighbours touch, and only the last one has a wall."
            )
        tensor, t2, density = (
            values.detach().cpu().numpy()
            for values in (tissue.diffusivity, tissue.t2, tissue.density)
        )
        diffusivity = tensor[:, 0, 0]
        if not np.allclose(tensor, diffusivity[:, None, None] * np.eye(3), rtol=1e-12, atol=0):
            raise ConfigError("multilayer: give a scalar diffusivity for every layer.")
        kappa = [float(tissue.between(*pair)) for pair in pairs]
        kappa.append(float(tissue.wall_permeability.get(labels[-1], 0.0)))
        return cls(dimension, bounds, diffusivity, 1 / t2, density, np.array(kappa))


def _signals(
    layers: _Layers, acquisition: Acquisition, across: ndarray, along: ndarray, tolerance: float
) -> Float[Tensor, " measurement"]:
    """Of gradient components (mT/m) that walls restrict and along which spins are free."""
    build = partial(_modes, layers)
    restricted = modes.converged(build, DEGREES, acquisition, across, along, tolerance)
    return restricted * modes.free_along(acquisition, along, float(layers.diffusivity.min()))


def _modes(layers: _Layers, degree: int) -> modes.Modes:
    """Modes of total polynomial degree up to `degree`: all orders, coupled along the gradient.

    The coupling of orders n and n + 1 holds <n| cos |n + 1> of the normalised harmonics.
    """
    d = layers.dimension
    # Exact for the polynomial integrals; the surplus resolves 1/r in the shells of a cylinder.
    x, weight = np.polynomial.legendre.leggauss(degree + 40)
    half = np.diff(layers.bounds)[:, None] / 2
    r = layers.bounds[:-1, None] + half * (1 + x)  # (layer, quadrature point)
    weight = half * weight * r ** (d - 1)
    last = 1 if d == 1 else degree
    solved = [_radial_modes(layers, n, degree, r, weight) for n in range(last + 1)]
    rates, fields = zip(*solved, strict=True)
    start = np.cumsum([0, *map(len, rates)])
    moment = np.zeros((start[-1], start[-1]))
    order = np.arange(last)
    angular = {
        1: np.ones(last),
        2: np.where(order == 0, 0.5**0.5, 0.5),
        3: (order + 1) / np.sqrt((2 * order + 1) * (2 * order + 3)),
    }[d]
    for n in range(last):
        low, high = slice(*start[n : n + 2]), slice(*start[n + 1 : n + 3])
        block = fields[n].T @ ((weight * r).reshape(-1, 1) * fields[n + 1])
        moment[low, high] = angular[n] * block
        moment[high, low] = moment[low, high].T
    initial = np.zeros(start[-1])
    initial[: start[1]] = fields[0].T @ (weight * layers.density[:, None] ** 0.5).ravel()
    spread = weight * (layers.diffusivity - layers.diffusivity.min())[:, None]
    excess = block_diag(*[field.T @ (spread.reshape(-1, 1) * field) for field in fields])
    rate = np.concatenate(rates)
    return modes.Modes(rate, moment, initial, excess if spread.any() else None)


def _radial_modes(layers: _Layers, order: int, degree: int, r: ndarray, weight: ndarray):
    """Rates (mode,) of one order, and its modes' values (quadrature point of all layers, mode)."""
    inside = [_basis(layers.bounds[i : i + 2], order, degree, r[i]) for i in range(len(r))]
    value, slope = (block_diag(*part) for part in zip(*inside, strict=True))
    diffusion = weight * layers.diffusivity[:, None]
    relaxation = weight * layers.relaxation[:, None]
    if order > 0:
        relaxation = relaxation + diffusion * order * (order + layers.dimension - 2) / r**2
    mass = value.T @ (weight.reshape(-1, 1) * value)
    stiffness = slope.T @ (diffusion.reshape(-1, 1) * slope)
    stiffness += value.T @ (relaxation.reshape(-1, 1) * value)
    for jump, kappa in _membranes(layers, order, degree):
        stiffness += kappa * np.outer(jump, jump)
    rate, vectors = eigh(stiffness, mass)
    return rate, value @ vectors


def _membranes(layers: _Layers, order: int, degree: int):
    """Of each interface and the outer wall: the functional w -> [u/rho], and its strength."""
    rho, radii = layers.density, layers.bounds[1:]
    ends = [  # what each layer's functions are worth at its two ends, in units of u/rho
        _basis(layers.bounds[i : i + 2], order, degree, layers.bounds[i : i + 2])[0] / rho[i] ** 0.5
        for i in range(len(rho))
    ]
    start = np.cumsum([0, *[edge.shape[1] for edge in ends]])
    outside = np.append(rho[1:], rho[-1])  # beyond the wall: the mean is then the last layer's own
    strength = layers.kappa * radii ** (layers.dimension - 1) * 2 * rho * outside / (rho + outside)
    for i in range(len(rho)):
        jump = np.zeros(start[-1])
        jump[start[i] : start[i + 1]] = ends[i][1]
        if i + 1 < len(rho):
            jump[start[i + 1] : start[i + 2]] = -ends[i + 1][0]
        yield jump, strength[i]


def _basis(bounds: ndarray, order: int, degree: int, r: ndarray) -> tuple[ndarray, ndarray]:
    """Values and radial slopes (point, function) of one layer's polynomials at `r`."""
    inner, outer = bounds
    if inner > 0:
        k = np.arange(degree - order + 1)
        x = (2 * r - inner - outer) / (outer - inner)
        value, slope = _jacobi(k, 0.0, x)
        return value, slope * 2 / (outer - inner)
    k = np.arange((degree - order) // 2 + 1)
    s = (r / outer)[:, None]
    # order + d/2 - 1 makes them orthogonal; any value spans the same space, so d = 2 serves both.
    value, slope = _jacobi(k, float(order), (2 * s**2 - 1)[:, 0])
    steep = order * s ** max(order - 1, 0) * value + 4 * s ** (order + 1) * slope
    return s**order * value, steep / outer


def _jacobi(k: ndarray, beta: float, x: ndarray) -> tuple[ndarray, ndarray]:
    """P_k^(0, beta)(x) and its derivative, (point, function)."""
    x = x[:, None]
    value = eval_jacobi(k, 0.0, beta, x)
    slope = (k + beta + 1) / 2 * eval_jacobi(np.maximum(k - 1, 0), 1.0, beta + 1, x)
    return value, np.where(k > 0, slope, 0.0)
