"""Cuts are exact, packings do not overlap, and train and held-out substrates never meet."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from spinmesh.bodies import simulate_substrates
from spinmesh.errors import ConfigError
from spinmesh.images import pack_cross_sections, packing
from spinmesh.images.packing import coverage, enclosed_area, outline, rotated
from spinmesh.mesh import (
    SweptDisk,
    TetMesh,
    corner_volumes,
    outer_faces,
    sample_substrates,
    swept_disk,
)
from spinmesh.settings import ImageSettings
from spinmesh.tissue import Tissue

SMALL = ImageSettings(count=8, pixels=16, field_of_view_um=12.0, held_out_fraction=0.25)


def cut(mesh, height):
    return outline(mesh.points.numpy(), outer_faces(mesh.tets.numpy())[0][:, :3], height)


def polygon_area(mesh, height):
    """The other road: the area of each tet's own polygon, summed."""
    total = 0.0
    for corner in mesh.points[mesh.tets[:, :4]].numpy():
        z, found = corner[:, 2] - height, []
        for i in range(4):
            for j in range(i):
                if (z[i] > 0) != (z[j] > 0):
                    found.append(corner[j] + z[j] / (z[j] - z[i]) * (corner[i] - corner[j]))
        if len(found) >= 3:
            x, y = (np.array(found)[:, :2] - np.mean(found, 0)[:2]).T
            order = np.argsort(np.arctan2(y, x))
            x, y = x[order], y[order]
            total += 0.5 * abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())
    return total


@pytest.mark.parametrize("index", [0, 7])
def test_the_outline_encloses_the_polygons_of_all_tets(table, index):
    mesh = table.mesh(index)
    for height in (1.3, 5.0, 8.1):
        # Both are exact; float64 sums over some hundred tets.
        area = enclosed_area(cut(mesh, height))
        np.testing.assert_allclose(area, polygon_area(mesh, height), rtol=1e-9)


def test_stacked_cuts_fill_the_volume(table):
    """Cavalieri: the mean cut area times the height is the volume of the straight-sided mesh."""
    mesh = table.mesh(8)
    low, high = mesh.points[:, 2].min().item(), mesh.points[:, 2].max().item()
    heights = low + (np.arange(400) + 0.5) / 400 * (high - low)
    volume = np.mean([enclosed_area(cut(mesh, h)) for h in heights]) * (high - low)
    # Midpoint rule on a piecewise quadratic area of six layers: error about (1/66)^2 / 10.
    np.testing.assert_allclose(
        volume, corner_volumes(mesh.points, mesh.tets).sum().item(), rtol=1e-4
    )


def test_a_plane_through_mesh_points_is_cut_like_its_neighbours():
    """Layer 3 of 6 lies at z = 5: a whole sheet of faces is in the plane."""
    mesh = swept_disk(SweptDisk(rings=2, layers=6, radius_um=1.5, length_um=10.0, order=1))
    exact = 0.5 * 12 * 1.5**2 * np.sin(2 * np.pi / 12)  # a regular 12-gon
    np.testing.assert_allclose(enclosed_area(cut(mesh, 5.0)), exact, rtol=1e-12)


def test_the_raster_holds_the_exact_area_at_any_angle_and_offset(table):
    mesh, rng, errors = table.mesh(2), np.random.default_rng(0), []
    for _ in range(20):
        shape = rotated(cut(mesh, 4.2), rng.uniform(0, 2 * np.pi))
        picture = coverage(shape, 0.1, rng.random(2), lines=4)
        assert picture.min() >= -1e-12 and picture.max() <= 1 + 1e-12
        errors.append(picture.sum() * 0.1**2 / enclosed_area(shape) - 1)
    # A flat edge of 0.8 um may miss half a line of 0.025 um: 0.01 um^2 of 4.4; on average nothing.
    assert np.abs(errors).max() < 2 * 0.01 / 4.4
    assert abs(np.mean(errors)) < 0.001


def test_a_square_is_drawn_where_it_is():
    corner = np.array([[0.25, 0.5], [2.25, 0.5], [2.25, 1.5], [0.25, 1.5]])
    segments = np.stack([corner, np.roll(corner, -1, 0)], 1)
    picture = coverage(segments, 1.0, np.array([0.25, 0.5]), lines=4)
    np.testing.assert_allclose(picture, [[0.375, 0.5, 0.125]] * 2, atol=1e-12)


def test_free_positions_are_those_without_a_shared_cell():
    rng = np.random.default_rng(1)
    grid = (rng.random((12, 12)) > 0.9).astype(float)
    shape = (rng.random((3, 4)) > 0.3).astype(float)
    free = packing.free_positions(grid, shape)
    for row in range(12):
        for column in range(12):
            window = np.roll(grid, (-row, -column), (0, 1))[:3, :4]
            assert free[row, column] == (not (window * shape).any())


def test_images_hold_their_exact_volume_fraction(image_set):
    pixels = (image_set.images.double().mean((1, 2)) + 1) / 2
    # Scan lines of a cell of 0.19 um: below 1 % of an axon, averaged over several axons.
    torch.testing.assert_close(pixels, image_set.volume_fraction.double(), rtol=0.01, atol=0)
    assert image_set.images.min() >= -1 and image_set.images.max() <= 1 + 1e-6
    # Overshoot of the last axon: at most its own area, pi (2.6 um)^2 of 144 um^2.
    assert image_set.volume_fraction.min() >= 0.2 and image_set.volume_fraction.max() < 0.56


def test_no_cell_holds_two_axons(table, monkeypatch):
    """Coverage above one would mean overlap; the fine grid is seen before it is averaged."""
    monkeypatch.setattr(packing, "SUPERSAMPLING", 1)
    cutter, rng = packing._Cutter(table), np.random.default_rng(2)
    for _ in range(10):
        picture, _, members = packing._pack(cutter, np.arange(12), SMALL.replace(pixels=64), rng)
        assert len(members) > 1 and picture.max() <= 1 + 1e-9


def test_held_out_substrates_stay_out_of_train_images(table, signals, monkeypatch):
    seen: dict[str, set[int]] = {"train": set(), "test": set()}
    original = packing._pack

    def spy(cutter, pool, images, rng):
        packed = original(cutter, pool, images, rng)
        seen["train" if table.split[pool[0]] == "train" else "test"] |= set(packed[2])
        return packed

    monkeypatch.setattr(packing, "_pack", spy)
    result = pack_cross_sections(table, signals, SMALL.replace(count=40), seed=1)
    assert result.split.count("test") == 10
    assert {table.split[i] for i in seen["train"]} == {"train"}
    assert {table.split[i] for i in seen["test"]} == {"test"}


def test_the_condition_is_the_volume_weighted_log_attenuation(table, signals, monkeypatch):
    monkeypatch.setattr(packing, "_pack", lambda *_: (np.zeros((16, 16)), 0.3, [1, 4, 4]))
    condition = pack_cross_sections(table, signals, SMALL, seed=1).condition[0].double()
    weight = signals.unweighted[[1, 4, 4], 0]
    mean = (weight[:, None] * signals.attenuation[[1, 4, 4]]).sum(0) / weight.sum()
    torch.testing.assert_close(condition, mean[[1, 3]].log(), rtol=1e-6, atol=0)  # float32 store


def test_the_same_seed_packs_the_same_images(table, signals):
    first, again, other = (pack_cross_sections(table, signals, SMALL, s).images for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_impossible_requests_say_what_to_change(table, signals):
    def refused(match, settings=SMALL, substrates=table, measured=signals):
        with pytest.raises(ConfigError, match=match):
            pack_cross_sections(substrates, measured, settings, seed=0)

    refused("wider|um wide", SMALL.replace(field_of_view_um=2.0))
    refused("no room", SMALL.replace(volume_fraction=(0.9, 0.95), attempts=2))
    refused("no test substrate", substrates=replace(table, split=("train",) * 12))
    refused("signals for", substrates=table.select("train"))
    refused("no b > 0", measured=replace(signals, acquisition=signals.acquisition.select([0] * 5)))
    with pytest.raises(ConfigError, match="`pixels` is 30"):
        ImageSettings(pixels=30)


def test_a_single_tet_is_cut_into_its_triangle():
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)
    mesh = TetMesh(points, torch.tensor([[0, 1, 2, 3]]), torch.ones(1, dtype=torch.int64))
    np.testing.assert_allclose(enclosed_area(cut(mesh, 0.25)), 0.5 * 0.75**2, rtol=1e-14)


def test_simulated_signals_of_thicker_axons_decay_more(signals):
    """With real signals: across an axon water is free to move as far as the axon is wide."""
    template = swept_disk(SweptDisk(rings=1, layers=4, radius_um=1.0, length_um=8.0))
    split = {"train": 0.5, "test": 0.5}
    thin, thick = (
        sample_substrates(template, {"straight": 2}, {"radius": (r, r)}, split, 1)
        for r in (0.6, 1.8)
    )
    across = signals.acquisition.select([1, 3])  # both along x
    means = []
    for substrates in (thin, thick):
        simulated = simulate_substrates(substrates, Tissue.uniform(2.0), across)
        means.append(pack_cross_sections(substrates, simulated, SMALL, seed=1).condition.mean(0))
    assert (means[1] < means[0]).all() and (means[0] < 0).all()
    assert means[1][1] < means[1][0]  # the higher b decays more
