"""The publication's five ablations: bend and twist, beads, fans, directions, diffusion times."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from experiments.remidi.estimates import Estimates
from experiments.remidi.methods import Bench
from spinmesh.bloch_torrey import Basis, Signals
from spinmesh.bodies import simulate
from spinmesh.inversion.poses import Screen, fit_harmonics, shell_keys
from spinmesh.inversion.search import reconstruct
from spinmesh.inversion.target import Target
from spinmesh.mesh import PARAMETERS, TetMesh, deform, neutral_parameters, rotation_matrix
from spinmesh.progress import progress
from spinmesh.sequence import Acquisition

# Shapes of the last two ablations, one of each family.
TYPICAL = (
    ("bend_twist", {"bend": 0.3, "twist": 0.5}),
    ("beading", {"bead_count": 2.0, "bead_amplitude": 0.3}),
    ("fanning", {"fan_angle": math.radians(46), "fan_height": 0.5}),
)
BENDS, TWISTS = (0.0, 0.1, 0.3, 0.5), (0.0, 0.5)
BEADS, FANS = (0, 2, 4, 6, 8), (0, 32, 46, 60)
DIRECTIONS, TIMES = (3, 15, 30, 60), (5.0, 20.0, 45.0, 95.0)
# The second set of directions, to make sixty of thirty, is the first one turned about this (rad).
TURNED = (0.4, 0.7, 1.1)
ABLATIONS = ("bend_twist", "beads", "fans", "directions", "times")


@dataclass(frozen=True, eq=False)
class Case:
    """One point of an ablation: a shape, under one acquisition."""

    family: str
    label: str
    values: Mapping[str, float]
    acquisition: Acquisition


def cases(name: str, acquisition: Acquisition) -> list[Case]:
    """The points of the ablation `name`, from the experiment's own acquisition."""
    if name == "bend_twist":
        return [
            Case("bend_twist", f"bend {b:g}, twist {t:g}", {"bend": b, "twist": t}, acquisition)
            for t in TWISTS
            for b in BENDS
        ]
    if name == "beads":
        return [Case("beading", f"{n} beads", _beads(n), acquisition) for n in BEADS]
    if name == "fans":
        return [
            Case("fanning", f"{a} degrees", {"fan_angle": math.radians(a)}, acquisition)
            for a in FANS
        ]
    if name == "directions":
        measured = [(f"{n} directions", with_directions(acquisition, n)) for n in DIRECTIONS]
    else:
        sets = [TIMES[: n + 1] for n in range(len(TIMES))]
        measured = [(_times_label(times), with_times(acquisition, times)) for times in sets]
    return [
        Case(family, label, values, own) for label, own in measured for family, values in TYPICAL
    ]


def _times_label(times: tuple[float, ...]) -> str:
    return "Delta " + "/".join(f"{t:g}" for t in times) + " ms"


def _beads(count: int) -> dict[str, float]:
    if count == 0:
        return {}
    return {"bead_count": float(count), "bead_amplitude": 0.3}


def with_directions(acquisition: Acquisition, count: int) -> Acquisition:
    """The acquisition with `count` of its directions on every shell, evenly spread.

    Directions are picked one after another, each farthest from those before (as axes). More than
    there are: the whole set a second time, turned.
    """
    axes = _axes(acquisition)
    if count > len(axes):
        turned = acquisition.rotated(rotation_matrix(torch.tensor(TURNED, dtype=torch.float64)))
        return Acquisition.joined([acquisition, turned])
    picked = [0]
    while len(picked) < count:
        alike = (axes @ axes[picked].T).abs().amax(1)
        picked.append(int(alike.argmin()))
    near = (acquisition.direction @ axes[picked].T).abs().amax(1) > 1 - 1e-6
    return acquisition.select(near | (acquisition.amplitude == 0))


def _axes(acquisition: Acquisition) -> Tensor:
    """The distinct directions, as many as the largest shell has."""
    direction = acquisition.direction[acquisition.amplitude > 0]
    axes: list[Tensor] = []
    for one in direction:
        if all(float((one @ other).abs()) < 1 - 1e-6 for other in axes):
            axes.append(one)
    return torch.stack(axes)


def with_times(acquisition: Acquisition, times: tuple[float, ...]) -> Acquisition:
    """The b-values and directions of the shortest Delta, at each of other Delta (ms)."""
    Delta = acquisition.durations("Delta")
    one = acquisition.select(Delta == Delta.min())
    b, delta = one.b_value, one.durations("delta")
    return Acquisition.joined(Acquisition.pgse(b, one.direction, delta, t) for t in times)


def ablate(bench: Bench, name: str, fine: TetMesh, basis: Basis) -> Estimates:
    """Reconstruct every case of an ablation, noise-free and with the pose known as published.

    Starts are the training shapes nearest in signal where the training signals tell those of the
    case's acquisition (any directions on known shells), else draws from the prior.
    """
    own = replace(bench, settings=bench.settings.replace(pose="known"))
    found = cases(name, bench.signals.acquisition)
    rows = [_reconstructed(own, case, fine, basis) for case in progress(found, f"ablation {name}")]
    truth, points, chi2, seconds = zip(*rows, strict=True)
    return Estimates(
        f"ablation_{name}",
        math.inf,
        tuple(case.family for case in found),
        tuple(case.label for case in found),
        torch.stack(truth),
        torch.stack(points),
        torch.tensor(chi2, dtype=torch.float64),
        torch.tensor(seconds, dtype=torch.float64),
    )


def _reconstructed(bench: Bench, case: Case, fine: TetMesh, basis: Basis):
    template = bench.model.basis.template
    target_mesh = fine.with_points(_deformed(fine, case), case.label)
    signals = simulate(target_mesh, bench.tissue, case.acquisition, basis)
    target = Target(case.acquisition, signals.attenuation[0])
    begun = time.process_time()
    known = _training_signals(bench, case.acquisition)
    result = reconstruct(target, bench.model, bench.tissue, bench.settings, bench.seed, known)
    seconds = time.process_time() - begun
    return _deformed(template, case), result.mesh.points, result.fit.chi2_per_measurement, seconds


def _deformed(template: TetMesh, case: Case) -> Tensor:
    parameters = neutral_parameters(template)
    for name, value in case.values.items():
        parameters[PARAMETERS.index(name)] = value
    return deform(template, parameters)


def _training_signals(bench: Bench, acquisition: Acquisition) -> Signals | None:
    """Training attenuations in other directions, by their spherical harmonics; None if unknown."""
    signals = bench.signals
    if len(acquisition) == len(signals.acquisition) and torch.equal(
        acquisition.gradient, signals.acquisition.gradient
    ):
        return signals
    known = fit_harmonics(signals.acquisition, signals.attenuation)
    if not set(shell_keys(acquisition)) <= set(known.shells):
        return None
    screen = Screen(acquisition, known)
    functions = screen.functions(torch.eye(3, dtype=torch.float64)[None])
    rows = [screen.signals(functions, shape[None])[0] for shape in known.coefficients]
    attenuation = torch.stack(rows)
    return Signals(acquisition, attenuation.to(signals.signal.dtype), torch.ones_like(attenuation))
