"""Ways to a signal: spinmesh, finite elements by hand, random walkers, and a closed form.

Each returns S/S0 of every measurement of a problem.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.optimize import brentq
from scipy.sparse.linalg import splu
from scipy.special import jvp, spherical_jn
from skfem import Basis, BilinearForm, ElementTetP1, ElementTetP2, MeshTet, MeshTet2
from skfem.models.poisson import laplace, mass

from experiments.peers.problems import BIG_DELTA_MS, DELTA_MS, DIFFUSIVITY, Problem
from experiments.peers.settings import ByHand, Reduced, Walk
from spinmesh import Tissue, simulate
from spinmesh.units import GAMMA


def reduced(problem: Problem, settings: Reduced) -> Float[ndarray, " measurement"]:
    """spinmesh: curved tets and a Krylov basis."""
    mesh = problem.mesh(settings.refinement, 2)
    tissue = Tissue.uniform(diffusivity=DIFFUSIVITY)
    signals = simulate(mesh, tissue, problem.acquisition, tolerance=settings.tolerance)
    return np.asarray(signals.attenuation[0].real)


@BilinearForm
def _moment(u, v, w):
    """u v times a coordinate."""
    return w.x[w.axis] * u * v


def by_hand(problem: Problem, settings: ByHand) -> Float[ndarray, " measurement"]:
    """M' = D laplace(M) - i gamma f(t) (g.x) M, stepped through a pulse, a pause, a pulse."""
    mesh = problem.mesh(settings.refinement, settings.degree)
    nodes = mesh.points.numpy().T.copy(), mesh.tets.numpy().T.copy()
    if settings.degree == 1:
        basis = Basis(MeshTet(*nodes), ElementTetP1())
    else:
        basis = Basis(MeshTet2(*nodes, sort_t=False), ElementTetP2())
    weight, stiffness = mass.assemble(basis), DIFFUSIVITY * laplace.assemble(basis)
    moments = [_moment.assemble(basis, axis=axis) for axis in range(3)]
    half, one = settings.step_ms / 2, np.ones(basis.N)
    pause = splu((weight + half * stiffness).tocsc())
    signals = []
    for gradient in problem.acquisition.gradient.numpy():
        moment = GAMMA * sum(g * x for g, x in zip(gradient, moments, strict=True))
        pulse, state = stiffness + 1j * moment, one.astype(complex)
        solver = splu((weight + half * pulse).tocsc())
        for _ in range(round(DELTA_MS / settings.step_ms)):
            state = solver.solve((weight - half * pulse) @ state)
        for _ in range(round((BIG_DELTA_MS - DELTA_MS) / settings.step_ms)):
            right = (weight - half * stiffness) @ state
            state = pause.solve(right.real) + 1j * pause.solve(right.imag)
        # The second pulse is of opposite sign: conjugate its operator, or else what it acts on.
        for _ in range(round(DELTA_MS / settings.step_ms)):
            right = (weight - half * pulse.conj()) @ state
            state = solver.solve(right.conj()).conj()
        signals.append((one @ (weight @ state)).real / (one @ (weight @ one)))
    return np.array(signals)


def walk(problem: Problem, settings: Walk, seed: int) -> Float[ndarray, " measurement"]:
    """Steps of one length in random directions, reflected at the wall; all signals of one walk."""
    random = np.random.default_rng(seed)
    place = _inside(problem, settings.walkers, random)
    length = np.sqrt(6 * DIFFUSIVITY * settings.step_ms)
    integral = np.zeros_like(place)
    pulse, onset = (round(t / settings.step_ms) for t in (DELTA_MS, BIG_DELTA_MS))
    for number in range(onset + pulse):
        turn = random.standard_normal(place.shape)
        moved = _reflected(problem, place, length * turn / np.linalg.norm(turn, axis=1)[:, None])
        sign = (number < pulse) - (number >= onset)
        if sign:
            integral += sign * settings.step_ms * (place + moved) / 2
        place = moved
    phase = GAMMA * integral @ problem.acquisition.gradient.numpy().T
    return np.cos(phase).mean(0)


def _inside(problem: Problem, count: int, random: np.random.Generator) -> ndarray:
    """Even draws: those of a box that lie in the body."""
    draws = random.uniform(-problem.radius, problem.radius, (3 * count, 3))
    return draws[np.linalg.norm(draws[:, : problem.flat], axis=1) < problem.radius][:count]


def _reflected(problem: Problem, place: ndarray, step: ndarray) -> ndarray:
    """Where steps end that are reflected at the wall, as often as they meet it."""
    end, flat, radius = place + step, problem.flat, problem.radius
    out = np.flatnonzero((end[:, :flat] ** 2).sum(1) > radius**2)
    start = place[out]
    while len(out):
        move = end[out] - start
        a, b = ((move * x)[:, :flat].sum(1) for x in (move, start))
        c = (start[:, :flat] ** 2).sum(1) - radius**2
        # A walker at the wall is there to rounding only: c may be a little above zero.
        part = (-b + np.sqrt(np.maximum(b**2 - a * c, 0))) / a
        start = start + np.clip(part, 0, 1)[:, None] * move
        normal = np.zeros_like(start)
        normal[:, :flat] = start[:, :flat] / radius
        rest = end[out] - start
        end[out] = start + rest - 2 * (rest * normal).sum(1)[:, None] * normal
        again = (end[out][:, :flat] ** 2).sum(1) > radius**2 * (1 + 1e-12)
        out, start = out[again], start[again]
    return end


def gaussian_phase(problem: Problem) -> Float[ndarray, " measurement"]:
    """The closed form most fits use: Murday & Cotts 1968 (sphere), Van Gelderen 1994 (cylinder)."""
    sphere = problem.flat == 3
    slope = (lambda x: spherical_jn(1, x, True)) if sphere else (lambda x: jvp(1, x))
    grid = np.arange(0.5, 300, 0.5)
    signs = np.sign(slope(grid))
    roots = [
        brentq(slope, low, low + 0.5)
        for low, a, b in zip(grid, signs, signs[1:], strict=False)
        if a != b
    ]
    root2 = np.square(roots)
    rate = DIFFUSIVITY * root2 / problem.radius**2
    d, D = DELTA_MS, BIG_DELTA_MS
    times = 2 * rate * d - 2 + 2 * np.exp(-rate * d) + 2 * np.exp(-rate * D)
    times -= np.exp(-rate * (D - d)) + np.exp(-rate * (D + d))
    weight = problem.radius**2 * 2 / (root2 * (root2 - (2 if sphere else 1)))
    gradient = problem.acquisition.amplitude.numpy()
    return np.exp(-((GAMMA * gradient) ** 2) * (weight * times / rate**2).sum())
