"""The spectral basis: eigenfunctions of the template that carry every shape on it."""

import numpy as np
import pytest
import torch

from spinmesh.errors import MeshError, ReductionError
from spinmesh.mesh import Substrates, SweptDisk, TetMesh, swept_disk
from spinmesh.shapes import SpectralBasis, point_matrices, spectral_basis


def test_modes_are_mass_orthonormal_ascending_eigenfunctions(basis: SpectralBasis):
    stiffness, mass = point_matrices(basis.template)
    modes, values = basis.modes.numpy(), basis.eigenvalues.numpy()
    # Dense LAPACK solves of 209 unknowns are good to a few hundred roundings of the largest value.
    np.testing.assert_allclose(modes.T @ (mass @ modes), np.eye(len(values)), atol=1e-11)
    residual = stiffness @ modes - mass @ modes * values
    assert np.abs(residual).max() < 1e-11 * values[-1]
    assert (np.diff(values) >= -1e-11 * values[-1]).all()


def test_first_modes_are_those_of_a_sealed_cylinder():
    """lambda_0 = 0 and lambda_1 = (pi/L)^2: a cosine along the axis."""
    fine = spectral_basis(
        swept_disk(SweptDisk(rings=1, layers=12, radius_um=1.5, length_um=12.0)), 3
    )
    # P2 elements of 1 um: relative error (h pi/L)^4 / 720 ~ 1e-5; the polygonal end adds nothing.
    assert abs(float(fine.eigenvalues[0])) < 1e-10
    assert float(fine.eigenvalues[1]) == pytest.approx((np.pi / 12) ** 2, rel=2e-5)


def test_all_modes_reproduce_every_shape_and_fewer_only_lose(
    basis: SpectralBasis, substrates: Substrates
):
    points = substrates.points[:10]
    again = basis.decode(basis.encode(points))
    # Exact in exact arithmetic: Phi Phi' M = 1. Coordinates are ~10 um.
    torch.testing.assert_close(again, points, rtol=0, atol=1e-11)
    coefficients = basis.encode(points)
    errors = [(basis.decode(coefficients[:, :count]) - points).norm() for count in (20, 60, 200)]
    assert errors[0] > errors[1] > errors[2] > 0


def test_lanczos_finds_the_modes_of_the_dense_solver():
    template = swept_disk(SweptDisk(rings=2, layers=5, radius_um=1.5, length_um=10.0))
    assert len(template.points) > 600  # beyond the dense limit
    few, all_modes = spectral_basis(template, 12), spectral_basis(template)
    torch.testing.assert_close(few.eigenvalues, all_modes.eigenvalues[:12], rtol=1e-9, atol=1e-10)


def test_refuses_more_modes_than_points_and_shapes_of_another_template(
    template: TetMesh, basis: SpectralBasis
):
    with pytest.raises(ReductionError, match="210 modes asked of 209 points"):
        spectral_basis(template, len(template.points) + 1)
    with pytest.raises(MeshError, match="not on this template"):
        basis.encode(template.points[:-1])
