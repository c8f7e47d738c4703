"""From an image back to its axons: what they are, where they are, and their signal."""

import numpy as np
import pytest
import torch

from spinmesh.bundles import (
    Protocol,
    find_axons,
    resimulate,
)
from spinmesh.bundles.simulation import (
    bundle_attenuation,
    cylinder_table,
    packed_bundle,
    rasterised,
)
from spinmesh.errors import ConfigError, MeshError
from spinmesh.mesh import Disks
from spinmesh.settings import BundleSettings, ImageSettings

PROTOCOL = Protocol.of(BundleSettings(b_s_per_mm2=(5000.0,), Delta_ms=(20.0,)))


def usual_bundle(seed: int) -> Disks:
    return packed_bundle(BundleSettings(), ImageSettings(), np.random.default_rng(seed))


def picture(disks: Disks, pixels: int = 32) -> torch.Tensor:
    return torch.from_numpy(rasterised(disks, pixels))


def test_a_picture_gives_back_its_disks():
    """Bundles of the default sizes: radii of 0.3 to 5 um on pixels of 0.6 um, 0.1 um apart."""
    errors = []
    for seed in range(12):
        disks = usual_bundle(seed)
        errors.append(np.array(find_axons(picture(disks), 20.0).statistics) / disks.statistics - 1)
    # Measured over 150 bundles: 3e-3 of the radius and 1 % of the surface, where two small
    # neighbours may become one; twice that for twelve.
    assert (np.sqrt(np.mean(np.square(errors), 0)) < [2e-3, 1e-2, 2e-2]).all()


def test_neighbours_are_parted_and_found_where_they_are_across_the_edge_of_the_cell():
    disks = Disks(np.array([[0.2, 6.0], [4.3, 6.1], [6.6, 0.1]]), np.array([2.0, 2.0, 1.0]), 12.0)
    axons = find_axons(picture(disks, 24), 12.0)
    order = np.argsort(axons.centres[:, 0])
    # A grey edge pixel of two neighbours is given to one of them: a tenth of a pixel of 0.5 um.
    np.testing.assert_allclose(axons.centres[order] % 12.0, disks.centres, atol=0.05)
    np.testing.assert_allclose(axons.radii[order], disks.radii, atol=0.05)


def test_the_signal_of_a_picture_is_that_of_its_disks():
    disks = [
        packed_bundle(BundleSettings(), ImageSettings(), np.random.default_rng(seed))
        for seed in (3, 4)
    ]
    table = cylinder_table(PROTOCOL, 5.0)
    truth = torch.stack([bundle_attenuation(d, PROTOCOL, table, 0) for d in disks])
    images = torch.stack([picture(d) for d in disks])
    found, error = resimulate(images, 20.0, PROTOCOL, seed=9)
    # 2e-3 is what the mesh leaves (docs/methods/synthesis.md), a tenth of the noise.
    torch.testing.assert_close(found, truth, rtol=0, atol=3e-3)
    # Circles explain 98 % of a true picture's variance of some 0.2.
    assert (error < 0.08).all()


def test_the_misfit_of_the_truth_is_one_also_where_there_is_only_noise():
    truth = torch.tensor([[0.5, 0.2, 1e-5]]).double().expand(4000, -1)
    measured = PROTOCOL.observed(truth.log(), torch.Generator().manual_seed(0)).exp()
    chi2 = PROTOCOL.misfit(measured, truth)
    # 12,000 squares of unit mean and deviation 1.4: 1.3 % of the mean, three of which are allowed.
    torch.testing.assert_close(chi2.mean().item(), 1.0, rtol=0.04, atol=0)


def test_circles_that_overlap_are_moved_apart_or_refused():
    close = Disks(np.array([[3.0, 3.0], [4.5, 3.0]]), np.array([1.0, 1.0]), 12.0)
    moved = close.moved_apart(0.1)
    np.testing.assert_allclose(moved.radii, close.radii, rtol=0)
    np.testing.assert_allclose(moved.centres.mean(0), [3.75, 3.0], atol=1e-9)  # by symmetry
    grid = np.stack(np.meshgrid(np.arange(4), np.arange(4)), -1).reshape(-1, 2) * 3.0
    with pytest.raises(MeshError, match=r"16 that cover 89%.* Lower the"):
        Disks(grid, np.full(16, 1.6), 12.0).moved_apart(0.1)


def test_an_image_that_is_no_packing_has_no_signal_but_stops_nothing():
    full = torch.ones(1, 16, 16)
    full[0, ::4] = -1
    found, error = resimulate(full, 12.0, PROTOCOL, 0)
    assert found.isnan().all() and error.isnan().all()


def test_images_out_of_range_or_empty_are_refused():
    with pytest.raises(ConfigError, match="grey levels from"):
        find_axons(torch.full((16, 16), 1.5), 12.0)
    with pytest.raises(ConfigError, match="no axon"):
        find_axons(torch.full((16, 16), -1.0), 12.0)


def test_a_moved_packing_has_the_signal_of_the_moved_acquisition():
    """Mirrored in y and transposed, against the permutations that training uses."""
    images = ImageSettings(volume_fraction=(0.3, 0.3))
    disks = packed_bundle(BundleSettings(), images, np.random.default_rng(5))
    oblique = PROTOCOL.acquisition
    turn = torch.tensor([[0.6, -0.8, 0.0], [0.8, 0.6, 0.0], [0.0, 0.0, 1.0]]).double()
    both = type(oblique).joined([oblique, oblique.rotated(turn), oblique.rotated(turn.T)])
    protocol = Protocol(both, 50.0, 2.0, 0.8)
    table = cylinder_table(protocol, 5.0)
    unmoved = bundle_attenuation(disks, protocol, table, 0)
    centres, side = disks.centres, disks.cell
    moves = (np.column_stack([centres[:, 0], -centres[:, 1] % side]), centres[:, ::-1].copy())
    for partner, places in zip(protocol.symmetries(), moves, strict=True):
        moved = bundle_attenuation(Disks(places, disks.radii, side), protocol, table, 0)
        torch.testing.assert_close(moved, unmoved[partner], rtol=0, atol=3e-3)  # the mesh
    assert not torch.allclose(unmoved[partner], unmoved, rtol=0, atol=3e-3)
    lopsided = Protocol(oblique.rotated(turn), 50.0, 2.0, 0.8)
    assert lopsided.symmetries()[0] is None
