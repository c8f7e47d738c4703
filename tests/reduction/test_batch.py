"""Many shapes at once are each shape alone."""

from dataclasses import replace

import pytest
import torch

from spinmesh.bloch_torrey import Basis, simulate_reduced
from spinmesh.bodies import simulate, simulate_substrates
from spinmesh.errors import MeshError, ReductionError
from spinmesh.mesh import SweptDisk, ball, nested_cylinder, sample_substrates, swept_disk
from spinmesh.reduction import reduce_shapes
from spinmesh.sequence import Acquisition
from spinmesh.tissue import Tissue

RANGES = {"radius": (1.0, 3.0), "bend": (0.0, 0.3), "bead_amplitude": (0.0, 0.3)}
SPLIT = {"train": 1.0, "val": 0.0, "test": 0.0}
ACQUISITION = Acquisition.pgse(
    torch.linspace(0, 4, 6).double(), torch.eye(3).double().repeat(2, 1), 5.0, 20.0
)
NESTED = Tissue(
    (1, 2),
    torch.stack([torch.eye(3), torch.diag(torch.tensor([2.0, 1.0, 1.5]))]).double(),
    torch.tensor([40.0, torch.inf]).double(),
    torch.tensor([1.0, 0.7]).double(),
    {(1, 2): 0.2},
    {2: 0.05},
)


@pytest.mark.parametrize(
    ("template", "tissue"),
    [
        (
            swept_disk(SweptDisk(rings=1, layers=6, radius_um=2.0, length_um=10.0)),
            Tissue.uniform(2.0),
        ),
        (
            swept_disk(SweptDisk(rings=2, layers=8, radius_um=2.0, length_um=10.0, order=1)),
            Tissue.uniform(2.0),
        ),
        (nested_cylinder(SweptDisk(rings=2, layers=4, radius_um=3.0, length_um=8.0), 1), NESTED),
    ],
    ids=["curved", "straight", "nested"],
)
def test_a_batch_has_the_signals_of_its_shapes(template, tissue):
    """Dense and sparse roads to one number, with everything a tissue can have."""
    shapes = sample_substrates(template, {"combined": 3}, RANGES, SPLIT, 0)
    basis = Basis(degree=3, blocks=3)
    batch = simulate_substrates(shapes, tissue, ACQUISITION, basis)
    for index in range(3):
        one = simulate(shapes.mesh(index), tissue, ACQUISITION, basis)
        scale = float(one.unweighted.max())
        # The spans differ in nearly dependent directions, kept or dropped at 1e-10 of rounding:
        # far below the basis's own error, 1e-5 here.
        assert float((batch.signal[index] - one.signal[0]).abs().max()) < 1e-6 * scale
        assert float((batch.unweighted[index] - one.unweighted[0]).abs().max()) < 1e-8 * scale


def test_directions_that_a_shape_lacks_are_zero_functions():
    """On a ball, images of polynomials repeat: the batch keeps its size and excites nothing."""
    mesh = ball(3.0, 1)
    reduced = reduce_shapes(mesh, mesh.points[None], Tissue.uniform(2.0), 2, 3)
    norms = reduced.laplacian[0].abs().amax(0) + reduced.moments[0].abs().amax((0, 1))
    assert reduced.laplacian.shape[-1] == 40
    assert bool((norms < 1e-12).any())
    one = simulate(mesh, Tissue.uniform(2.0), ACQUISITION, Basis(degree=2, blocks=3))
    assert torch.allclose(simulate_reduced(reduced, ACQUISITION)[0], one.signal[0], rtol=1e-6)


def test_a_folded_shape_and_a_large_template_are_refused():
    template = swept_disk(SweptDisk(rings=1, layers=6, radius_um=2.0, length_um=10.0))
    shapes = sample_substrates(template, {"straight": 2}, RANGES, SPLIT, 0)
    points = shapes.points
    points[1, :, 0] *= -1
    shapes = replace(shapes, given=points)
    with pytest.raises(MeshError, match="inverted"):
        simulate_substrates(shapes, Tissue.uniform(2.0), ACQUISITION, Basis(blocks=2))
    large = ball(3.0, 2)
    points = large.points[None]
    with pytest.raises(ReductionError, match="one by one"):
        reduce_shapes(
            swept_disk(SweptDisk(rings=4, layers=8, radius_um=2.0, length_um=10.0)),
            points,
            Tissue.uniform(2.0),
        )


@pytest.mark.gpu
def test_a_gpu_gives_the_same_signals():
    """Two devices, one number: rounding of other orders of summation."""
    template = swept_disk(SweptDisk(rings=2, layers=8, radius_um=2.0, length_um=10.0, order=1))
    shapes = sample_substrates(template, {"combined": 3}, RANGES, SPLIT, 0)
    basis, tissue = Basis(degree=2, blocks=3), Tissue.uniform(2.0)
    here = simulate_substrates(shapes, tissue, ACQUISITION, basis)
    there = simulate_substrates(shapes, tissue, ACQUISITION, basis, "cuda")
    assert float((here.signal - there.signal).abs().max()) < 1e-7 * float(here.unweighted.max())
