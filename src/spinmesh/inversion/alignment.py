"""Which training shape, turned how, gives a measured signal."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from scipy.special import sph_harm_y
from torch import Tensor

from spinmesh.bloch_torrey import Signals
from spinmesh.errors import SequenceError
from spinmesh.inversion.pose import principal_rotation
from spinmesh.inversion.target import Target
from spinmesh.mesh import rotation_matrix
from spinmesh.sequence import Acquisition
from spinmesh.units import b_to_s_per_mm2

# Even orders up to this one: 28 functions, which 30 directions determine.
ORDER = 6
# Laplace-Beltrami weight of Descoteaux et al. (2007); keeps order 6 calm with few directions.
SMOOTHING = 1e-4
# Turns about the axis of fastest diffusion that are tried; half of them also upside down.
TURNS = 8
# Shapes, nearest in what no rotation changes, whose turns are tried; poses that are then refined.
SHORTLIST, REFINED = 80, 12
# Refinements of a pose, each by the best of small turns that halve from TURN (rad).
HALVINGS, TURN = 5, 0.35


@dataclass(frozen=True, eq=False)
class Harmonics:
    """Attenuations of shapes as even spherical harmonics on every shell (one b, one timing)."""

    shells: tuple[tuple[float, float, float], ...]  # b (s/mm^2), delta, Delta (ms)
    coefficients: Float[Tensor, "substrate shell function"]

    @property
    def invariants(self) -> Float[Tensor, "substrate feature"]:
        """Root of the power of each order on each shell: what no rotation of the shape changes."""
        return _power(self.coefficients)

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


@dataclass(frozen=True, eq=False)
class Pose:
    """A training shape turned by `rotation`, and the RMS difference of its signal (attenuation)."""

    substrate: int
    rotation: Float[Tensor, "3 3"]
    misfit: float


def nearest_poses(target: Target, signals: Signals, count: int) -> list[Pose]:
    """The training shapes and turns whose signals are nearest to the target's; nearest first.

    Shapes are shortlisted by rotation invariants, turned so that the axes of fastest diffusion
    agree, in `TURNS` turns about it and upside down, and the best are refined. At most one pose per
    shape. Raises SequenceError if the training signals lack a shell of the target.
    """
    known = fit_harmonics(signals.acquisition, signals.attenuation)
    own = fit_harmonics(target.acquisition, target.attenuation[None])
    shell = torch.tensor([known.shells.index(s) for s in own.shells if s in known.shells])
    if len(shell) < len(own.shells):
        known.shell_of(target.acquisition)
    distance = (_power(known.coefficients[:, shell]) - own.invariants).norm(dim=1)
    frame = principal_rotation(target.acquisition, target.attenuation)
    poses = []
    for substrate in distance.argsort()[:SHORTLIST].tolist():
        attenuation = signals.attenuation[substrate]
        turns = frame @ _turns() @ principal_rotation(signals.acquisition, attenuation).T
        poses.append(_best(target, known, substrate, turns))
    poses.sort(key=lambda pose: pose.misfit)
    refined = [_refined(target, known, pose) for pose in poses[: max(REFINED, count)]]
    return sorted(refined, key=lambda pose: pose.misfit)[:count]


def _best(target: Target, known: Harmonics, substrate: int, rotations: Tensor) -> Pose:
    predicted = known.predict(substrate, target.acquisition, rotations)
    misfit = (predicted - target.attenuation).square().mean(1).sqrt()
    best = int(misfit.argmin())
    return Pose(substrate, rotations[best], float(misfit[best]))


def _turns() -> Float[Tensor, "turn 3 3"]:
    """Turns about the third axis, each also upside down."""
    angle = torch.arange(TURNS, dtype=torch.float64) * (2 * torch.pi / TURNS)
    axis = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    turns = rotation_matrix(angle[:, None] * axis)
    upside_down = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    return torch.cat([turns, turns @ upside_down])


def _refined(target: Target, known: Harmonics, pose: Pose) -> Pose:
    """Coordinate descent over small turns about the three axes."""
    unit = torch.eye(3, dtype=torch.float64)
    for halving in range(HALVINGS):
        steps = rotation_matrix(torch.cat([unit, -unit]) * TURN / 2**halving)
        for _ in range(3):
            trial = _best(target, known, pose.substrate, steps @ pose.rotation)
            if trial.misfit >= pose.misfit:
                break
            pose = trial
    return pose
