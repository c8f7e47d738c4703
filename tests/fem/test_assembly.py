import numpy as np
import pytest
import torch
from bodies import axon, cells
from skfem import Basis, BilinearForm, ElementTetP1, ElementTetP2, MeshTet, MeshTet2
from skfem.helpers import dot, grad

from spinmesh.errors import ConfigError, MeshError
from spinmesh.fem import assemble, element_matrices, function_space
from spinmesh.fem.elements import DEGREE
from spinmesh.mesh import (
    SweptDisk,
    TetMesh,
    ball,
    nested_cylinder,
)
from spinmesh.tissue import Tissue


def bent_axon(order):
    return axon(2, 4, 2.0, 12.0, order, bend=0.3, twist=0.9, bead_amplitude=0.3)


def skfem_matrices(mesh, degree):
    """Mass, stiffness and z-moment by scikit-fem, in our node numbering."""
    points, tets = mesh.points.numpy().T.copy(), mesh.tets.numpy().T.copy()
    kind, element = (MeshTet, ElementTetP1()) if mesh.order == 1 else (MeshTet2, ElementTetP2())
    other = kind(points, tets[: 4 if mesh.order == 1 else 10], sort_t=False)
    basis = Basis(other, element, intorder=degree)
    forms = (
        BilinearForm(lambda u, v, w: u * v),
        BilinearForm(lambda u, v, w: dot(grad(u), grad(v))),
        BilinearForm(lambda u, v, w: w.x[2] * u * v),
    )
    order = np.empty(points.shape[1], dtype=int)
    order[tets.ravel()] = basis.element_dofs.ravel()
    return [form.assemble(basis).toarray()[np.ix_(order, order)] for form in forms]


@pytest.mark.parametrize("order", [1, 2])
def test_torch_and_scikit_fem_assemble_the_same_matrices(order):
    """Two roads; with scikit-fem at the same quadrature they agree to rounding."""
    mesh = bent_axon(order)
    ours = assemble(mesh, Tissue.uniform(1.0))
    theirs = skfem_matrices(mesh, DEGREE[mesh.tets.shape[1]])
    for a, b in zip((ours.mass, ours.stiffness, ours.moments[2]), theirs, strict=True):
        assert np.abs(a.toarray() - b).max() < 1e-11 * np.abs(b).max()


@pytest.mark.parametrize("order", [1, 2])
def test_mass_is_positive_and_constants_are_in_the_kernel_of_stiffness(order):
    matrices = assemble(bent_axon(order), Tissue.uniform(2.0))
    one = np.ones(len(matrices.space))
    assert np.linalg.eigvalsh(matrices.mass.toarray())[0] > 0
    assert np.abs(matrices.stiffness @ one).max() < 1e-11 * abs(matrices.stiffness).max()
    assert abs(matrices.stiffness - matrices.stiffness.T).max() < 1e-12


def test_linear_moments_of_a_straight_mesh_are_exact():
    """1'J_x 1 = volume * centroid, exactly representable."""
    mesh = bent_axon(1)
    matrices = assemble(mesh, Tissue.uniform())
    corner = mesh.points[mesh.tets]
    volume = torch.linalg.det(corner[:, 1:] - corner[:, :1]) / 6
    exact = (volume[:, None] * corner.mean(1)).sum(0)
    ours = torch.tensor([m.sum() for m in matrices.moments])
    assert torch.allclose(ours, exact, rtol=1e-12)


def test_curved_ball_volume_converges_at_fourth_order_and_straight_at_second():
    exact = 4 / 3 * np.pi * 5.0**3
    slopes = {}
    for order in (1, 2):
        errors = [
            abs(assemble(ball(5.0, n, order), Tissue.uniform()).mass.sum() / exact - 1)
            for n in (1, 2, 3)
        ]
        slopes[order] = np.polyfit([0, 1, 2], -np.log2(errors), 1)[0]
    # Halving h divides the error by 4 (straight) and 16 (curved); 0.3 for the coarse first mesh.
    assert slopes[1] > 1.7
    assert slopes[2] > 3.6


def test_moving_the_mesh_moves_only_the_moments():
    mesh, shift = bent_axon(2), torch.tensor([3.0, -2.0, 1.0]).double()
    tissue = Tissue.uniform()
    here, there = assemble(mesh, tissue), assemble(mesh.with_points(mesh.points + shift), tissue)
    assert abs(here.stiffness - there.stiffness).max() < 1e-11
    for axis in range(3):
        change = there.moments[axis] - here.moments[axis] - float(shift[axis]) * here.mass
        assert abs(change).max() < 1e-11


def two_compartments(density=(1.0, 1.0)):
    return cells((2.0, 2.0), density=density, kappa=0.1)


def test_membrane_has_the_area_of_its_cylinder_and_splits_its_nodes():
    mesh = nested_cylinder(SweptDisk(rings=4, layers=5, radius_um=4.0, length_um=20.0), 2)
    space = function_space(mesh)
    matrices = assemble(mesh, two_compartments())
    inside = (space.dof_compartment == 1).numpy().astype(float)
    # The flux of a unit jump is kappa times the area 2 pi r h; the curved faces give it to 1e-3.
    assert inside @ matrices.flux @ inside == pytest.approx(0.1 * 2 * np.pi * 2 * 20, rel=1e-3)
    assert len(space) > len(mesh.points)


@pytest.mark.parametrize("density", [(1.0, 1.0), (0.4, 1.7)])
def test_flux_is_symmetric_and_vanishes_at_equilibrium(density):
    matrices = assemble(
        nested_cylinder(SweptDisk(rings=4, layers=3, radius_um=4.0, length_um=9.0), 2),
        two_compartments(density),
    )
    assert abs(matrices.flux - matrices.flux.T).max() < 1e-15  # order of summation
    assert np.abs(matrices.flux @ np.ones(len(matrices.space))).max() < 1e-12


def test_element_matrices_have_the_derivative_of_their_values():
    mesh = ball(1.0, 0)
    points = mesh.points[mesh.tets[:2]].clone().requires_grad_()
    diffusivity = torch.eye(3).double().repeat(2, 1, 1).requires_grad_()
    assert torch.autograd.gradcheck(element_matrices, (points, diffusivity))


def test_disagreeing_labels_and_interfaces_that_do_not_touch_are_refused():
    mesh = nested_cylinder(SweptDisk(rings=3, layers=2, radius_um=3.0, length_um=6.0), 1)
    with pytest.raises(ConfigError, match=r"not in the tissue: \[2\]"):
        assemble(mesh, Tissue.uniform())
    tets = torch.cat([mesh.tets, mesh.tets + len(mesh.points)])
    apart = TetMesh(
        torch.cat([mesh.points, mesh.points + 50]),
        tets,
        torch.cat([torch.ones(len(mesh.tets)), torch.full((len(mesh.tets),), 2.0)]).long(),
        "apart",
    )
    with pytest.raises(MeshError, match="share no face in mesh `apart`"):
        assemble(apart, two_compartments())
