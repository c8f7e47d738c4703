"""The series any dMRI tool opens says what the field holds: directions, fractions, noise."""

import json
import math

import nibabel as nib
import numpy as np
import pytest
import torch
from dipy.core.gradients import gradient_table
from dipy.io.gradients import read_bvals_bvecs
from dipy.reconst.dti import TensorModel
from scipy.spatial.transform import Rotation

from spinmesh.analytic import free
from spinmesh.bloch_torrey import Basis
from spinmesh.errors import ConfigError
from spinmesh.io import load, save
from spinmesh.io.acquisitions import fsl_axes
from spinmesh.io.bids import write_bids
from spinmesh.mesh import SweptDisk, sample_substrates, swept_disk
from spinmesh.phantom import (
    Field,
    Phantom,
    fibre_field,
    grid_affine,
    simulate_phantom,
)
from spinmesh.sequence import Acquisition, turned_to
from spinmesh.settings.phantom import FibreField, Filling, PhantomSettings

OBLIQUE = torch.tensor([0.48, 0.64, 0.60], dtype=torch.float64)
BASIS = Basis(blocks=2)


def sphere_directions(count):
    """A Fibonacci spiral over the half sphere, the same every time."""
    z = (np.arange(count) + 0.5) / count
    angle = np.pi * (1 + 5**0.5) * np.arange(count)
    return np.column_stack(
        [np.cos(angle) * (1 - z**2) ** 0.5, np.sin(angle) * (1 - z**2) ** 0.5, z]
    )


ACQUISITION = Acquisition.pgse(
    [0.0] + [1.0] * 20, np.concatenate([np.zeros((1, 3)), sphere_directions(20)]), 10.0, 25.0
)


@pytest.fixture(scope="module")
def substrates():
    template = swept_disk(SweptDisk(rings=1, layers=4, radius_um=1.5, length_um=30.0))
    return sample_substrates(template, {"straight": 3}, {"radius": (1.0, 2.0)}, {"train": 1.0}, 0)


def field_of(fractions, directions, affine=None):
    """Voxels in a row: fractions (voxel, material) and directions (voxel, bundle, 3)."""
    fractions, directions = (
        torch.as_tensor(x, dtype=torch.float64) for x in (fractions, directions)
    )
    affine = grid_affine((len(fractions), 1, 1), (2.0, 2.0, 2.5)) if affine is None else affine
    names = (*(f"bundle {i + 1}" for i in range(directions.shape[1])), "cells", "water")
    return Field(fractions[:, None, None], directions[:, None, None], affine, names)


def simulated(field, substrates, snr=math.inf, seed=0, **filling):
    return simulate_phantom(field, substrates, Filling(**filling), ACQUISITION, BASIS, snr, seed)


def affines():
    turn = torch.from_numpy(Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix())
    for name in ("RAS", "LAS", "LPS"):
        straight = grid_affine((1, 1, 1), (2.0, 1.5, 3.0), name)
        tilted = straight.clone()
        tilted[:3, :3] = turn @ straight[:3, :3]
        yield pytest.param(straight, id=name)
        yield pytest.param(tilted, id=f"{name}, oblique")


@pytest.mark.parametrize("affine", list(affines()))
def test_dipy_finds_the_fibre_in_the_files_whatever_the_grid(affine, substrates, tmp_path):
    """From the files alone, by FSL's definition of a bvec, written here once more."""
    field = field_of([[1.0, 0.0, 0.0]], OBLIQUE.reshape(1, 1, 3), affine)
    write_bids(simulated(field, substrates), tmp_path / "bids", "01")
    stem = str(tmp_path / "bids/sub-01/dwi/sub-01_dwi")
    image = nib.load(stem + ".nii.gz")
    b, vectors = read_bvals_bvecs(stem + ".bval", stem + ".bvec")
    axes = image.affine[:3, :3] / nib.affines.voxel_sizes(image.affine)
    if np.linalg.det(axes) > 0:
        vectors[:, 0] *= -1
    table = gradient_table(b, bvecs=vectors @ axes.T, b0_threshold=1)
    fit = TensorModel(table).fit(np.asarray(image.dataobj)[0, 0, 0])
    angle = np.degrees(np.arccos(min(1.0, abs(fit.evecs[:, 0] @ OBLIQUE.numpy()))))
    # No noise; a coarse cylinder of 6 sides and a tensor fitted to a signal that is none.
    assert angle < 3
    assert fit.fa > 0.5
    np.testing.assert_allclose(nib.affines.voxel_sizes(image.affine), [2.0, 1.5, 3.0], rtol=1e-6)
    assert image.header.get_xyzt_units()[0] == "mm"


def test_bvecs_keep_angles_and_lengths():
    world = ACQUISITION.direction.numpy()
    vectors = world @ fsl_axes(grid_affine((4, 4, 4), (1.0, 2.0, 3.0)).numpy())
    np.testing.assert_allclose(vectors @ vectors.T, world @ world.T, atol=1e-12)
    # RAS has a positive determinant: x counts from the other end, y and z do not.
    np.testing.assert_allclose(vectors, world * [-1, 1, 1], atol=1e-12)


def test_turning_the_fibre_is_turning_the_gradient():
    back = torch.tensor([0.0, 0, -1]).double()
    rotation = turned_to(torch.stack([OBLIQUE, -OBLIQUE, back]))
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).double().expand(3, 3, 3))
    torch.testing.assert_close(rotation[..., 2], torch.stack([OBLIQUE, -OBLIQUE, back]))
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(3).double())


def test_a_crossing_is_the_sum_of_its_bundles_by_volume(substrates):
    """Voxels of either bundle, of cells and of water alone, and one that holds all four."""
    x, y = torch.eye(3, dtype=torch.float64)[:2]
    part = [0.4, 0.25, 0.2, 0.1]
    fractions = torch.cat([torch.eye(4), torch.tensor([part])]).double()
    directions = torch.stack([x, y]).expand(5, 2, 3)
    # One straight round axon each: its turn about itself, random in each voxel, changes nothing but
    # for the mesh's six sides.
    found = simulated(field_of(fractions, directions), substrates, axons=1).noise_free[:, 0, 0]
    expected = torch.tensor(part).double() @ found[:4]
    torch.testing.assert_close(found[4], expected, rtol=0, atol=0.5)  # of 1000, the six sides
    assert (found[0] - found[1]).abs().max() > 50, "the two bundles differ"


def test_unweighted_signals_follow_density_t2_and_the_scale(substrates):
    field = field_of(np.eye(3), np.tile([0.0, 0, 1], (3, 1, 1)))
    filling = {"amplitude": 500.0}
    phantom = simulated(field, substrates, **filling)
    default, echo = Filling(), ACQUISITION.sequences[0].echo_time
    exact = [
        500 * material.density * math.exp(-echo / material.t2_ms)
        for material in (default.fibre, default.cells, default.water)
    ]
    np.testing.assert_allclose(phantom.noise_free[:, 0, 0, 0], exact, rtol=1e-8)
    # And free water decays as exp(-bD), whatever the direction.
    water = phantom.noise_free[2, 0, 0] / phantom.noise_free[2, 0, 0, 0]
    torch.testing.assert_close(water, free(ACQUISITION, 3.0), rtol=1e-10, atol=0)


def test_noise_is_rician_with_the_mean_of_a_floor_in_air(substrates):
    fractions = np.zeros((3000, 3))
    fractions[0, 0] = 1.0
    phantom = simulated(
        field_of(fractions, np.tile([0.0, 0, 1], (3000, 1, 1))), substrates, snr=20.0
    )
    fibre = float(phantom.noise_free[0, 0, 0, 0])
    np.testing.assert_allclose(phantom.sigma, fibre / 20, rtol=1e-6)
    air = phantom.series[1:] / phantom.sigma
    # Rayleigh: mean sqrt(pi/2), standard deviation 0.655; 63,000 values know the mean to 0.0026.
    np.testing.assert_allclose(air.mean(), math.sqrt(math.pi / 2), atol=4 * 0.0026)
    np.testing.assert_allclose(air.std(), math.sqrt(2 - math.pi / 2), rtol=0.015)
    again = simulated(phantom.field, substrates, snr=20.0)
    assert torch.equal(again.series, phantom.series)
    other = simulated(phantom.field, substrates, snr=20.0, seed=1)
    assert not torch.equal(other.series, phantom.series)


def test_dispersion_lowers_the_anisotropy(substrates):
    direction = np.tile(OBLIQUE.numpy(), (40, 1, 1))
    field = field_of(np.tile([1.0, 0, 0], (40, 1)), direction)

    def contrast(dispersion):
        mean = (
            simulated(field, substrates, dispersion_rad=dispersion).noise_free[:, 0, 0, 1:].mean(0)
        )
        return float(mean.max() / mean.min())

    parallel, little, much = (contrast(angle) for angle in (0.0, 0.2, 0.5))
    assert parallel > 1.01 * little > 1.05 * much


CROSS = FibreField(
    bundles_mm=(((-20.0, 0.0, 0.0), (20.0, 0.0, 0.0)), ((0.0, -20.0, 0.0), (0.0, 20.0, 0.0))),
    bundle_radius_mm=4.0,
    extent_mm=(18.0, 18.0, 8.0),
)


def test_a_field_has_a_crossing_partial_volumes_and_air():
    affine = grid_affine((20, 20, 5), (2.0, 2.0, 2.0))
    field = fibre_field(CROSS, (20, 20, 5), affine)
    total = field.fractions.sum(-1)
    assert total.max() <= 1 + 1e-12 and float(total[0, 0, 0]) == 0
    inside = total > 1 - 1e-9
    assert inside.any() and ((total > 0) & ~inside).any()
    # Voxels whose centres lie within a voxel of the origin: both bundles, half each.
    middle = field.fractions[9:11, 9:11, 2]
    torch.testing.assert_close(middle[..., :2], torch.full((2, 2, 2), 0.5).double())
    torch.testing.assert_close(field.direction[9, 9, 2], torch.eye(3).double()[:2])
    # Both tubes' volume: 2 pi r^2 L less the crossing of equal cylinders (16/3 r^3), at samples of
    # 0.5 mm; their ends are cut by the ellipsoid.
    volume = float(field.fractions[..., :2].sum()) * 8
    length = 2 * 18 * (1 - (4 / 18) ** 2 / 4 - (4 / 8) ** 2 / 4) ** 0.5
    assert abs(volume / (2 * np.pi * 16 * length - 16 / 3 * 64) - 1) < 0.05


def test_a_bent_bundle_turns_its_direction():
    curve = ((-15.0, 0.0, 0.0), (0.0, 20.0, 0.0), (15.0, 0.0, 0.0))
    bent = FibreField(
        bundles_mm=(curve,), bundle_radius_mm=3.0, extent_mm=(20.0, 20.0, 8.0), samples=2
    )
    field = fibre_field(bent, (20, 20, 3), grid_affine((20, 20, 3), (2.0, 2.0, 2.0)))
    slope = field.direction[..., 0, 1][:, :, 1]
    held = field.fractions[:, :, 1, 0] > 0.5
    left, right = slope[:9][held[:9]], slope[11:][held[11:]]
    assert left.min() > 0.1 and right.max() < -0.1


def test_the_folder_is_bids_and_the_store_is_the_same_phantom(substrates, tmp_path):
    field = fibre_field(CROSS, (6, 6, 2), grid_affine((6, 6, 2), (6.0, 6.0, 6.0), "LAS"))
    phantom = simulated(field, substrates, snr=30.0)
    save(phantom, tmp_path / "phantom.zarr")
    back = load(Phantom, tmp_path / "phantom.zarr")
    write_bids(back, tmp_path / "bids", "demo")
    folder = tmp_path / "bids/sub-demo/dwi"
    names = {path.name for path in folder.iterdir()}
    assert names == {f"sub-demo_dwi{end}" for end in (".nii.gz", ".bval", ".bvec", ".json")}
    image = nib.load(folder / "sub-demo_dwi.nii.gz")
    np.testing.assert_array_equal(image.get_fdata(), phantom.series.float().double())
    np.testing.assert_allclose(image.affine, field.affine, rtol=1e-6)
    beside = json.loads((folder / "sub-demo_dwi.json").read_text())
    assert {"EchoTime", "Manufacturer", "SmallDelta", "LargeDelta"} <= set(beside)
    np.testing.assert_allclose([beside["EchoTime"], beside["LargeDelta"][1]], [0.035, 0.025])
    about = json.loads((tmp_path / "bids/dataset_description.json").read_text())
    assert {"Name", "BIDSVersion", "DatasetType"} <= set(about)
    truth = nib.load(
        tmp_path / "bids/derivatives/truth/sub-demo/dwi/sub-demo_desc-fractions_probseg.nii.gz"
    )
    np.testing.assert_allclose(truth.get_fdata(), field.fractions, atol=1e-7)
    write_bids(phantom, tmp_path / "again", "demo")
    first, again = (
        (tmp_path / d / "sub-demo/dwi/sub-demo_dwi.nii.gz").read_bytes() for d in ("bids", "again")
    )
    assert first == again, "equal phantoms are equal files"


def test_impossible_requests_say_what_to_change(substrates, tmp_path):
    with pytest.raises(ConfigError, match="at most 1"):
        field_of([[0.9, 0.2, 0.0]], np.zeros((1, 1, 3)))
    with pytest.raises(ConfigError, match=r"`axon_fraction` is 1\.2"):
        Filling(axon_fraction=1.2)
    field = field_of([[0.0, 0.0, 1.0]], np.zeros((1, 1, 3)))
    with pytest.raises(ConfigError, match="snr is 0"):
        simulated(field, substrates, snr=0.0)
    with pytest.raises(ConfigError, match="`label` is 'sub-01'"):
        PhantomSettings(label="sub-01")
