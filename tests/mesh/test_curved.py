"""Curved tets: known bodies are met at high order, sharp edges stay, and no tet folds."""

import numpy as np
import pytest
import torch
from skfem import MeshTet

from spinmesh.errors import MeshError
from spinmesh.mesh import SweptDisk, TetMesh, ball, oriented, outer_faces, swept_disk
from spinmesh.mesh.curved import Solid, curved, jacobian_coefficients
from spinmesh.mesh.faces import turned_positive
from spinmesh.mesh.template import prisms_to_tets
from spinmesh.mesh.tetmesh import jacobian_determinants


def volume(mesh: TetMesh) -> float:
    return float(jacobian_coefficients(mesh.points.numpy(), mesh.tets.numpy()).mean(1).sum() / 6)


def test_a_sphere_of_facets_becomes_round_at_fourth_order() -> None:
    """Straight tets miss the volume at second order; fitted nodes leave a hundredth of it."""
    errors = []
    for steps in (1, 2, 3):
        shape, _ = curved(ball(1.0, steps, order=1))
        errors.append(abs(volume(shape) / (4 / 3 * np.pi) - 1))
        nodes = np.unique(outer_faces(shape.tets.numpy())[0])
        assert float((shape.points[nodes].norm(dim=1) - 1).abs().max()) < 0.8 / 16**steps
    order = np.log2(errors[1] / errors[2])
    assert order > 3.5 and errors[-1] < 5e-4, errors  # straight: 2.4e-2


def test_a_cube_stays_a_cube() -> None:
    """Flat walls stay flat to rounding, and edges of a right angle stay sharp and straight."""
    grid = np.linspace(0, 1, 4)
    cube = MeshTet.init_tensor(grid, grid, grid)
    straight = TetMesh(
        torch.from_numpy(cube.p.T.copy()),
        torch.from_numpy(cube.t.T.astype(np.int64)),
        torch.ones(cube.t.shape[1], dtype=torch.int64),
    )
    shape, note = curved(oriented(straight))
    assert volume(shape) == pytest.approx(1, abs=1e-14)
    middles = shape.points[shape.tets[:, 4:]]
    ends = shape.points[shape.tets[:, [[0, 1], [1, 2], [0, 2], [0, 3], [1, 3], [2, 3]]]].mean(2)
    assert float((middles - ends).abs().max()) < 1e-15 and "volume +0.00%" in note


def test_the_rim_of_a_cylinder_is_round_and_its_ends_flat() -> None:
    size = SweptDisk(rings=4, layers=6, radius_um=1.0, length_um=3.0, order=1)
    shape, _ = curved(swept_disk(size))
    radius = shape.points[:, :2].norm(dim=1)
    end = (shape.points[:, 2] < 1e-12) | (shape.points[:, 2] > 3 - 1e-12)
    rim = end & (radius > 0.97)
    assert int(rim.sum()) == 2 * 2 * 24  # corners and middles
    assert float((radius[rim] - 1).abs().max()) < 2e-4  # straight edges: 8.6e-3
    assert volume(shape) == pytest.approx(3 * np.pi, rel=2e-4)  # straight: 1.1e-2


def test_the_smallest_coefficient_is_below_the_jacobian_everywhere() -> None:
    """And their mean is six times the volume, by quadrature."""
    shape = ball(1.0, 1)
    points, tets = shape.points.numpy(), shape.tets.numpy()
    least = jacobian_coefficients(points, tets).min(1)
    nodes = jacobian_determinants(shape.points, shape.tets).amin(-1).numpy()
    assert (least <= nodes + 1e-14).all()
    corners = np.sort(jacobian_coefficients(points, tets), 1)
    assert (corners[:, -1] >= nodes).all()


def test_a_thin_shell_does_not_fold() -> None:
    """A coarse core bulges by more than its shell is thick: nodes stay back, and it is said."""
    core = ball(1.0, 1, order=1)
    points, label = core.points.clone(), core.compartment.clone()
    outer = points.norm(dim=1) > 0.9
    # The shell: tets of a prism between each face of the core and one a little larger.
    faces, _ = outer_faces(core.tets.numpy())
    place = np.full(len(points), -1)
    place[np.flatnonzero(outer)] = np.arange(int(outer.sum()))
    inner = points[outer].numpy()
    both = np.concatenate([inner, 1.02 * inner])
    shell = prisms_to_tets(place[faces], len(inner), 1)
    tets = np.concatenate([core.tets.numpy(), turned_positive(both, shell) + len(points)])
    every = np.concatenate([points.numpy(), both])
    unique, index = np.unique(every.round(12), axis=0, return_inverse=True)
    mesh = TetMesh(
        torch.from_numpy(unique),
        torch.from_numpy(index.ravel()[tets]),
        torch.cat([label, torch.full((len(shell),), 2)]),
    )
    shape, note = curved(mesh)
    assert float(jacobian_coefficients(shape.points.numpy(), shape.tets.numpy()).min()) > 0
    assert "lest tets fold" in note


def test_a_known_solid_is_met_to_rounding() -> None:
    mesh = ball(1.0, 2, order=1)
    facets = mesh.points[mesh.points.norm(dim=1) > 0.9].numpy()
    solid = Solid(facets, lambda x: x / np.linalg.norm(x, axis=1)[:, None])
    shape, _ = curved(mesh, [solid])
    np.testing.assert_allclose(volume(shape), volume(ball(1.0, 2)), rtol=2e-3)
    surface = shape.points.norm(dim=1)
    assert float((surface[surface > 0.95] - 1).abs().max()) < 1e-14


def test_what_is_curved_already_is_refused() -> None:
    with pytest.raises(MeshError, match="curved already"):
        curved(ball(1.0, 1))
