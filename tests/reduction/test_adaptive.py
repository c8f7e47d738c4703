"""The adaptive basis keeps its tolerance, and its error estimate is honest."""

import pytest
import torch

from spinmesh.bloch_torrey import (
    Basis,
    reduce_mesh,
    simulate,
    simulate_mesh,
    step_signal,
    unweighted,
)
from spinmesh.bloch_torrey.error_estimate import representatives
from spinmesh.errors import ReductionError
from spinmesh.fem import assemble
from spinmesh.mesh import (
    SweptDisk,
    TetMesh,
    ball,
    nested_cylinder,
    sample_substrates,
    swept_disk,
)
from spinmesh.reduction import krylov_projection, project, shift_inverse
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
    template = swept_disk(SweptDisk(1, 8, 2.0, 12.0))
    if seed % 3 == 2:
        template = nested_cylinder(SweptDisk(2, 4, 2.0, 8.0), 1)
    family = FAMILIES[seed % len(FAMILIES)]
    mesh = sample_substrates(
        template, {family: 1}, RANGES, {"train": 0.0, "val": 0.0, "test": 1.0}, seed
    ).mesh(0)
    labels = (1, 2) if seed % 3 == 2 else (1,)
    tissue = Tissue(
        labels,
        torch.stack([(1.0 + i) * torch.eye(3) for i in range(len(labels))]).double(),
        torch.tensor([20 + 80 * t2, torch.inf][: len(labels)]).double(),
        torch.tensor([1.0, 0.7][: len(labels)]).double(),
        {(1, 2): 0.5 * kappa} if len(labels) == 2 else {},
    )
    return mesh, tissue, random_protocol(seed, 30)


def judged(seed, basis, count=4, steps=64):
    """Estimated error, and the true one by time stepping of `count` of the measurements."""
    mesh, tissue, acquisition = random_case(seed)
    reduction = reduce_mesh(mesh, tissue, acquisition, basis)
    # The strongest gradients err most; take them first.
    some = acquisition.select(torch.argsort(acquisition.amplitude, descending=True)[:count])
    exact = step_signal(mesh, tissue, some, steps)
    error = (simulate(reduction.reduced, some) - exact.signal[0]).abs() / exact.unweighted[0]
    return reduction.error, float(error.max())


def assert_honest(estimate, true, basis):
    assert estimate <= basis.tolerance
    assert true < 3 * basis.tolerance
    # 1e-7: what 24 steps and the propagator leave.
    assert true < 10 * estimate + 1e-7


@pytest.mark.parametrize("seed", range(6))
def test_estimate_is_honest(seed):
    assert_honest(*judged(seed, Basis(tolerance=1e-5), count=2), Basis(tolerance=1e-5))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["krylov", "laplace"])
@pytest.mark.parametrize("seed", range(30))
def test_estimate_is_honest_over_30_random_shapes_and_protocols(seed, kind):
    basis = Basis(kind, tolerance=1e-5)
    assert_honest(*judged(seed, basis, count=4), basis)
