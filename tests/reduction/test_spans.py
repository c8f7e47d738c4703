import pytest
import torch

from spinmesh.errors import ReductionError
from spinmesh.fem import assemble
from spinmesh.mesh import SweptDisk, TetMesh, ball, nested_cylinder, swept_disk
from spinmesh.reduction import krylov_span, laplace_span, project
from spinmesh.tissue import Tissue


@pytest.mark.parametrize(
    "make", [lambda m, t: krylov_span(m, t), lambda m, t: laplace_span(m, t, 30)]
)
def test_spans_are_orthonormal_in_the_mass(make):
    mesh, tissue = ball(5.0, 2), Tissue.uniform()
    span = make(mesh, tissue)
    V = span.vectors.numpy()
    gram = torch.from_numpy(V.T @ (assemble(mesh, tissue).mass @ V))
    # Orthonormalised twice (Krylov) or by ARPACK to its tolerance (Laplace).
    assert torch.allclose(gram, torch.eye(span.size).double(), atol=1e-9)


def test_laplace_modes_do_not_tear_a_degenerate_group():
    """A ball's second group, the three l = 1 modes, is kept whole or not at all."""
    mesh, tissue = ball(5.0, 2), Tissue.uniform()
    assert [laplace_span(mesh, tissue, count).size for count in (1, 2, 3, 4)] == [1, 1, 1, 4]


def test_laplace_eigenvalues_of_a_ball_are_those_of_the_bessel_equation():
    """lambda = D (2.0816/r)^2 for l = 1 (root of j_1'); the volume is 1.3e-3 small."""
    mesh, tissue = ball(5.0, 2), Tissue.uniform(2.0)
    span = laplace_span(mesh, tissue, 4)
    values = torch.linalg.eigvalsh(project(span, mesh.points, tissue).laplacian)
    assert float(values[1]) == pytest.approx(2.0 * (2.081575978 / 5.0) ** 2, rel=2e-3)


def test_constant_density_lies_in_the_krylov_span_of_every_compartment():
    mesh = nested_cylinder(SweptDisk(rings=3, layers=4, radius_um=4.0, length_um=10.0), 1)
    tissue = Tissue.uniform(labels=(1, 2))
    reduced = project(krylov_span(mesh, tissue, 1, 1), mesh.points, tissue)
    volume = assemble(mesh, tissue).mass.sum()
    assert float(reduced.initial @ reduced.initial) == pytest.approx(volume, rel=1e-12)


def test_projection_elsewhere_than_the_span_is_that_of_the_same_functions():
    """Scaling all points by s scales mass s^3, stiffness s, so whitened L by s^-2."""
    mesh, tissue = (
        swept_disk(SweptDisk(rings=2, layers=4, radius_um=2.0, length_um=9.0)),
        Tissue.uniform(),
    )
    span = krylov_span(mesh, tissue)
    here, there = (project(span, mesh.points * s, tissue) for s in (1.0, 1.5))
    eigenvalues = [torch.linalg.eigvalsh(r.laplacian) for r in (here, there)]
    assert torch.allclose(eigenvalues[1] * 1.5**2, eigenvalues[0], rtol=1e-9, atol=1e-9)


def test_too_many_modes_are_refused_with_the_count():
    cube = TetMesh(torch.eye(4, 3).double(), torch.tensor([[3, 0, 1, 2]]), torch.tensor([1]))
    with pytest.raises(ReductionError, match="9 modes of 4 unknowns"):
        laplace_span(cube, Tissue.uniform(), 9)


@pytest.mark.parametrize(("degree", "blocks"), [(2, 3), (3, 4)])
def test_a_mesh_of_few_points_has_no_more_directions_than_points(degree, blocks):
    """What blocks beyond the whole space leave is rounding, which once became modes."""
    mesh, tissue = (
        swept_disk(SweptDisk(rings=1, layers=2, radius_um=2.0, length_um=10.0, order=1)),
        Tissue.uniform(2.0),
    )
    span = krylov_span(mesh, tissue, degree, blocks)
    assert span.size == len(mesh.points) == 21
    V = span.vectors.numpy()
    gram = torch.from_numpy(V.T @ (assemble(mesh, tissue).mass @ V))
    # Orthonormalised twice: a few times the rounding of 21 products.
    assert torch.allclose(gram, torch.eye(span.size).double(), rtol=0, atol=1e-13)
    # Raises if the reduced mass matrix is not positive definite.
    project(span, mesh.points, tissue)


def test_rounding_of_the_points_leaves_the_span():
    """Each block holds a constant again; what rounding leaves of it must not become a mode."""
    mesh, tissue = (
        swept_disk(SweptDisk(rings=1, layers=5, radius_um=2.0, length_um=10.0, order=1)),
        Tissue.uniform(2.0),
    )
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(mesh.points.shape, generator=generator, dtype=torch.float64)
    moved = mesh.with_points(mesh.points * (1 + 1e-15 * noise))
    own, other = (krylov_span(m, tissue, 2, 3).vectors.numpy() for m in (mesh, moved))
    assert own.shape == other.shape
    outside = other - own @ (own.T @ (assemble(mesh, tissue).mass @ other))
    # Rounding, 1e-15, over the smallest direction kept, 1e-7, and a hundred for the solves.
    assert float(abs(outside).max()) < 1e-6
