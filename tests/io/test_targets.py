"""Signals of tables, voxels and regions: what is measured, how noisy it is, what is refused."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from spinmesh.errors import ConfigError, SequenceError, SpinmeshError
from spinmesh.grid import Grid
from spinmesh.inversion import VOXEL_NUMBERS, ShapeMaps
from spinmesh.io import load, save
from spinmesh.io.bids import write_shape_maps
from spinmesh.io.tables import read_signal_table
from spinmesh.io.targets import read_target, read_voxels
from spinmesh.sequence import Acquisition

Z, X = [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]
REPEATS = 40
SIGMA = 4.0
AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


def acquisition(repeats: int = REPEATS) -> Acquisition:
    """b = 0 many times, then b = 1 and 2 ms/um^2."""
    b = [0.0] * repeats + [1.0, 2.0]
    return Acquisition.pgse(b, [Z] * repeats + [Z, X], 8.0, 19.0)


def image(folder: Path, data: np.ndarray, name: str = "dwi.nii.gz", affine=AFFINE) -> Path:
    nib.Nifti1Image(data, affine).to_filename(folder / name)
    return folder / name


@pytest.fixture
def noisy(tmp_path: Path) -> Path:
    """A 3 x 2 x 1 image, S0 = 200, then 100 and 40, with Rician noise of 4."""
    rng = np.random.default_rng(3)
    clean = np.array([200.0] * REPEATS + [100.0, 40.0])
    real, imaginary = rng.normal(scale=SIGMA, size=(2, 3, 2, 1, len(clean)))
    return image(tmp_path, np.hypot(clean + real, imaginary))


def mask(folder: Path, voxels: list[tuple[int, int, int]], shape=(3, 2, 1), **how) -> Path:
    data = np.zeros(shape)
    for voxel in voxels:
        data[voxel] = 1
    return image(folder, data, "mask.nii.gz", **how)


def test_noise_is_estimated_from_the_repeated_unweighted_measurements(noisy: Path) -> None:
    target = read_target(acquisition(), nifti=noisy, voxel=(1, 1, 0))
    # Sigma from 39 degrees of freedom is known to 1/sqrt(78) = 11 %; three times that.
    assert target.sigma == pytest.approx(SIGMA / 200, rel=0.33)


def test_without_a_mask_air_is_left_out(tmp_path: Path, noisy: Path) -> None:
    """Voxels of noise alone, a fiftieth of the others' signal, are none."""
    data = np.asarray(nib.load(noisy).dataobj)
    data[0, 0] = np.abs(np.random.default_rng(1).normal(scale=SIGMA, size=data[0, 0].shape))
    data[2, 1] = np.nan
    targets = read_voxels(acquisition(), image(tmp_path, data, "air.nii.gz"), None)
    assert targets.voxel.tolist() == [[0, 1, 0], [1, 0, 0], [1, 1, 0], [2, 0, 0]]
    # Four voxels of 39 degrees of freedom each: 6 %; three times that.
    assert float(targets.sigma.mean()) == pytest.approx(SIGMA / 200, rel=0.17)


def test_mean_of_a_region_has_the_noise_of_one_voxel_over_root_n(tmp_path, noisy: Path) -> None:
    everywhere = [(i, j, 0) for i in range(3) for j in range(2)]
    roi = mask(tmp_path, everywhere)
    estimated = read_target(acquisition(), nifti=noisy, roi=roi)
    # 6 x 39 degrees of freedom: 4.6 %, three times that.
    assert estimated.sigma == pytest.approx(SIGMA / 200 / 6**0.5, rel=0.14)
    given = read_target(acquisition(), 50.0, nifti=noisy, roi=roi)
    # S0 is known to sigma / sqrt(240) = 0.13 %.
    assert given.sigma == pytest.approx(1 / 50 / 6**0.5, rel=5e-3)
    # 4 standard errors of the mean.
    assert given.attenuation[-2:].tolist() == pytest.approx([0.5, 0.2], abs=4 * 0.02 / 6**0.5)


def test_every_voxel_of_a_mask_is_a_target_of_its_own(tmp_path, noisy: Path) -> None:
    voxels = [(0, 1, 0), (2, 0, 0)]
    targets = read_voxels(acquisition(), noisy, mask(tmp_path, voxels), 50.0)
    assert targets.voxel.tolist() == [list(v) for v in voxels]
    for index, voxel in enumerate(voxels):
        one, other = targets.target(index), read_target(acquisition(), 50.0, None, noisy, voxel)
        torch.testing.assert_close(one.attenuation, other.attenuation, rtol=1e-14, atol=0)
        assert one.sigma == pytest.approx(other.sigma, rel=1e-14)
    assert torch.equal(targets.grid.affine, torch.from_numpy(AFFINE))


def test_shards_of_voxels_are_all_of_them_and_may_be_empty(tmp_path, noisy: Path) -> None:
    targets = read_voxels(acquisition(), noisy, mask(tmp_path, [(0, 1, 0), (2, 0, 0)]), 50.0)
    assert [len(targets.shard(i, 3)) for i in range(3)] == [1, 1, 0]
    assert targets.shard(1, 3).voxel.tolist() == [[2, 0, 0]]


BAD_IMAGES = {
    "mask of another shape": (
        {"roi": {"voxels": [(0, 0, 0)], "shape": (3, 3, 1)}},
        r"mask of shape \(3, 3, 1\) for a series of shape \(3, 2, 1\). Resample",
    ),
    "mask elsewhere": (
        {"roi": {"voxels": [(0, 0, 0)], "affine": np.eye(4)}},
        "affine is not that of the series.*Resample",
    ),
    "empty mask": ({"roi": {"voxels": []}}, "the mask is empty.*another mask"),
    "voxel outside": ({"voxel": (3, 0, 0)}, r"voxel \(3, 0, 0\) is not inside \(3, 2, 1\)"),
    "negative voxel": ({"voxel": (0, 0, -1)}, "`voxel.2` is -1: give a value greater than"),
    "nowhere": ({}, "give one of `voxel"),
    "NaN": (
        {"voxel": (1, 0, 0), "put": (1, 0, 0, 3, np.nan)},
        r"measurement 3 of voxel \(1, 0, 0\) is not finite.*Choose another voxel",
    ),
    "negative magnitude": (
        {"voxel": (1, 0, 0), "put": (1, 0, 0, 41, -1.0)},
        "measurement 41 of voxel .* is negative",
    ),
    "no unweighted signal": (
        {"voxel": (1, 0, 0), "put": (1, 0, 0, slice(0, REPEATS), 0.0)},
        "without unweighted signal; attenuation needs magnitudes >= 0 and S0 > 0",
    ),
    "snr 0": ({"voxel": (0, 0, 0), "snr": 0.0}, "`snr` is 0.0: give"),
    "negative snr": ({"voxel": (0, 0, 0), "snr": -5.0}, "`snr` is -5.0: give"),
    "snr NaN": ({"voxel": (0, 0, 0), "snr": float("nan")}, "`snr` is nan: give"),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_bad_image_is_refused_with_its_remedy(tmp_path, noisy: Path, name: str) -> None:
    given, message = BAD_IMAGES[name]
    given = dict(given)
    if "put" in given:
        *place, value = given.pop("put")
        data = np.asarray(nib.load(noisy).dataobj).copy()
        data[tuple(place)] = value
        image(tmp_path, data)
    if "roi" in given:
        given["roi"] = mask(tmp_path, **given["roi"])
    with pytest.raises(SpinmeshError, match=message):
        read_target(acquisition(), nifti=noisy, **given)


def test_another_count_than_the_scheme_is_refused(noisy: Path) -> None:
    with pytest.raises(SequenceError, match="42 measurements, but its acquisition has 5"):
        read_target(acquisition(3), nifti=noisy, voxel=(0, 0, 0))


def test_noise_that_cannot_be_estimated_is_asked_for(tmp_path) -> None:
    few = image(tmp_path, np.full((1, 1, 1, 5), 10.0))
    with pytest.raises(ConfigError, match=r"too few.*3 of one kind.*Give `snr`"):
        read_target(acquisition(3), nifti=few, voxel=(0, 0, 0))
    equal = image(tmp_path, np.full((1, 1, 1, 12), 10.0))
    with pytest.raises(ConfigError, match=r"are all equal.*Give `snr`"):
        read_target(acquisition(10), nifti=equal, voxel=(0, 0, 0))


TABLE = "b_s_per_mm2,gx,gy,gz,delta_ms,Delta_ms,attenuation\n"
ROWS = ["0,0,0,0,8,19,1", "1000,0,0,1,8,19,0.5", "2000,1,0,0,8,19,0.25"]


def test_table_of_the_simulator_is_compared_with_the_acquisition(tmp_path) -> None:
    path = tmp_path / "s.csv"
    path.write_text(TABLE + "\n".join(ROWS))
    target = read_target(acquisition(1), 30.0, csv=path)
    assert target.attenuation.tolist() == [1, 0.5, 0.25]
    # A gradient and its opposite give one magnitude.
    path.write_text(TABLE + "\n".join([*ROWS[:2], "2000,-1,0,0,8,19,0.25"]))
    assert torch.equal(read_target(acquisition(1), 30.0, csv=path).attenuation, target.attenuation)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("2100,1,0,0,8,19,0.25", "b_s_per_mm2 of measurement 2 is 2100.*says 2000"),
        ("2000,1,0,0,7,19,0.25", "delta_ms of measurement 2 is 7.*says 8"),
        ("2000,1,0,0,8,49,0.25", "Delta_ms of measurement 2 is 49.*says 19"),
        ("2000,0,1,0,8,19,0.25", "direction of measurement 2"),
        ("2000,1,0,0,8,19,none-at-all", "none-at-all.*Every cell of attenuation is a number"),
    ],
    ids=["b", "delta", "Delta", "direction", "words"],
)
def test_table_of_another_acquisition_is_refused(tmp_path, row: str, message: str) -> None:
    (tmp_path / "s.csv").write_text(TABLE + "\n".join([*ROWS[:2], row]))
    with pytest.raises(SpinmeshError, match=message):
        read_target(acquisition(1), 30.0, csv=tmp_path / "s.csv")


def test_one_nameless_column_is_magnitudes(tmp_path) -> None:
    (tmp_path / "s.csv").write_text("200\n100\n50\n")
    magnitude, relative = read_signal_table(tmp_path / "s.csv", acquisition(1))
    assert magnitude.tolist() == [200, 100, 50] and not relative
    target = read_target(acquisition(1), 30.0, csv=tmp_path / "s.csv")
    assert target.attenuation.tolist() == [1, 0.5, 0.25]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as signal file"),
        ("attenuation\n200\n100\n50\n", "attenuation at b = 0 is 200.*Name the column `signal`"),
        ("attenuation\n0\n0.5\n0.2\n", "attenuation at b = 0 is 0"),
        ("signal\n0\n10\n5\n", "needs magnitudes >= 0 and S0 > 0"),
        ("signal\n-3\n10\n5\n", "measurement 0 is negative"),
    ],
    ids=["empty", "magnitudes", "dark", "zero", "negative"],
)
def test_bad_table_is_refused(tmp_path, text: str, message: str) -> None:
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(SpinmeshError, match=message):
        read_target(acquisition(1), 30.0, csv=tmp_path / "s.csv")


def test_maps_keep_place_and_order_in_nifti_and_store(tmp_path) -> None:
    voxel = torch.tensor([[2, 0, 0], [0, 1, 0]])
    numbers = torch.arange(2.0 * len(VOXEL_NUMBERS), dtype=torch.float64).reshape(2, -1)
    numbers[1] = torch.nan
    latents = torch.tensor([[0.1, 0.2], [torch.nan, torch.nan]], dtype=torch.float64)
    maps = ShapeMaps(Grid((3, 2, 1), torch.from_numpy(AFFINE)), voxel, numbers, latents)
    save(maps, tmp_path / "maps.zarr")
    again = load(ShapeMaps, tmp_path / "maps.zarr")
    assert torch.equal(again.voxel, voxel) and again.grid.shape == (3, 2, 1)
    torch.testing.assert_close(again.numbers, numbers, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(again.latents, latents, rtol=0, atol=0, equal_nan=True)

    write_shape_maps(maps, tmp_path / "maps.nii.gz")
    picture = nib.load(tmp_path / "maps.nii.gz")
    assert np.array_equal(picture.affine, AFFINE)
    values = np.asarray(picture.dataobj)
    assert values.shape == (3, 2, 1, len(VOXEL_NUMBERS))
    assert values[2, 0, 0].tolist() == numbers[0].tolist(), "small integers are exact in float32"
    assert np.isnan(values[0, 1, 0]).all(), "inside the mask, but no shape"
    assert not values[1].any(), "outside the mask"
    assert (tmp_path / "maps.json").read_text().count('"name"') == len(VOXEL_NUMBERS)
