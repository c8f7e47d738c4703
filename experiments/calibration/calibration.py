"""Simulation-based calibration: are the posterior's intervals as wide as they say?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation
from torch import Tensor

from spinmesh.errors import ConfigError
from spinmesh.inversion.descent import Problem, State
from spinmesh.inversion.result import Posterior
from spinmesh.inversion.search import reconstruct
from spinmesh.inversion.target import Target
from spinmesh.mesh import TetMesh
from spinmesh.progress import progress
from spinmesh.sequence import Acquisition
from spinmesh.settings.reconstruct import Reconstruct
from spinmesh.shapes import ShapeModel, point_matrices
from spinmesh.stored import store
from spinmesh.tissue import Tissue

# Levels whose intervals end between two ranks need this many draws plus one to be a multiple of 20.
MULTIPLE = 20


@store("spinmesh/posterior_calibration", version=1, stage="calibration")
@dataclass(frozen=True, eq=False)
class Calibration:
    """Ranks of the truth among the posterior's draws, and its distance from Laplace's mean.

    A calibrated posterior gives uniform ranks 0..draws (Talts et al. 2018), also along directions
    that depend on the data. Latent numbers themselves would all tell of the one or two directions
    that the signal does not see. `laplace` is in standard deviations.
    """

    quantities: tuple[str, ...]  # directions, the best determined first; free quantities; volume
    ranks: Int[Tensor, "target quantity"]
    draws: int
    laplace: Float[Tensor, "target direction"]

    def coverage(self, level: float) -> Float[Tensor, " quantity"]:
        """Share of targets whose truth lies in the central interval of that level."""
        return self._inside(level).mean(0)

    def laplace_coverage(self, level: float) -> Float[Tensor, " direction"]:
        """The same of the normal law at the best mode."""
        return self._inside_laplace(level).mean(0)

    def rows(self) -> list[dict[str, float | str]]:
        """A table: one row per quantity, and one for all.

        A share's `_error` is its standard error, from the spread over targets, which are
        independent; the quantities of one target are not.
        """
        result: list[dict[str, float | str]] = []
        for number, name in enumerate((*self.quantities, "all")):
            row: dict[str, float | str] = {"quantity": name}
            for level in (0.5, 0.9):
                both = (self._inside(level), self._inside_laplace(level))
                for kind, inside in zip(("coverage", "laplace_coverage"), both, strict=True):
                    if name != "all" and number >= inside.shape[1]:
                        continue
                    share = inside.mean(1) if name == "all" else inside[:, number]
                    row[f"{kind}_{level:.0%}"] = float(share.mean())
                    row[f"{kind}_{level:.0%}_error"] = float(share.std() / len(share) ** 0.5)
            result.append(row)
        return result

    def target_rows(self) -> list[dict[str, float]]:
        """A table: the ranks of every target, and its distances from Laplace's mean."""
        return [
            dict(zip(self.quantities, ranks, strict=True))
            | {f"laplace {i}": distance for i, distance in enumerate(distances)}
            for ranks, distances in zip(self.ranks.tolist(), self.laplace.tolist(), strict=True)
        ]

    def _inside(self, level: float) -> Float[Tensor, "target quantity"]:
        """1 where the truth lies in the central interval of the draws."""
        outside = round((1 - level) / 2 * (self.draws + 1))
        return ((self.ranks >= outside) & (self.ranks <= self.draws - outside)).double()

    def _inside_laplace(self, level: float) -> Float[Tensor, "target direction"]:
        half = float(torch.erfinv(torch.tensor(level, dtype=torch.float64))) * 2**0.5
        return (self.laplace.abs() < half).double()


def calibrate(
    model: ShapeModel,
    tissue: Tissue,
    acquisition: Acquisition,
    spec: Reconstruct,
    snr: float,
    seeds: Sequence[int],
) -> Calibration:
    """Reconstruct a shape drawn from the prior for each seed, with Rician noise at `snr`.

    Target and reconstruction share mesh and basis, since the question is the inference alone; the
    prior is that of the inversion, valid meshes only. `samples` of the spec plus one has to be a
    multiple of 20, so that the 50 % and 90 % intervals end between two ranks.
    """
    if (spec.samples + 1) % MULTIPLE or not spec.noise_floor < 0.1 / snr:
        raise ConfigError(
            f"calibrate: {spec.samples} samples and noise_floor {spec.noise_floor} at SNR {snr}. "
            f"Give a multiple of {MULTIPLE} less one, and a floor well below the noise: the noise "
            "drawn has none."
        )
    ranks, distance = [], []
    for seed in progress(seeds, "calibrating"):
        generator = torch.Generator().manual_seed(seed)
        problem, truth = _drawn(model, tissue, acquisition, spec, generator)
        clean = Target(acquisition, truth.prediction.attenuation)
        target = clean.noisy(snr, generator)
        unknowns = problem.unknowns
        # Another stream: with the target's seed starts and draws would know the truth.
        search_seed = int(torch.randint(2**62, (), generator=generator))
        posterior = reconstruct(target, model, tissue, spec, search_seed).posterior
        samples, z = posterior.samples, truth.point.z[None]
        drawn, true = (_along_directions(posterior, x) for x in (samples.z, z))
        distance.append(true[0])
        drawn = torch.cat([drawn, samples.physics, _volumes(model, samples.z)], 1)
        values = torch.tensor([list(unknowns.values(truth.point).values())], dtype=torch.float64)
        true = torch.cat([true, values, _volumes(model, z)], 1)
        ranks.append((drawn < true).sum(0))
    names = [f"direction {i + 1}" for i in range(model.latents.shape[1])]
    names += [free.label for free in spec.free]
    quantities = (*names, "volume")
    return Calibration(quantities, torch.stack(ranks), spec.samples, torch.stack(distance))


def joined(parts: Sequence[Calibration]) -> Calibration:
    """All targets of some parts together."""
    ranks, laplace = (torch.cat([getattr(p, name) for p in parts]) for name in ("ranks", "laplace"))
    return replace(parts[0], ranks=ranks, laplace=laplace)


def _drawn(
    model: ShapeModel,
    tissue: Tissue,
    acquisition: Acquisition,
    spec: Reconstruct,
    generator: torch.Generator,
) -> tuple[Problem, State]:
    """A valid point of the prior, and its signal."""
    nothing = Target(acquisition, torch.ones(len(acquisition), dtype=torch.float64))
    problem = Problem.of(nothing, model, tissue, spec)
    unknowns = problem.unknowns
    latent, turn, physics = unknowns.parts
    while True:
        noise = torch.randn(latent + physics, generator=generator, dtype=torch.float64)
        point = replace(unknowns.point(noise[:latent]), physics=noise[latent:])
        if turn:
            point = replace(point, rotation=_uniform_rotation(generator))
        state = problem.state(point)
        if state is not None:
            return problem, state


def _along_directions(
    posterior: Posterior, latents: Float[Tensor, "sample latent"]
) -> Float[Tensor, "sample direction"]:
    """Distances from Laplace's mean along its axes, over their spreads."""
    variance, axes = torch.linalg.eigh(posterior.latent.covariance)
    return (latents - posterior.latent.mean) @ axes / variance.sqrt()


def _uniform_rotation(generator: torch.Generator) -> Float[Tensor, "3 3"]:
    """By the Haar measure: the rotation of a uniform unit quaternion."""
    quaternion = torch.randn(4, generator=generator, dtype=torch.float64).numpy()
    return torch.from_numpy(Rotation.from_quat(quaternion, scalar_first=True).as_matrix())


def _volumes(
    model: ShapeModel, latents: Float[Tensor, "sample latent"]
) -> Float[Tensor, "sample 1"]:
    """Volume (um^3) of each decoded mesh."""
    template: TetMesh = model.basis.template
    values = [point_matrices(template.with_points(p))[1].sum() for p in model.decode(latents)]
    return torch.tensor(values, dtype=torch.float64)[:, None]
