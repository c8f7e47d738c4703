"""The adaptive basis keeps its tolerance, and its error estimate is honest."""

import pytest
import torch
from bodies import cells

from spinmesh.bloch_torrey import Basis, reduce_mesh, simulate_reduced, step_signal, unweighted
from spinmesh.bloch_torrey.error_estimate import representatives
from spinmesh.bodies import simulate
from spinmesh.errors import ConfigError, ReductionError
from spinmesh.fem import assemble
from spinmesh.mesh import (
    SweptDisk,
    TetMesh,
    ball,
    nested_cylinder,
    sample_substrates,
    swept_disk,
)
from spinmesh.reduction import Projection, krylov_projection, project, shift_inverse
from spinmesh.sequence import Acquisition
from spinmesh.tissue import Tissue

RANGES = {
    "radius": (1.0, 3.0),
    "length": (8.0, 20.0),
    "ellipticity": (-0.4, 0.4),
    "bend": (0.0, 0.2),
    "bend_direction": (0.0, 6.28),
    "twist": (0.0, 0.8),
    "bead_amplitude": (0.0, 0.25),
    "bead_count": (1.0, 3.0),
    "bead_phase": (0.0, 6.28),
    "fan_angle": (0.0, 0.4),
    "fan_height": (0.3, 0.7),
    "fan_direction": (0.0, 6.28),
    "undulation_amplitude": (0.0, 0.5),
    "undulation_count": (0.5, 1.5),
}
FAMILIES = ("straight", "bend_twist", "beading", "fanning", "undulating", "combined")


def random_protocol(seed, count):
    """b to 20 ms/um^2, pulses of 1 to 30 ms, one or two timings, random directions."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low, high, size=()):
        return low + (high - low) * torch.rand(size, generator=generator, dtype=torch.float64)

    delta = float(torch.exp(uniform(0.0, 3.4)))
    Delta = delta * torch.tensor([1.0, float(uniform(1.0, 4.0))]).double()
    direction = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    direction = direction / direction.norm(dim=1, keepdim=True)
    strongest = float(torch.exp(uniform(0.0, 3.0)))
    return Acquisition.pgse(
        uniform(0.1, 1.0, (count,)) * strongest, direction, delta, Delta[torch.arange(count) % 2]
    )


def random_case(seed):
    """A mesh of a few hundred nodes, its tissue and a protocol; every third has a membrane."""
    generator = torch.Generator().manual_seed(1000 + seed)
    kappa, t2 = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
    template = swept_disk(SweptDisk(rings=1, layers=8, radius_um=2.0, length_um=12.0))
    if seed % 3 == 2:
        template = nested_cylinder(SweptDisk(rings=2, layers=4, radius_um=2.0, length_um=8.0), 1)
    family = FAMILIES[seed % len(FAMILIES)]
    mesh = sample_substrates(
        template, {family: 1}, RANGES, {"train": 0.0, "val": 0.0, "test": 1.0}, seed
    ).mesh(0)
    count = 2 if seed % 3 == 2 else 1
    properties = ((1.0, 2.0), (20 + 80 * t2, torch.inf), (1.0, 0.7))
    tissue = cells(*(values[:count] for values in properties), kappa=0.5 * kappa)
    return mesh, tissue, random_protocol(seed, 30)


def judged(seed, basis, count=2):
    """Estimated error, and the true one by time stepping of `count` of the measurements."""
    mesh, tissue, acquisition = random_case(seed)
    reduction = reduce_mesh(mesh, tissue, acquisition, basis)
    # The strongest gradients err most; take them first.
    some = acquisition.select(torch.argsort(acquisition.amplitude, descending=True)[:count])
    exact = step_signal(mesh, tissue, some, 1e-8).signals
    error = (simulate_reduced(reduction.reduced, some) - exact.signal[0]).abs() / exact.unweighted[
        0
    ]
    return reduction.error, float(error.max())


def assert_honest(estimate, true, basis):
    assert estimate <= basis.tolerance
    assert true < 3 * basis.tolerance
    # 1e-8: what time stepping may leave. Too large an estimate below a tenth of the tolerance costs
    # nothing.
    assert true < 10 * estimate + 1e-8
    assert estimate < 10 * true + basis.tolerance / 10


# Time stepping of every case and the growth of the eigenbasis cost seconds each: three are seen
# always, with the slow tests every family twice, and once in the eigenbasis.
@pytest.mark.parametrize(
    ("kind", "seed"),
    [("krylov", seed) for seed in (0, 2, 4)]
    + [pytest.param("krylov", seed, marks=pytest.mark.slow) for seed in (1, 3, *range(5, 15))]
    + [pytest.param("laplace", seed, marks=pytest.mark.slow) for seed in range(0, 30, 5)],
)
def test_estimate_is_honest_over_random_shapes_and_protocols(kind, seed):
    basis = Basis(kind=kind, tolerance=1e-5)
    assert_honest(*judged(seed, basis), basis)


def sphere_protocol(count=40):
    direction = torch.randn(
        count, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    direction = direction / direction.norm(dim=1, keepdim=True)
    return Acquisition.pgse(torch.linspace(0.2, 8.0, count), direction, 10.0, 40.0)


def test_an_invariant_span_does_not_pass_for_a_converged_one():
    """Images of linear functions on a ball stay of degree 1 in angle: blocks stop changing.

    Yet signals are off by 6e-3. Residuals see what the gradient would do next.
    """
    mesh, tissue, acquisition = ball(5.0, 2), Tissue.uniform(2.0), sphere_protocol()
    exact = reduce_mesh(mesh, tissue, acquisition, Basis(tolerance=1e-8)).reduced

    def error(reduced):
        change = (
            simulate_reduced(reduced, acquisition) - simulate_reduced(exact, acquisition)
        ).abs()
        return float((change / unweighted(exact, acquisition)).max())

    matrices = assemble(mesh, tissue)
    solve = shift_inverse(matrices, 0.2)
    fixed = [
        krylov_projection(Projection.empty(mesh, matrices), solve, 1, blocks).reduced
        for blocks in (4, 5)
    ]
    step = (
        (simulate_reduced(fixed[1], acquisition) - simulate_reduced(fixed[0], acquisition))
        .abs()
        .max()
    )
    assert float(step / unweighted(exact, acquisition)[0]) < 1e-3 < error(fixed[1])
    adaptive = reduce_mesh(mesh, tissue, acquisition, Basis(degree=1))
    assert error(adaptive.reduced) < 1e-5


@pytest.mark.parametrize("kind", ["krylov", "laplace"])
def test_a_smaller_tolerance_gives_a_larger_basis_and_a_smaller_error(kind):
    mesh, tissue = (
        swept_disk(SweptDisk(rings=1, layers=8, radius_um=2.0, length_um=12.0)),
        Tissue.uniform(2.0),
    )
    acquisition = sphere_protocol(12)
    exact = simulate(mesh, tissue, acquisition, Basis(tolerance=1e-9))
    sizes = []
    for tolerance in (1e-2, 1e-4, 1e-6):
        basis = Basis(kind=kind, tolerance=tolerance)
        reduction = reduce_mesh(mesh, tissue, acquisition, basis)
        error = (simulate_reduced(reduction.reduced, acquisition) - exact.signal[0]).abs()
        assert float((error / exact.unweighted[0]).max()) < tolerance
        sizes.append(reduction.span.size)
    assert sizes[0] < sizes[2]


def test_projection_of_the_sparse_matrices_is_that_of_the_elements():
    """Two roads to V'AV: sparse products, or quadrature of element matrices in torch."""
    mesh = nested_cylinder(SweptDisk(rings=2, layers=3, radius_um=4.0, length_um=8.0), 1)
    tissue = cells((2.0, 2.0), (30.0, torch.inf), (1.0, 0.5), 0.3, 0.1)
    reduction = reduce_mesh(mesh, tissue, sphere_protocol(6))
    other = project(reduction.span, mesh.points, tissue)
    # Rounding: some 1e4 terms of the size of the largest entry.
    for ours, theirs in (
        (reduction.reduced.laplacian, other.laplacian),
        (reduction.reduced.moments, other.moments),
        (reduction.reduced.mean, other.mean),
    ):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-10 * float(theirs.abs().max()))


@pytest.mark.parametrize("order", [1, 2])
def test_iterative_solves_lead_to_the_same_signals(order, monkeypatch):
    """Solved to three digits or exactly: the span differs, the tolerance holds."""
    mesh = nested_cylinder(
        SweptDisk(rings=3, layers=6, radius_um=3.0, length_um=9.0, order=order), 1
    )
    tissue = Tissue.uniform(labels=(1, 2))
    acquisition, basis = sphere_protocol(8), Basis(tolerance=1e-6)
    direct = simulate(mesh, tissue, acquisition, basis)
    monkeypatch.setattr("spinmesh.reduction.shift_invert.MOST_DIRECT", 0)
    iterative = simulate(mesh, tissue, acquisition, basis)
    change = (direct.signal - iterative.signal).abs() / direct.unweighted
    # Both are within the tolerance of the same signal.
    assert 0 < float(change.max()) < 2e-6


@pytest.mark.parametrize(("order", "most"), [(1, 40_000), (2, 40_000), (2, 0)])
def test_iterative_solve_is_accurate_in_its_residual(order, most, monkeypatch):
    """With one level below, and with two below curved tets."""
    mesh, tissue = ball(5.0, 2, order), Tissue.uniform(2.0)
    monkeypatch.setattr("spinmesh.reduction.shift_invert.MOST_FACTORED", most)
    matrices = assemble(mesh, tissue)
    right = torch.randn(
        len(mesh.points), 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    ).numpy()
    exact = shift_inverse(matrices, 0.1)(right)
    monkeypatch.setattr("spinmesh.reduction.shift_invert.MOST_DIRECT", 0)
    monkeypatch.setattr("spinmesh.reduction.shift_invert.RELATIVE", 1e-8)
    found = shift_inverse(matrices, 0.1)(right)
    # The preconditioner is within a factor of a few of the inverse.
    assert abs(found - exact).max() < 1e-6 * abs(exact).max()


def test_representatives_are_the_strongest_and_most_different():
    acquisition = sphere_protocol(200)
    few = representatives(acquisition)
    assert len(few) <= 24
    assert float(few.amplitude.max()) == float(acquisition.amplitude.max())
    cosine = (few.direction @ few.direction.T).abs() - torch.eye(len(few)).double()
    strong = few.amplitude > 0.9 * few.amplitude.max()
    # 12 axes at most 0.9 rad apart would do; no two strong ones may nearly coincide.
    assert float(cosine[strong][:, strong].max()) < 0.97


def test_what_cannot_be_reached_is_refused_with_a_remedy(monkeypatch):
    with pytest.raises(ConfigError, match="1e-9"):
        Basis(tolerance=1e-12)
    with pytest.raises(ConfigError, match="krylov, laplace"):
        Basis(kind="fourier")  # type: ignore[arg-type]
    monkeypatch.setattr("spinmesh.bloch_torrey.basis.MOST_MODES", 25)
    mesh, acquisition = (
        swept_disk(SweptDisk(rings=1, layers=8, radius_um=2.0, length_um=12.0)),
        random_protocol(1, 12),
    )
    for kind, remedy in (("krylov", "lower the strongest gradient"), ("laplace", "krylov basis")):
        with pytest.raises(ReductionError, match=remedy):
            reduce_mesh(mesh, Tissue.uniform(), acquisition, Basis(kind=kind))


@pytest.mark.parametrize("kind", ["krylov", "laplace"])
def test_a_mesh_of_one_tet_is_spanned_completely(kind):
    """Four unknowns: the basis fills the space, nothing is left to estimate."""
    points = torch.tensor([[0.0, 0, 0], [3, 0, 0], [0, 3, 0], [0, 0, 3]]).double()
    mesh = TetMesh(points, torch.tensor([[0, 1, 2, 3]]), torch.tensor([1]))
    reduction = reduce_mesh(
        mesh, Tissue.uniform(), sphere_protocol(4), Basis(kind=kind, tolerance=0.9)
    )
    assert reduction.error is not None and reduction.error < 0.9
