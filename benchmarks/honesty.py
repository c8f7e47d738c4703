"""Is the error of pieces what it is said to be? `python benchmarks/honesty.py [CASES]`.

Random bodies (bent tubes of varying radius, a core in a shell with a permeable membrane between),
tissues, pulses and tolerances, each cut as `simulate` cuts long bodies. The signals of the pieces
are compared with those of the whole, whose basis is so fine that it counts as exact.
"""

from __future__ import annotations

import sys

import numpy as np
import torch

import spinmesh
from spinmesh.bloch_torrey import reduce_mesh
from spinmesh.bodies import signals_of, simulate_cut
from spinmesh.bodies.cutting import Body
from spinmesh.bodies.pieces import cut_body, reach

CASES = 20
EXACT = spinmesh.Basis(tolerance=1e-7)
# Seeds of cores are this many reaches apart, so that bodies that one basis can do have pieces.
CORE, LENGTH = 1.0, 4.0


def body_and_protocol(
    rng: np.random.Generator, tolerance: float
) -> tuple[spinmesh.TetMesh, spinmesh.Tissue, spinmesh.Acquisition]:
    """One of a core in a shell, and two tubes, in turn."""
    echo, delta = float(rng.uniform(3, 8)), float(rng.uniform(0.5, 1.4))
    directions = torch.nn.functional.normalize(torch.from_numpy(rng.standard_normal((6, 3))))
    b = rng.uniform(0.3, 4.0, 6).tolist()
    acquisition = spinmesh.Acquisition.pgse(b, directions, delta, echo - delta)
    diffusivity = float(rng.uniform(1, 3))
    tissue = spinmesh.Tissue.uniform(diffusivity, float(rng.uniform(20, 100)))
    length = float(np.ceil(LENGTH * reach(tissue, acquisition, tolerance)))
    nested = rng.random() < 1 / 3
    size = spinmesh.SweptDisk(
        rings=2 if nested else 1,
        layers=round(length),
        radius_um=2.0 if nested else 1.0,
        length_um=length,
        order=1,
    )
    mesh = spinmesh.nested_cylinder(size, 1) if nested else spinmesh.swept_disk(size)
    if nested:
        plain = spinmesh.Tissue.uniform(diffusivity, float(rng.uniform(20, 100)), labels=(1, 2))
        kappa = {(1, 2): float(rng.uniform(0.01, 0.1))}
        tissue = spinmesh.Tissue(**{**vars(plain), "permeability": kappa})
    z = mesh.points[:, 2] * 2 * torch.pi / length
    waist = 1 + 0.3 * float(rng.uniform(-1, 1)) * torch.sin(3 * z)
    bend = float(rng.uniform(0, 4)) * torch.sin(z)
    x, y = mesh.points[:, 0] * waist + bend, mesh.points[:, 1] * waist
    return mesh.with_points(torch.stack([x, y, mesh.points[:, 2]], 1)), tissue, acquisition


def case(number: int) -> tuple[float, float, float, float]:
    """Tolerance, estimate and bound together, bound of the cuts, true error: fractions of S0."""
    rng = np.random.default_rng(number)
    tolerance = float(10 ** rng.uniform(-4, -2))
    mesh, tissue, acquisition = body_and_protocol(rng, tolerance)
    usual = reach(tissue, acquisition, tolerance)
    cut = cut_body(Body.of(mesh, tissue), acquisition, tolerance, CORE * usual)
    whole = signals_of(reduce_mesh(mesh, tissue, acquisition, EXACT), acquisition)
    least = float(whole.unweighted.min())

    def error_at(basis: spinmesh.Basis) -> tuple[float, float]:
        parts, _ = simulate_cut(cut, acquisition, basis)
        error = float((parts.signals.signal - whole.signal).abs().max()) / least
        return error, parts.basis_error

    by_cuts, _ = error_at(EXACT)
    error, estimate = error_at(spinmesh.Basis(tolerance=tolerance))
    bound = cut.changed / least
    print(
        f"{number:4} {len(cut.pieces):6} {tolerance:9.1e} {error:10.1e} {estimate + bound:17.1e}"
        f" {by_cuts:13.1e} {bound:13.1e} {bound / by_cuts:8.0f}",
        flush=True,
    )
    return error, estimate + bound, by_cuts, bound


def main() -> None:
    """Print all cases, then how many bounds hold (target: all) and their median excess."""
    torch.set_num_threads(1)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else CASES
    print("case pieces tolerance true error estimate + bound error by cuts bound of cuts  times")
    rows = np.array([case(number) for number in range(count)])
    excess = rows[:, 3] / rows[:, 2]
    print(
        f"bound of the cuts holds in {int((excess >= 1).sum())} of {count} (target: all), median "
        f"{np.median(excess):.0f} times the error (target: at most 100)\n"
        f"estimate and bound together hold in {int((rows[:, 1] >= rows[:, 0]).sum())} of {count}"
    )


if __name__ == "__main__":
    main()
