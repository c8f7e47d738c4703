"""The posterior around the modes a search found, and its samples."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.inversion.annealing import Component, Mixture, anneal
from spinmesh.inversion.gauss_newton import Problem, State
from spinmesh.inversion.reconstruction import Posterior, Samples
from spinmesh.inversion.reflection import opposite_points
from spinmesh.inversion.shape_model import Gaussian
from spinmesh.inversion.unknowns import Point, Unknowns
from spinmesh.mesh import TetMesh

# Draws from the Gaussians that may fold before the rest is given up.
ATTEMPTS = 100


def posterior_at(problem: Problem, modes: list[State], seed: int) -> Posterior:
    """Laplace's approximation at every mode, weighed by its evidence, and samples.

    `modes` with the best first; its Gaussian is the one reported.
    """
    unknowns = problem.unknowns
    normals = [problem.curvature(mode, problem.noise).normal for mode in modes]
    mixture = _mixture(problem, modes, normals)
    size = unknowns.parts[0]
    covariance = torch.linalg.inv(normals[0])
    own = covariance[:size, :size]
    L = unknowns.whitening
    latent = Gaussian(unknowns.latent(modes[0].point.latent), L @ own @ L.T)
    information = torch.linalg.eigvalsh(torch.linalg.inv(own)).flip(0) - 1
    weights = torch.tensor([part.weight for part in mixture.components], dtype=torch.float64)
    return Posterior(latent, information, weights, _samples(problem, mixture, seed))


def _mixture(problem: Problem, modes: list[State], normals: list[Tensor]) -> Mixture:
    """Weights are evidences: exp(-cost/2) times the root of the covariance's determinant."""
    evidence = torch.tensor(
        [
            -problem.cost(mode) / 2 - float(torch.linalg.slogdet(normal).logabsdet) / 2
            for mode, normal in zip(modes, normals, strict=True)
        ],
        dtype=torch.float64,
    )
    weights = torch.softmax(evidence, 0)
    parts = [
        Component(mode.point, torch.linalg.cholesky(torch.linalg.inv(normal)), float(weight))
        for mode, normal, weight in zip(modes, normals, weights, strict=True)
        if weight > 0
    ]
    return Mixture(tuple(parts), problem.unknowns)


def _samples(problem: Problem, mixture: Mixture, seed: int) -> Samples:
    """Annealed if the spec grants moves, else valid draws from the Gaussians."""
    spec, unknowns = problem.spec, problem.unknowns
    generator = torch.Generator().manual_seed(seed)
    if spec.moves == 0 or spec.samples == 0:
        points: list[Point] = []
        attempts = 0
        while len(points) < spec.samples and attempts < ATTEMPTS * spec.samples:
            attempts += 1
            point = mixture.draw(generator)[1]
            if problem.valid(unknowns.shape(point)):
                points.append(point)
        return _gathered(unknowns, points, {})

    def log_posterior(point: Point) -> float:
        state = problem.state(point)
        return float("-inf") if state is None else -problem.cost(state) / 2

    draws = anneal(log_posterior, mixture, spec.samples, spec.moves, generator)
    diagnostics = {
        "sampler_effective_share": draws.effective,
        "sampler_acceptance": draws.acceptance,
        "sampler_temperatures": float(draws.temperatures),
    }
    return _gathered(unknowns, list(draws.points), diagnostics)


def _gathered(unknowns: Unknowns, points: list[Point], diagnostics: dict[str, float]) -> Samples:
    quantities = tuple(free.label for free in unknowns.free)
    latent = torch.zeros(len(points), unknowns.parts[0], dtype=torch.float64)
    rotation = torch.zeros(len(points), 3, 3, dtype=torch.float64)
    physics = torch.zeros(len(points), len(quantities), dtype=torch.float64)
    for row, point in enumerate(points):
        latent[row], rotation[row] = unknowns.latent(point.latent), point.rotation
        values = unknowns.values(point)
        physics[row] = torch.tensor([values[name] for name in quantities], dtype=torch.float64)
    return Samples(latent, rotation, physics, quantities, diagnostics)


def vertex_spread(
    shape: TetMesh, template: TetMesh, points: Float[Tensor, "sample point 3"]
) -> Float[Tensor, " point"]:
    """RMS distance (um) of each point of `shape` from where the samples have it.

    Modulo what the signal cannot see: each sample is centred, and reflected through its centre if
    that brings it nearer. A reflected tube has its ends exchanged, so its points are compared with
    those that lie opposite on the template.
    """
    own = shape.points - shape.points.mean(0)
    centred = points - points.mean(1, keepdim=True)
    reflected = -centred[:, opposite_points(template)]
    direct, mirrored = (x - own for x in (centred, reflected))
    nearer = mirrored.square().sum((1, 2)) < direct.square().sum((1, 2))
    apart = torch.where(nearer[:, None, None], mirrored, direct)
    return apart.square().sum(-1).mean(0).sqrt()
