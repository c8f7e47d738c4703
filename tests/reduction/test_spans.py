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
    mesh = nested_cylinder(SweptDisk(3, 4, 4.0, 10.0), 1)
    tissue = Tissue.uniform(labels=(1, 2))
    reduced = project(krylov_span(mesh, tissue, 1, 1), mesh.points, tissue)
    volume = assemble(mesh, tissue).mass.sum()
    assert float(reduced.initial @ reduced.initial) == pytest.approx(volume, rel=1e-12)


def test_projection_elsewhere_than_the_span_is_that_of_the_same_functions():
    """Scaling all points by s scales mass s^3, stiffness s, so whitened L by s^-2."""
    mesh, tissue = swept_disk(SweptDisk(2, 4, 2.0, 9.0)), Tissue.uniform()
    span = krylov_span(mesh, tissue)
    here, there = (project(span, mesh.points * s, tissue) for s in (1.0, 1.5))
    eigenvalues = [torch.linalg.eigvalsh(r.laplacian) for r in (here, there)]
    assert torch.allclose(eigenvalues[1] * 1.5**2, eigenvalues[0], rtol=1e-9, atol=1e-9)


def test_too_many_modes_are_refused_with_the_count():
    cube = TetMesh(torch.eye(4, 3).double(), torch.tensor([[3, 0, 1, 2]]), torch.tensor([1]))
    with pytest.raises(ReductionError, match="9 modes of 4 unknowns"):
        laplace_span(cube, Tissue.uniform(), 9)
