"""Facts of physics that the whole forward chain, mesh to signal, has to meet."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from spinmesh.analytic import multilayer_cylinder, sphere
from spinmesh.bloch_torrey import Basis, simulate, simulate_compartments, simulate_mesh
from spinmesh.mesh import (
    PARAMETERS,
    SweptDisk,
    TetMesh,
    ball,
    deform,
    nested_cylinder,
    neutral_parameters,
    rotation_matrix,
    swept_disk,
)
from spinmesh.reduction import krylov_span, project
from spinmesh.sequence import Acquisition
from spinmesh.tissue import Tissue

ORACLES = Path(__file__).parent.parent / "oracles"
DIRECTIONS = {
    "x": [1.0, 0, 0],
    "perp": [1.0, 0, 0],
    "z": [0, 0, 1.0],
    "111": [3**-0.5] * 3,
}


def oracle(geometry):
    """Exact attenuations of one geometry, and the acquisition they belong to."""
    rows = json.loads((ORACLES / "analytic.json").read_text())["signals"]
    rows = [row for row in rows if row["geometry"] == geometry]
    acquisition = Acquisition.pgse(
        [row["b_s_per_mm2"] / 1000 for row in rows],
        [DIRECTIONS[row["direction"]] for row in rows],
        rows[0]["delta_ms"],
        rows[0]["Delta_ms"],
    )
    return torch.tensor([row["signal"] for row in rows]).double(), acquisition


def protocol(count=24, strongest=6.0, delta=8.0, Delta=30.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    direction = direction / direction.norm(dim=1, keepdim=True)
    return Acquisition.pgse(torch.linspace(0, strongest, count), direction, delta, Delta)


def axon(order=2, **values):
    template = swept_disk(SweptDisk(rings=2, layers=8, radius_um=2.0, length_um=16.0, order=order))
    parameters = neutral_parameters(template)
    for name, value in values.items():
        parameters[PARAMETERS.index(name)] = value
    return template.with_points(deform(template, parameters), "axon")


def error(mesh, tissue, acquisition, exact, basis=None):
    return float(
        (simulate_mesh(mesh, tissue, acquisition, basis).attenuation[0] - exact).abs().max()
    )


@pytest.mark.parametrize("basis", [Basis(), Basis(kind="laplace", modes=150)])
def test_sphere_of_5_um_is_within_1e_3_of_the_exact_signal(basis):
    """833 curved nodes: the published figure for this mesh is 4.6e-4; b from 500 to 8000 s/mm^2."""
    exact, acquisition = oracle("sphere")
    assert error(ball(5.0, 2), Tissue.uniform(2.0), acquisition, exact, basis) < 1e-3


@pytest.mark.slow
def test_sphere_error_falls_at_the_order_of_the_curved_elements():
    """Geometry and volume converge as h^4; the coarse pair shows at least 3."""
    exact, acquisition = oracle("sphere")
    tissue, basis = Tissue.uniform(2.0), Basis(degree=3, blocks=4)
    errors = [error(ball(5.0, n), tissue, acquisition, exact, basis) for n in (1, 2, 3)]
    assert errors[2] < 1e-4
    assert math.log2(errors[1] / errors[2]) > 3.0


def test_cylinder_across_its_axis_is_within_1e_4_of_the_exact_signal():
    """Three rings of curved tets put the wall right to (pi/18)^4/8 of the radius."""
    exact, acquisition = oracle("cylinder")
    across = acquisition.gradient[:, 2] == 0
    mesh = swept_disk(SweptDisk(rings=3, layers=4, radius_um=2.0, length_um=8.0))
    found = error(mesh, Tissue.uniform(2.0), acquisition.select(across), exact[across])
    assert found < 1e-4


def spindoctor(name):
    mesh = np.load(ORACLES / f"spindoctor_{name}_default_mesh.npz")
    with (ORACLES / f"spindoctor_{name}_default_signals.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r["method"] == "MF"]
    rows = [r for r in rows if float(r["length_scale_um"]) == 0]
    acquisition = Acquisition.pgse(
        torch.tensor([float(r["b_s_mm2"]) / 1000 for r in rows]),
        [[float(r[k]) for k in ("dirx", "diry", "dirz")] for r in rows],
        torch.tensor([float(r["delta_us"]) / 1000 for r in rows]),
        torch.tensor([float(r["Delta_us"]) / 1000 for r in rows]),
    )
    tets = TetMesh(
        torch.from_numpy(mesh["points_um"]),
        torch.from_numpy(mesh["tets"].astype(np.int64)),
        torch.from_numpy(mesh["tet_compartment"].astype(np.int64)),
        name,
    )
    return tets, acquisition, torch.tensor([float(r["S_real_um3"]) for r in rows]).double()


@pytest.mark.parametrize(
    ("name", "tissue"),
    [
        ("sphere_r5", Tissue.uniform(2.0)),
        (
            "cyl2_r2r4_h20_k1e-4",
            Tissue(
                (1, 2),
                2 * torch.eye(3).double().repeat(2, 1, 1),
                torch.full((2,), torch.inf).double(),
                torch.ones(2).double(),
                {(1, 2): 0.1},
            ),
        ),
    ],
)
def test_spindoctor_on_its_own_mesh_gives_our_signal(name, tissue):
    """Same mesh, same P1 elements: what is left is its 300 modes (about 1e-5 of S0)."""
    mesh, acquisition, theirs = spindoctor(name)
    ours = simulate_mesh(mesh, tissue, acquisition, Basis(degree=3, blocks=4)).signal[0]
    assert float((ours.real - theirs).abs().max() / theirs.max()) < 3e-5
    assert float(ours.imag.abs().max() / theirs.max()) < 1e-9


def test_two_permeable_compartments_agree_with_the_layered_cylinder():
    """Curved rings against the exact layered solution; 3 rings give 1e-3 as for one cylinder."""
    tissue = Tissue(
        (1, 2),
        torch.stack([1.0 * torch.eye(3), 2.5 * torch.eye(3)]).double(),
        torch.tensor([torch.inf, 80.0]).double(),
        torch.tensor([1.0, 0.6]).double(),
        {(1, 2): 0.2},
    )
    acquisition = Acquisition.pgse(
        torch.linspace(0, 4, 6), torch.tensor([[1.0, 0, 0]]).double().repeat(6, 1), 5.0, 25.0
    )
    exact = multilayer_cylinder(acquisition, (2.0, 4.0), tissue, torch.tensor([0.0, 0, 1]).double())
    mesh = nested_cylinder(SweptDisk(rings=4, layers=2, radius_um=4.0, length_um=4.0), 2)
    assert error(mesh, tissue, acquisition, exact, Basis(degree=3, blocks=4)) < 2e-4


def test_moving_or_turning_the_cell_with_the_gradient_leaves_the_signal():
    mesh, acquisition = axon(bend=0.3, bead_amplitude=0.3), protocol()
    tissue = Tissue.uniform(2.0)
    turn = rotation_matrix(torch.tensor([0.4, -1.0, 0.7]).double())
    moved = mesh.with_points(mesh.points @ turn.T + torch.tensor([30.0, -7.0, 2.0]).double())
    here = simulate_mesh(mesh, tissue, acquisition)
    there = simulate_mesh(moved, tissue, acquisition.rotated(turn))
    # The monomials are scaled by the bounding box, so the span turns only to its own accuracy.
    assert torch.allclose(here.attenuation, there.attenuation, rtol=0, atol=2e-4)
    fine = Basis(degree=3, blocks=5)
    here, there = (
        simulate_mesh(mesh, tissue, acquisition, fine),
        simulate_mesh(moved, tissue, acquisition.rotated(turn), fine),
    )
    assert torch.allclose(
        here.signal, there.signal, rtol=0, atol=2e-6 * float(here.unweighted[0, 0])
    )


def test_point_reflection_of_the_cell_leaves_the_magnitude():
    """|S| cannot tell x from -x: the reason why reconstructions are compared modulo reflection."""
    mesh, acquisition = axon(fan_angle=0.8, bead_amplitude=0.3), protocol()
    swap = torch.tensor([0, 2, 1, 3, 6, 5, 4, 7, 9, 8])
    mirrored = TetMesh(-mesh.points, mesh.tets[:, swap], mesh.compartment)
    fine = Basis(degree=3, blocks=5)
    here = simulate_mesh(mesh, Tissue.uniform(), acquisition, fine).attenuation
    there = simulate_mesh(mirrored, Tissue.uniform(), acquisition, fine).attenuation
    assert torch.allclose(here, there, rtol=0, atol=2e-6)


def test_pgse_with_equal_pulses_has_a_real_positive_signal():
    """Time reversal makes S = sum of exp(-lambda t)|nu|^2 in one compartment without membranes."""
    signal = simulate_mesh(axon(bend=0.4), Tissue.uniform(), protocol()).signal[0]
    assert float(signal.real.min()) > 0
    assert float(signal.imag.abs().max()) < 1e-9 * float(signal.real.max())


def test_first_cumulant_is_the_mean_squared_displacement_of_the_gaussian_phase():
    """b -> 0: -ln(S)/b tends to a limit linearly in b; Richardson removes the slope."""
    mesh, tissue = ball(5.0, 2), Tissue.uniform(2.0)
    b = torch.tensor([1e-3, 2e-3]).double()
    acquisition = Acquisition.pgse(b, torch.tensor([[1.0, 0, 0]] * 2).double(), 10.0, 40.0)
    adc = -torch.log(simulate_mesh(mesh, tissue, acquisition).attenuation[0]) / b
    exact = -torch.log(sphere(acquisition, 5.0, 2.0)) / b
    assert float(2 * adc[0] - adc[1]) == pytest.approx(float(2 * exact[0] - exact[1]), rel=2e-3)


def two(kappa, density=(1.0, 1.0), t2=(torch.inf, torch.inf)):
    return Tissue(
        (1, 2),
        2 * torch.eye(3).double().repeat(2, 1, 1),
        torch.tensor(t2).double(),
        torch.tensor(density).double(),
        {(1, 2): kappa},
    )


def test_a_sealed_membrane_gives_the_sum_of_its_cells():
    mesh, acquisition = (
        nested_cylinder(SweptDisk(rings=3, layers=4, radius_um=4.0, length_um=8.0), 1),
        protocol(6),
    )
    both = simulate_mesh(mesh, two(0.0), acquisition).signal[0]
    parts = []
    for label in (1, 2):
        inside = mesh.compartment == label
        used, tets = torch.unique(mesh.tets[inside], return_inverse=True)
        cell = TetMesh(mesh.points[used], tets, torch.ones(len(tets), dtype=torch.int64))
        parts.append(simulate_mesh(cell, Tissue.uniform(2.0), acquisition).signal[0])
    # One polynomial set per compartment; only the shift differs with the bounding box.
    assert torch.allclose(both, sum(parts), rtol=0, atol=1e-4 * float(both.abs().max()))


def test_a_very_permeable_membrane_is_none():
    """kappa = 1e4 um/ms over r = 4 um leaves a jump of D/(kappa r) = 5e-5."""
    mesh, acquisition = (
        nested_cylinder(SweptDisk(rings=3, layers=4, radius_um=4.0, length_um=8.0), 1),
        protocol(6),
    )
    basis = Basis(degree=3, blocks=5)
    split = simulate_mesh(mesh, two(1e4), acquisition, basis).attenuation
    whole = TetMesh(mesh.points, mesh.tets, torch.ones_like(mesh.compartment))
    single = simulate_mesh(whole, Tissue.uniform(2.0), acquisition, basis).attenuation
    assert torch.allclose(split, single, rtol=0, atol=3e-4)


def test_unequal_densities_stay_at_equilibrium_without_gradient():
    """Without gradient and relaxation nothing moves: the signal is the spin density's integral."""
    mesh = nested_cylinder(SweptDisk(rings=3, layers=4, radius_um=4.0, length_um=8.0), 1)
    acquisition = Acquisition.pgse(torch.zeros(1), torch.zeros(1, 3), 10.0, 200.0)
    tissue = two(0.3, density=(0.5, 1.8))
    reduced = project(krylov_span(mesh, tissue), mesh.points, tissue)
    parts = simulate_compartments(reduced, acquisition)[:, 0]
    start = reduced.mean @ reduced.initial
    # 2.5e-10 is the propagator's tolerance (Crouzeix-Palencia) per interval.
    assert torch.allclose(parts.real, start, rtol=1e-9)


def test_uniform_t2_multiplies_every_signal_by_its_decay():
    mesh, acquisition = axon(bead_amplitude=0.3), protocol(5, Delta=30.0, delta=8.0)
    plain = simulate_mesh(mesh, Tissue.uniform(2.0), acquisition)
    relaxed = simulate_mesh(mesh, Tissue.uniform(2.0, t2=50.0), acquisition)
    decay = math.exp(-38.0 / 50.0)
    assert torch.allclose(
        relaxed.signal, plain.signal * decay, rtol=0, atol=2e-5 * float(plain.unweighted[0, 0])
    )
    assert torch.allclose(relaxed.unweighted, plain.unweighted * decay, rtol=1e-8)


def test_frozen_span_gradient_is_that_of_the_remeshed_signal():
    """Against central differences with a new, richer span at each point: 1e-3 of the largest."""
    acquisition, tissue = protocol(8), Tissue.uniform(2.0)
    template = swept_disk(SweptDisk(rings=2, layers=6, radius_um=2.0, length_um=12.0))
    parameters = neutral_parameters(template)
    parameters[3] = 0.3
    mesh = template.with_points(deform(template, parameters))
    span = krylov_span(mesh, tissue, degree=3, blocks=2)
    gradient = torch.func.jacfwd(
        lambda p: simulate(project(span, deform(template, p), tissue), acquisition).real
    )(parameters)
    for i in (PARAMETERS.index("radius"), PARAMETERS.index("bend")):
        step = torch.zeros_like(parameters)
        step[i] = 1e-3
        ends = [
            simulate_mesh(
                template.with_points(deform(template, parameters + sign * step)),
                tissue,
                acquisition,
                Basis(degree=3, blocks=4),
            )
            .signal[0]
            .real
            for sign in (1, -1)
        ]
        difference = (ends[0] - ends[1]) / 2e-3
        assert float((gradient[:, i] - difference).abs().max()) < 1e-3 * float(
            difference.abs().max()
        )
