"""Smooth maps of points, one per way in which an axon or a bundle departs from the straight one.

Each takes points (um) of any mesh and how far along the axis each lies, `t` from 0 to 1 (its z over
the length, before any map). Parameters are numbers or tensors that broadcast against `t`: one value
for all points, or a trailing axis of 1 after those of a batch of shapes. All are differentiable in
their parameters. The families of `families` and the bundles of `bundle` are compositions of these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from numpy.polynomial.legendre import leggauss
from scipy.spatial import cKDTree
from torch import Tensor

from spinmesh.errors import MeshError
from spinmesh.mesh.packing import Disks
from spinmesh.mesh.tetmesh import TetMesh, check_quality
from spinmesh.settings.mesh import SHAPE_PARAMETERS, ShapeKey

Points = Float[Tensor, "... point 3"]
Along = Float[Tensor, " point"]
Value = int | float | Tensor

# The fan's turn is spread over this fraction of the length: a sharp kink would fold the tets.
FAN_WIDTH = 0.7
# Gauss points for the centre line's integral; its integrand is smooth on the scale FAN_WIDTH.
_NODES, _WEIGHTS = leggauss(24)
# Points closer to a fibre (um) are on it.
ON_FIBRE = 1e-12
# A full bend (beta = 1) displaces the tip by this many template radii (ReMiDi uses "order ten").
BEND_WIDTHS = 10.0
# Halvings by which the limit of a parameter that folds is found.
HALVINGS = 8


def name_and_unit(key: ShapeKey) -> tuple[str, str]:
    """Of a configuration's key; the unit is that of the value as it is written there."""
    stem, _, unit = key.rpartition("_")
    return (stem, unit) if unit in ("um", "rad", "deg") else (key, "1")


# Name -> (unit, value that leaves the template's shape alone; None = the template's own size).
PARAMETER_TABLE: dict[str, tuple[str, float | None]] = {
    name: ("rad" if unit == "deg" else unit, parameter.neutral)
    for key, parameter in SHAPE_PARAMETERS.items()
    for name, unit in [name_and_unit(key)]
}
PARAMETERS = tuple(PARAMETER_TABLE)


def neutral_parameters(template: TetMesh) -> Float[Tensor, " parameter"]:
    """The parameters that reproduce the template."""
    radius, length = _template_size(template)
    size = {"radius": radius, "length": length}
    values = [size[name] if v is None else v for name, (_, v) in PARAMETER_TABLE.items()]
    return torch.tensor(values, dtype=torch.float64)


def deform(
    template: TetMesh, parameters: Float[Tensor, "... parameter"]
) -> Float[Tensor, "... point 3"]:
    """Node coordinates (um) of the deformed template; differentiable in the parameters.

    Parameters in the order of `PARAMETERS`. The maps of `mesh.maps`, one after the other: a cell of
    another size and ellipticity is beaded, bent, undulates, is twisted, fans and is stretched.
    """
    p = {name: parameters[..., i, None] for i, name in enumerate(PARAMETERS)}
    radius, length = _template_size(template)
    t = template.points[:, 2] / length
    points = resized(template.points, p["radius"] / radius, p["ellipticity"])
    points = beaded(points, t, p["bead_amplitude"], p["bead_count"], p["bead_phase"])
    points = bent(points, t, BEND_WIDTHS * p["radius"] * p["bend"], p["bend_direction"])
    points = undulating(points, t, p["undulation_amplitude"], p["undulation_count"])
    points = twisted(points, t, p["twist"])
    points = fanned(points, t, p["length"], p["fan_angle"], p["fan_height"], p["fan_direction"])
    return stretched(points, p["scale_x"], p["scale_y"], p["scale_z"])


def _template_size(template: TetMesh) -> tuple[float, float]:
    radius = float(template.points[:, :2].norm(dim=1).max())
    return radius, float(template.points[:, 2].max())


def _wave(t: Tensor, count: Value, phase: Value = 0.0) -> Tensor:
    """sin(2 pi n t + phase)."""
    return torch.sin(2 * torch.pi * count * t + phase)


def resized(points: Points, factor: Value, ellipticity: Value) -> Points:
    """Cross-sections scaled by `factor` and squeezed: (x, y) f (exp(e/2), exp(-e/2))."""
    half = torch.as_tensor(ellipticity, dtype=points.dtype) / 2
    x = points[..., 0] * factor * torch.exp(half)
    y = points[..., 1] * factor * torch.exp(-half)
    return torch.stack([x, y, points[..., 2].expand_as(x)], -1)


def beaded(points: Points, t: Along, amplitude: Value, count: Value, phase: Value) -> Points:
    """Radii swell and shrink: (x, y) (1 + a sin(2 pi n t + phase)); ReMiDi (arXiv 2502.01988)."""
    factor = 1 + amplitude * _wave(t, count, phase)
    x, y = points[..., 0] * factor, points[..., 1] * factor
    return torch.stack([x, y, points[..., 2].expand_as(x)], -1)


def bent(points: Points, t: Along, shift: Value, direction: Value) -> Points:
    """The axis becomes a parabola: (x, y) + s t^2 (cos, sin) of the direction; ReMiDi.

    A shear: no volume changes, nothing folds. `shift` is that of the tip (um).
    """
    away = torch.as_tensor(shift) * t**2
    angle = torch.as_tensor(direction, dtype=points.dtype)
    x, y = points[..., 0] + away * torch.cos(angle), points[..., 1] + away * torch.sin(angle)
    return torch.stack([x, y, points[..., 2].expand_as(x)], -1)


def undulating(points: Points, t: Along, amplitude: Value, count: Value) -> Points:
    """The axis becomes a sine: y + A sin(2 pi n t) (Nilsson et al. 2012, NMR Biomed 25:795).

    A shear: no volume changes, nothing folds. `amplitude` in um.
    """
    y = points[..., 1] + amplitude * _wave(t, count)
    return torch.stack([points[..., 0].expand_as(y), y, points[..., 2].expand_as(y)], -1)


def twisted(points: Points, t: Along, angle: Value) -> Points:
    """Cross-sections turned by `angle` t (rad) about z; ReMiDi. Nothing folds."""
    x, y = _rotated(points[..., 0], points[..., 1], angle * t)
    return torch.stack([x, y, points[..., 2].expand_as(x)], -1)


def fanned(
    points: Points, t: Along, length: Value, angle: Value, height: Value, direction: Value
) -> Points:
    """Swept along a centre line of `length` (um) that turns by `angle` (rad) around `height`.

    With the tangent's angle phi(t), measured from its value at t = 0 and rising like a logistic
    function over FAN_WIDTH, the centre line is L (int sin phi, int cos phi) in the plane of
    `direction`; cross-sections stay normal to it. After ReMiDi, whose turn is sharp. Folds where
    the line turns tighter than the cross-section is wide.
    """
    direction = torch.as_tensor(direction, dtype=points.dtype)
    along, across = _rotated(points[..., 0], points[..., 1], -direction)
    phi, centre_x, centre_z = _centre_line(t, angle, height)
    z = length * centre_z - along * torch.sin(phi)
    along = length * centre_x + along * torch.cos(phi)
    x, y = _rotated(along, across, direction)
    return torch.stack([x, y, z.expand_as(x)], -1)


def _centre_line(t: Tensor, angle: Value, height: Value) -> tuple[Tensor, Tensor, Tensor]:
    """Tangent angle and unit-length centre line (int sin, int cos) of the fan at each t."""
    turn, middle = (torch.as_tensor(value, dtype=t.dtype)[..., None] for value in (angle, height))

    def tangent(s: Tensor) -> Tensor:
        return turn * torch.sigmoid((s - middle) * (6 / FAN_WIDTH))

    nodes = torch.as_tensor((_NODES + 1) / 2, dtype=t.dtype, device=t.device)
    weights = torch.as_tensor(_WEIGHTS / 2, dtype=t.dtype, device=t.device)
    phi = tangent(t[:, None] * nodes)
    # The base stays horizontal: the tangent is measured from its value at t = 0.
    base = tangent(torch.zeros_like(t[:1, None]))
    centre_x = t * (torch.sin(phi - base) @ weights)
    centre_z = t * (torch.cos(phi - base) @ weights)
    return (tangent(t[:, None]) - base)[..., 0], centre_x, centre_z


def stretched(points: Points, x: Value, y: Value, z: Value) -> Points:
    """Scaled along the three axes."""
    return torch.stack([x * points[..., 0], y * points[..., 1], z * points[..., 2]], -1)


def _rotated(x: Tensor, y: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    c, s = torch.cos(angle), torch.sin(angle)
    return x * c - y * s, x * s + y * c


def beaded_fibres(
    points: Points,
    t: Along,
    fibres: Disks,
    amplitude: Value,
    count: Value,
    phase: Float[Tensor, " disk"],
) -> Points:
    """Every fibre of a periodic bundle beaded by itself; its water gives way.

    Around a fibre of radius R a point at the distance r from its axis moves outwards by
    a sin(2 pi n t + phase) min(r, R) f, where f = w/(1/h + sum w) over all fibres within h, w is
    1/d - 1/h and d = r - R the distance to the fibre (Shepard 1968): f is 1 on a fibre and in it, 0
    on its neighbours and nearly linear between two. Inside, all radii keep their proportions, that
    of myelin too. It folds little before beads meet. h is the widest radius, or what is left of
    half the cell beside it.
    """
    widest = float(fibres.radii.max())
    reach = min(widest, fibres.cell / 2 - widest)
    near, fibre = _within_reach(points, fibres, reach)
    centre = torch.from_numpy(fibres.centres).to(points)[fibre]
    radius = torch.from_numpy(fibres.radii).to(points)[fibre]
    offset = points[near, :2] - centre
    offset = offset - fibres.cell * torch.round(offset / fibres.cell)
    r = offset.norm(dim=-1)
    weight = (1 / (r - radius).clamp_min(ON_FIBRE) - 1 / reach).clamp_min(0)
    total = torch.full_like(points[:, 0], 1 / reach).index_add(0, near, weight)
    share = weight / total[near] * radius / torch.maximum(r, radius)
    swell = amplitude * _wave(t[near], count, phase[fibre]) * share
    moved = torch.zeros_like(points[:, :2]).index_add(0, near, swell[:, None] * offset)
    return points + torch.nn.functional.pad(moved, (0, 1))


def _within_reach(points: Tensor, fibres: Disks, reach: float) -> tuple[Tensor, Tensor]:
    """Pairs of a point and a fibre that it lies in or so close (um) to."""
    plane = points[:, :2].detach().cpu().numpy() % fibres.cell
    # A remainder may round up to the cell itself, which the tree refuses.
    tree = cKDTree(np.where(plane < fibres.cell, plane, 0.0), boxsize=fibres.cell)
    lists = tree.query_ball_point(fibres.centres % fibres.cell, fibres.radii + reach)
    near = np.concatenate([np.asarray(each, dtype=int) for each in lists])
    fibre = np.repeat(np.arange(len(lists)), [len(each) for each in lists])
    return torch.from_numpy(near).to(points.device), torch.from_numpy(fibre).to(points.device)


def dispersed(points: Points, t: Along, cell: float, amplitude: Value, count: Value) -> Points:
    """Fibres of a periodic bundle tilted in all directions, neighbours alike.

    Two shears, one after the other: x + A sin(2 pi y/cell) cos(2 pi n t), then
    y + A sin(2 pi x/cell) sin(2 pi n t). Each keeps every volume, folds nothing and is periodic in
    all three directions; together they stir the cell as vortices do. With A = tan(s) L/(pi n) the
    root mean square of the tilt is s in either direction, before the second shear turns the first.
    """
    turn = 2 * torch.pi / cell
    x = points[..., 0] + amplitude * torch.sin(turn * points[..., 1]) * _wave(t, count, np.pi / 2)
    y = points[..., 1] + amplitude * torch.sin(turn * x) * _wave(t, count)
    return torch.stack([x, y, points[..., 2].expand_as(x)], -1)


def unfolded(
    mesh: TetMesh,
    points_of: Callable[[Mapping[str, float]], Tensor],
    values: Mapping[str, float],
    neutral: Mapping[str, float],
    units: Mapping[str, str],
) -> TetMesh:
    """The mesh that has these parameters; if a tet is turned or flat, MeshError with what folds it.

    That is the first parameter, in the order given, whose `neutral` value alone cures the fold; its
    limit is found by bisection between the two.
    """
    try:
        return check_quality(mesh)
    except MeshError:
        blame = _blame(mesh, points_of, values, neutral, units)
    return check_quality(mesh, blame)


def _blame(
    mesh: TetMesh,
    points_of: Callable[[Mapping[str, float]], Tensor],
    values: Mapping[str, float],
    neutral: Mapping[str, float],
    units: Mapping[str, str],
) -> str:
    def folds_at(changed: Mapping[str, float]) -> bool:
        try:
            check_quality(mesh.with_points(points_of({**values, **changed})))
        except MeshError:
            return True
        return False

    def folds(name: str, value: float) -> bool:
        return folds_at({name: value})

    if folds_at(neutral):
        return "So it is before any deformation: give more layers, or sizes less unequal."
    moved = {name: value for name, value in values.items() if value != neutral[name]}
    for name, value in moved.items():
        if not folds(name, neutral[name]):
            limit = _limit(partial(folds, name), neutral[name], value)
            unit = "" if units[name] == "1" else f" {units[name]}"
            return f"`{name}` folds it: {value:.4g}{unit}; {limit:.3g}{unit} does not."
    several = ", ".join(f"`{name}` {value:.4g}" for name, value in moved.items())
    return f"No single parameter is to blame; lower several of {several}."


def _limit(folds: Callable[[float], bool], good: float, bad: float) -> float:
    """The last value known to be good, between a good and a bad one."""
    for _ in range(HALVINGS):
        middle = (good + bad) / 2
        good, bad = (good, middle) if folds(middle) else (middle, bad)
    return good
