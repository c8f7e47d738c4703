import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from spinmesh.errors import MeshError, ScaleWarning
from spinmesh.mesh import (
    FAMILIES,
    PARAMETERS,
    Disks,
    SweptDisk,
    TetMesh,
    ball,
    check_quality,
    corner_volumes,
    deform,
    families,
    maps,
    nested_cylinder,
    neutral_parameters,
    oriented,
    rotation_matrix,
    sample_substrates,
    single_substrate,
    swept_disk,
    tet_quality,
)

SPEC = SweptDisk(rings=2, layers=6, radius_um=2.0, length_um=15.0)
RANGES = {
    "radius": (1.0, 3.0),
    "bend": (0.0, 0.5),
    "twist": (0.0, 3.1),
    "bead_amplitude": (0.0, 0.4),
    "bead_count": (1.0, 2.0),
    "fan_angle": (0.0, 1.0),
    "fan_height": (0.25, 0.75),
    "undulation_amplitude": (0.0, 1.0),
}
SPLIT = {"train": 0.8, "validation": 0.1, "test": 0.1}


def table(seed=3, count=5):
    return sample_substrates(
        swept_disk(SPEC), {family: count for family in FAMILIES}, RANGES, SPLIT, seed
    )


def test_straight_template_has_the_volume_of_its_polygonal_prism():
    """Two rings make a 12-gon: area 6 r^2 sin(2 pi/12) exactly."""
    mesh = swept_disk(SweptDisk(rings=2, layers=6, radius_um=2.0, length_um=15.0, order=1))
    exact = 6 * 2.0**2 * math.sin(math.pi / 6) * 15.0
    assert float(corner_volumes(mesh.points, mesh.tets).sum()) == pytest.approx(exact, rel=1e-12)


def test_every_boundary_node_of_the_curved_template_lies_on_the_cylinder_or_its_ends():
    mesh = swept_disk(SPEC)
    radius = mesh.points[:, :2].norm(dim=1)
    assert float(radius.max()) == pytest.approx(2.0, rel=1e-14)
    assert int((radius > 2.0 - 1e-12).sum()) == 12 * 2 * (2 * 6 + 1)


def test_neutral_parameters_reproduce_the_template():
    mesh = swept_disk(SPEC)
    points = deform(mesh, neutral_parameters(mesh))
    assert torch.allclose(points, mesh.points, rtol=0, atol=1e-13)


def test_bending_is_a_shear_and_keeps_every_volume():
    """x -> x + c z^2 has unit Jacobian; a quadratic map is exact on 10-node tets' corners too."""
    mesh = swept_disk(SPEC)
    parameters = neutral_parameters(mesh)
    parameters[PARAMETERS.index("bend")] = 0.4
    before = corner_volumes(mesh.points, mesh.tets).sum()
    after = corner_volumes(deform(mesh, parameters), mesh.tets).sum()
    # Layers of straight prisms sheared rigidly against each other: volumes agree to rounding.
    assert float(after) == pytest.approx(float(before), rel=1e-12)


def test_fan_turns_the_upper_end_by_its_angle():
    mesh = swept_disk(SweptDisk(rings=1, layers=20, radius_um=1.0, length_um=30.0))
    parameters = neutral_parameters(mesh)
    parameters[PARAMETERS.index("fan_angle")] = 0.8
    points = deform(mesh, parameters)
    top = mesh.points[:, 2] == 30.0
    radius = points[top] - points[top].mean(0)
    normal = torch.linalg.svd(radius).Vh[2]
    # The smooth turn is complete to sigmoid(+-4.3) = 1.4 % at the ends.
    assert math.acos(abs(float(normal[2]))) == pytest.approx(0.8, rel=0.03)


def test_every_family_gives_positive_curved_tets_and_reproduces_from_its_seed():
    first, again, other = table(), table(), table(seed=4)
    assert set(first.family) == set(FAMILIES)
    assert torch.equal(first.points, again.points)
    assert first.split == again.split
    assert not torch.equal(first.points, other.points)


def test_splits_have_their_share_and_partition_the_table():
    substrates = table(count=10)
    counts = {split: len(substrates.select(split)) for split in SPLIT}
    assert counts == {"train": 48, "validation": 6, "test": 6}


def test_a_shape_has_the_same_points_in_every_part_of_the_table():
    """Bit for bit: shards of any count simulate the same shapes."""
    substrates = table(count=3)
    points = torch.cat([part.points for part in substrates.parts(4)])
    assert torch.equal(points, substrates.points)
    assert torch.equal(substrates.take([5, 2]).points, points[[5, 2]])
    assert torch.equal(substrates.mesh(7).points, points[7])


def test_the_quality_of_the_worst_tet_is_told_for_every_shape():
    substrates = table(count=1)
    worst = [tet_quality(substrates.mesh(i)).min() for i in range(len(substrates))]
    assert torch.equal(substrates.quality, torch.stack(worst))
    assert torch.equal(substrates.take([3]).quality, worst[3][None])


def test_shapes_are_checked_side_by_side_as_one_after_the_other(monkeypatch):
    """In several processes, the order kept; what folds in one of them is told by its number."""
    alone = table(count=2)
    monkeypatch.setattr(families, "AT_ONCE", 5)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert torch.equal(families.checked(alone).quality, alone.quality)
    turned = alone.parameters.clone()
    turned[8, [PARAMETERS.index("fan_angle"), PARAMETERS.index("radius")]] = turned.new([2.5, 6.0])
    with pytest.raises(MeshError, match=r"substrate 8 .*`fan_angle` folds it"):
        families.checked(replace(alone, parameters=turned))


def test_points_that_no_deformation_makes_have_to_be_given():
    substrates = table(count=1)
    with pytest.raises(MeshError, match="give the points"):
        replace(substrates, names=("latent_0",))
    moved = replace(substrates, given=substrates.points + 1.0, names=("latent_0",))
    assert torch.equal(moved.take([1]).points[0], substrates.points[1] + 1.0)


def test_a_folded_substrate_is_refused_by_name_tet_and_parameter():
    """A fan of 2.5 rad on a short thick axon turns tighter than its radius; the radius also would
    cure it, but it is the fan that is named, with a value that does not fold."""
    ranges = {"fan_angle": (2.5, 2.5), "radius": (6.0, 6.0)}
    words = (
        r"substrate 0 \(fanning\).*inverted \(first: \d+, volume.*`fan_angle` folds it: 2.5 rad; "
    )
    with pytest.raises(MeshError, match=words) as refused:
        sample_substrates(swept_disk(SPEC), {"fanning": 1}, ranges, SPLIT, 0)
    limit = float(str(refused.value).split("; ")[1].split()[0])
    sample_substrates(
        swept_disk(SPEC), {"fanning": 1}, ranges | {"fan_angle": (limit,) * 2}, SPLIT, 0
    )
    with pytest.raises(MeshError, match="folds it"):
        wider = ranges | {"fan_angle": (limit + 2.5 / 2**7,) * 2}
        sample_substrates(swept_disk(SPEC), {"fanning": 1}, wider, SPLIT, 0)


def test_two_parameters_that_fold_each_alone_are_named_together():
    """A bead of more than the radius turns the axon inside out; so does a fan of 2.5 rad."""
    values = {"bead_amplitude": 1.2, "fan_angle": 2.5, "radius": 6.0}
    with pytest.raises(MeshError, match=r"lower several of `bead_amplitude` 1\.2, `fan_angle`"):
        single_substrate(swept_disk(SPEC), values)


T = torch.linspace(0, 1, 5).double()
POINTS = torch.rand(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
PAIR = Disks(np.array([[0.3, 0.4], [2.3, 2.6]]), np.array([0.9, 1.1]), 4.0)
MAPS = {
    "resized": (lambda f, e: maps.resized(POINTS, f, e), [1.3, 0.4]),
    "beaded": (lambda *p: maps.beaded(POINTS, T, *p), [0.3, 1.7, 0.4]),
    "bent": (lambda *p: maps.bent(POINTS, T, *p), [2.0, 0.7]),
    "undulating": (lambda *p: maps.undulating(POINTS, T, *p), [0.5, 1.2]),
    "twisted": (lambda angle: maps.twisted(POINTS, T, angle), [0.8]),
    "fanned": (lambda *p: maps.fanned(POINTS, T, *p), [9.0, 0.9, 0.4, 0.3]),
    "stretched": (lambda *p: maps.stretched(POINTS, *p), [1.1, 0.8, 1.4]),
    "beaded_fibres": (
        lambda a, n: maps.beaded_fibres(4 * POINTS, T, PAIR, a, n, 6 * POINTS[:2, 0]),
        [0.2, 1.1],
    ),
    "dispersed": (lambda *p: maps.dispersed(POINTS, T, 4.0, *p), [0.7, 1.2]),
}


@pytest.mark.parametrize("name", MAPS)
def test_every_map_is_differentiable_in_all_of_its_parameters(name):
    """Derivatives agree with finite differences, and no parameter is without effect."""
    apply, values = MAPS[name]
    inputs = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in values]
    assert torch.autograd.gradcheck(apply, inputs)
    sums = torch.autograd.grad(apply(*inputs).pow(3).sum(), inputs)
    assert all(abs(float(gradient)) > 1e-6 for gradient in sums)


@pytest.mark.parametrize(
    "name", sorted(MAPS.keys() - {"beaded_fibres"})
)  # bundles are mapped alone
def test_a_map_of_a_batch_is_that_of_each_shape(name):
    """Parameters with a trailing axis of 1, as `deform` gives them; bundles are mapped alone."""
    apply, values = MAPS[name]
    batch = [torch.tensor([[value], [0.5 * value]]).double() for value in values]
    alone = [apply(*(value[row] for value in batch)) for row in range(2)]
    torch.testing.assert_close(apply(*batch), torch.stack(alone), rtol=0, atol=1e-14)


def test_empty_tables_are_refused():
    with pytest.raises(MeshError, match="every family has count 0"):
        sample_substrates(swept_disk(SPEC), {"straight": 0}, {}, SPLIT, 0)
    with pytest.raises(MeshError, match="empty"):
        table().select("elsewhere")


@pytest.mark.parametrize("scale", [1e-6, 1e3])
def test_a_mesh_in_another_unit_warns_with_its_bounding_box(scale):
    mesh = ball(5.0, 1)
    with pytest.warns(ScaleWarning, match=r"bounding box .* um is"):
        check_quality(mesh.with_points(mesh.points * scale))


def test_a_flat_tet_is_degenerate_and_named():
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0.3, 0.3, 1e-9]]).double()
    mesh = TetMesh(points, torch.tensor([[0, 1, 2, 3]]), torch.tensor([1]), "flake")
    with pytest.raises(MeshError, match=r"flake: 1 of 1 tets are degenerate.*first: 0"):
        check_quality(mesh)


@pytest.mark.parametrize("order", [1, 2])
def test_reversed_tets_are_turned_but_a_fold_is_refused(order):
    mesh = ball(5.0, 1, order)
    swap = [0, 2, 1, 3, 6, 5, 4, 7, 9, 8][: mesh.tets.shape[1]]
    tets = mesh.tets.clone()
    tets[::3] = tets[::3][:, swap]
    turned = oriented(TetMesh(mesh.points, tets, mesh.compartment))
    assert torch.equal(turned.tets, mesh.tets)

    points = mesh.points.clone()
    points[0] = torch.tensor([6.0, 1.0, 0.5])  # the centre, pulled through the surface
    with pytest.raises(MeshError, match="overlap a neighbour"):
        oriented(mesh.with_points(points))


def test_rotation_matrix_turns_by_the_vector_length_and_is_smooth_at_zero():
    angle = 0.7
    turned = rotation_matrix(torch.tensor([0.0, 0, angle]).double())
    expected = torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    assert torch.allclose(turned[:2, :2], expected.double(), atol=1e-14)
    assert torch.autograd.gradcheck(rotation_matrix, torch.zeros(3).double().requires_grad_())


def test_a_compartment_is_a_mesh_of_its_own():
    """Inside the first of two rings: a prism of area 3 r^2 sin(2 pi/6); no idle points."""
    mesh = nested_cylinder(
        SweptDisk(rings=2, layers=3, radius_um=4.0, length_um=10.0, order=1), inner_rings=1
    )
    axon = mesh.part(1)
    exact = 3 * 2.0**2 * math.sin(math.pi / 3) * 10
    assert float(corner_volumes(axon.points, axon.tets).sum()) == pytest.approx(exact, rel=1e-12)
    assert len(axon.vertices) == len(axon.points) == 7 * 4
    with pytest.raises(MeshError, match=r"no compartment 3\. It has 1, 2"):
        mesh.part(3)
