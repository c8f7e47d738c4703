"""Label volumes: each label a compartment, interfaces shared, voxels' steps gone."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import xarray as xr
import zarr
from numpy import ndarray
from PIL import Image
from typer.testing import CliRunner

from spinmesh import cli, simulate
from spinmesh.analytic import sphere
from spinmesh.errors import ConfigError, MeshError, StoreError
from spinmesh.io.volumes import read_labels
from spinmesh.meshing.labels import mesh_labels, voxel_tets, wrapped
from spinmesh.meshing.tets import boundary, quality, refilled, smoothed, volumes
from spinmesh.sequence import Acquisition
from spinmesh.tissue import Tissue

pytest.importorskip("mmgpy")


def nested_balls(radius: float) -> ndarray:
    """Label 1 in a ball, 2 in one of half its radius beside the middle, 0 outside (in voxels)."""
    count = int(2 * radius + 6)
    grid = np.moveaxis(np.indices((count,) * 3), 0, -1) - (count - 1) / 2 + 0.13
    labels = (np.linalg.norm(grid, axis=-1) < radius).astype(np.int64)
    labels[np.linalg.norm(grid - [0.3 * radius, 0, 0], axis=-1) < radius / 2] = 2
    return labels


def area(points: ndarray, faces: ndarray) -> float:
    a, b, c = np.moveaxis(points[faces], 1, 0)
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def test_voxels_are_six_conforming_tets_of_their_volume() -> None:
    """The boundary of all is the squares that voxels show: nothing hangs in between."""
    labels = nested_balls(3.0)
    points, tets, label = voxel_tets(labels)
    assert volumes(points, tets).sum() == pytest.approx((labels > 0).sum(), rel=1e-12)
    for each in (1, 2):
        volume = volumes(points, tets)[label == each].sum()
        assert volume == pytest.approx((labels == each).sum(), rel=1e-12)
    shown = sum(int(np.abs(np.diff(labels > 0, axis=axis)).sum()) for axis in range(3))
    assert area(points, boundary(tets)) == pytest.approx(shown, rel=1e-12)


def test_smoothing_takes_steps_and_leaves_the_volume() -> None:
    """A ball's steps have 3/2 of its area; its volume stays to a percent; fixed corners stay."""
    points, tets, label = voxel_tets((nested_balls(8.0) > 0).astype(np.int64))
    fixed = points[:, 0] < points[:, 0].min() + 1
    there = smoothed(points, tets, label, fixed, 0.02)
    assert volumes(there, tets).sum() == pytest.approx(volumes(points, tets).sum(), rel=0.01)
    assert area(there, boundary(tets)) < 0.75 * area(points, boundary(tets))
    np.testing.assert_array_equal(there[fixed], points[fixed])
    assert quality(there, tets).min() > 0.019


@pytest.mark.slow
def test_labels_share_an_interface_and_keep_their_volume() -> None:
    """The inner ball's whole surface is inside the outer one's; volume to 2 %, area to 3 %."""
    labels = nested_balls(8.0)
    made = mesh_labels(labels, np.diag([0.5, 0.5, 0.5, 1]), "cell")
    points, tets = made.mesh.points.numpy(), made.mesh.tets.numpy()
    label = made.mesh.compartment.numpy()
    assert made.mesh.labels == (1, 2) and quality(points, tets).min() >= 0.1
    outer, inner, rest = (boundary(tets), boundary(tets[label == 2]), boundary(tets[label == 1]))
    total = area(points, outer) + area(points, inner)
    assert area(points, rest) == pytest.approx(total, rel=1e-12)
    counted = (labels > 0).sum() * 0.5**3
    assert volumes(points, tets).sum() == pytest.approx(counted, rel=0.02)
    assert area(points, outer) == pytest.approx(4 * np.pi * 16, rel=0.03)
    assert "label 2 has" in " ".join(made.notes)


def test_parts_get_their_volume_back_and_the_smaller_moves() -> None:
    """After smoothing balls of 6 and 2.4 voxels lack 3 % and more; then what rounds leave."""
    labels = nested_balls(6.0)
    labels[np.linalg.norm(np.moveaxis(np.indices(labels.shape), 0, -1) - 8, axis=-1) < 2.4] = 2
    points, tets, label = voxel_tets(labels)
    part = label - 1
    volume, free = np.bincount(part, volumes(points, tets)), np.zeros(len(points), dtype=bool)
    there = smoothed(points, tets, label, free, 0.02)
    lost = np.bincount(part, volumes(there, tets)) / volume - 1
    again = np.bincount(part, volumes(refilled(there, tets, part, volume, free, 0.02), tets))
    assert np.abs(lost).max() > 5e-3
    np.testing.assert_array_less(np.abs(again / volume - 1), 0.2 * np.abs(lost).max())


@pytest.mark.slow
def test_a_ball_of_voxels_has_the_signal_of_the_ball() -> None:
    """r 5 um in 0.5 um voxels, half as fine as the target's: within 1 % of S0."""
    grid = np.moveaxis(np.indices((24,) * 3), 0, -1) - 11.5 + [0.13, 0.07, 0.21]
    labels = (np.linalg.norm(grid, axis=-1) < 10).astype(np.int64)
    made = mesh_labels(labels, np.diag([0.5, 0.5, 0.5, 1]), "ball")
    b = np.linspace(0, 6, 5)
    acquisition = Acquisition.pgse(b, np.tile([[0.0, 0, 1]], (5, 1)), 10.0, 40.0)
    signal = simulate(made.mesh, Tissue.uniform(2.0), acquisition).attenuation[0].numpy()
    exact = np.abs(np.asarray(sphere(acquisition, 5.0, 2.0)))
    np.testing.assert_allclose(signal, exact / exact[0], atol=0.01)


@pytest.mark.slow
def test_water_fills_the_box_of_the_volume() -> None:
    labels = nested_balls(4.0)
    made = mesh_labels(labels, np.eye(4), "cell", box=True)
    assert made.names[3] == "water"
    points, tets = made.mesh.points.numpy(), made.mesh.tets.numpy()
    # The walls are flat, and mmg keeps ridges: the box to rounding.
    assert volumes(points, tets).sum() == pytest.approx(labels.size, rel=1e-9)


def test_a_wrap_is_the_voxels_within_its_margin_and_what_they_close() -> None:
    """A voxel and a hollow cube: balls in um, whatever the voxels' sides; a cleft is filled."""
    affine = np.diag([0.5, 1.0, 2.0, 1.0])
    labels = np.ones((1, 1, 1), dtype=np.int64)
    there, moved = wrapped(labels, affine, 4.0, "voxel")
    place = np.argwhere(there > 0) @ moved[:3, :3] + moved[:3, 3]
    assert np.linalg.norm(place, axis=1).max() <= 4.0 and there.max() == 2
    # As many as lattice points of a cell of 1 um^3 in a ball of 4 um: 268 and a tenth of its area.
    assert (there > 0).sum() == pytest.approx(4 / 3 * np.pi * 4**3, abs=20)
    shell = np.ones((9, 9, 9), dtype=np.int64)
    shell[1:-1, 1:-1, 1:-1] = 0
    assert (wrapped(shell, np.eye(4), 1.0, "shell")[0][2:-2, 2:-2, 2:-2] > 0).all()
    with pytest.raises(ConfigError, match="at least one voxel"):
        wrapped(labels, affine, 1.5, "voxel")


@pytest.mark.slow
def test_a_wrap_of_labels_is_one_more_compartment() -> None:
    """A ball of 3 um in a wrap of 2 more: both to what voxels of 1 um can say."""
    grid = np.moveaxis(np.indices((7,) * 3), 0, -1) - 3
    ball = (np.linalg.norm(grid, axis=-1) <= 3).astype(np.int64)
    made = mesh_labels(ball, np.eye(4), "cell", tight=2.0)
    assert made.names[2] == "water" and not any("WARNING" in note for note in made.notes)
    points, tets = made.mesh.points.numpy(), made.mesh.tets.numpy()
    radius = np.linalg.norm(points[np.unique(boundary(tets))] - 3, axis=1)
    assert radius.mean() == pytest.approx(5, abs=0.5) and np.ptp(radius) < 1.2


@pytest.mark.slow
def test_labels_that_touch_in_a_corner_are_joined_or_refused_by_place() -> None:
    labels = np.zeros((4, 4, 4), dtype=np.int64)
    labels[1, 1, 1] = labels[2, 2, 2] = 1
    with pytest.raises(MeshError, match=r"first at 1\.5, 1\.5, 1\.5\); 6 more would join"):
        mesh_labels(labels, np.eye(4), "cell")
    with pytest.raises(MeshError, match="no voxel"):
        mesh_labels(np.zeros((4, 4, 4), dtype=np.int64), np.eye(4), "cell")
    larger = np.zeros((20, 14, 14), dtype=np.int64)
    larger[:10], larger[10, 0, 0], larger[11, 1, 0] = 1, 1, 1
    made = mesh_labels(larger, np.eye(4), "cell")
    assert "voxels filled where others met" in made.notes[0]


def image(folder: Path, values: ndarray, unit: str = "micron") -> Path:
    volume = nib.Nifti1Image(values, np.diag([0.5, 0.5, 0.5, 1]))
    volume.header.set_xyzt_units(unit)
    nib.save(volume, folder / "labels.nii.gz")
    return folder / "labels.nii.gz"


VALUES = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)  # z, y, x
OME = {
    "axes": [{"name": "t"}, *({"name": name, "unit": "nanometer"} for name in "zyx")],
    "datasets": [
        {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 400, 200, 100]}]}
    ],
}


def ome_zarr(folder: Path) -> Path:
    """An image with one set of labels, as OME-NGFF 0.5 has them, with one time."""
    image = zarr.open_group(folder / "image.zarr", mode="w")
    image.attrs["ome"] = {"version": "0.5", "multiscales": [OME]}
    labels = image.create_group("labels")
    labels.attrs["ome"] = {"labels": ["cells"]}
    cells = labels.create_group("cells")
    cells.attrs["ome"] = {"version": "0.5", "multiscales": [OME]}
    cells.create_array("0", data=VALUES[None])
    return folder / "image.zarr"


def plain_zarr(folder: Path) -> Path:
    """An array of Zarr 2 with a name for each axis, beside which the sizes stand."""
    array = zarr.open_array(folder / "a.zarr", mode="w", shape=(2, 3, 4), dtype="u2", zarr_format=2)
    array[...] = VALUES
    about = {"_ARRAY_DIMENSIONS": ["z", "y", "x"], "voxel_size": [0.4, 0.2, 0.1], "unit": "um"}
    array.attrs.update(about)
    return folder / "a.zarr"


def tiff(folder: Path, words: str, **options: object) -> Path:
    pages = [Image.fromarray(page) for page in VALUES]
    tags = {270: words.encode(), 282: 10.0, 283: 5.0}
    pages[0].save(
        folder / "a.tif", save_all=True, append_images=pages[1:], tiffinfo=tags, **options
    )
    return folder / "a.tif"


def imagej(folder: Path) -> Path:
    words = "ImageJ=1.54\nimages=2\nslices=2\nunit=\\u00B5m\nspacing=0.4\n"
    return tiff(folder, words, compression="tiff_lzw")


def ome_tiff(folder: Path) -> Path:
    x, z = (
        'PhysicalSizeX="100" PhysicalSizeXUnit="nm"',
        'PhysicalSizeZ="0.4" PhysicalSizeZUnit="µm"',
    )
    return tiff(folder, f'<OME><Pixels SizeC="1" {x} PhysicalSizeY="0.2" {z}/></OME>')


@pytest.mark.parametrize("written", [ome_zarr, plain_zarr, imagej, ome_tiff])
def test_labels_of_zarr_and_tiff_have_axes_and_sizes_of_their_own(written, tmp_path: Path) -> None:
    path = written(tmp_path)
    labels, affine = read_labels(path)
    np.testing.assert_array_equal(labels, VALUES.transpose(2, 1, 0))
    np.testing.assert_allclose(affine, np.diag([0.1, 0.2, 0.4, 1]), rtol=1e-12)
    checked = CliRunner().invoke(cli.app, ["mesh", "--check", str(path), "--scale-to-um", "2"])
    assert "4 x 3 x 2 voxels of 0.2 x 0.4 x 0.8 um" in checked.output


def test_a_mask_that_is_shown_black_on_white_is_read_as_it_is_stored(tmp_path: Path) -> None:
    mask = Image.fromarray(np.array([[0, 255, 7]], dtype=np.uint8))
    mask.save(tmp_path / "mask.tif", tiffinfo={262: 0})
    assert bytes([255, 0, 248]) in (tmp_path / "mask.tif").read_bytes()
    labels, _ = read_labels(tmp_path / "mask.tif", 1.0)
    np.testing.assert_array_equal(labels.ravel(), [255, 0, 248])


def test_labels_of_no_size_or_several_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a\.tif: does not say how large its voxels are"):
        read_labels(tiff(tmp_path, "unit=pixel\nspacing=1\n"))
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif", 0.3)[1], np.diag([0.3] * 3 + [1]))
    with pytest.raises(ConfigError, match="channels or times"):
        read_labels(tiff(tmp_path, "ImageJ=1.54\nchannels=2\n"))
    with pytest.raises(ConfigError, match="2 pages of the stack's are there"):
        read_labels(tiff(tmp_path, "ImageJ=1.54\nimages=200\n"))
    path = ome_zarr(tmp_path)
    zarr.open_group(path / "labels").create_group("nuclei")
    with pytest.raises(
        ConfigError, match=r"2 label volumes \(cells, nuclei\). Give the path of one"
    ):
        read_labels(path)
    assert read_labels(path / "labels/cells")[0].shape == (4, 3, 2)
    plain = zarr.open_array(plain_zarr(tmp_path))
    del plain.attrs["unit"]
    with pytest.raises(ConfigError, match=r"the unit of its voxels of 0.1 \?, 0.2 \?, 0.4 \?"):
        read_labels(tmp_path / "a.zarr")
    np.testing.assert_allclose(read_labels(tmp_path / "a.zarr", 2.0)[1][0, 0], 0.2)
    plain.attrs["unit"] = "furlong"
    with pytest.raises(ConfigError, match="furlong; give three sides"):
        read_labels(tmp_path / "a.zarr")
    (tmp_path / "a.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:300])
    with pytest.raises(StoreError, match="cannot be read as TIFF stack"):
        read_labels(tmp_path / "a.tif")


@pytest.mark.parametrize(("unit", "um"), [("micron", 0.5), ("mm", 500.0), ("unknown", 500.0)])
def test_lengths_are_those_of_the_header(tmp_path: Path, unit: str, um: float) -> None:
    _, affine = read_labels(image(tmp_path, nested_balls(2.0).astype(np.uint8), unit))
    np.testing.assert_allclose(affine[:3, :3], um * np.eye(3), rtol=1e-6)


def test_an_image_is_no_label_volume(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"voxel \(0, 0, 0\) is 0.5"):
        read_labels(image(tmp_path, np.full((3, 3, 3), 0.5, dtype=np.float32)))
    with pytest.raises(ConfigError, match="3 axes"):
        read_labels(image(tmp_path, np.zeros((3, 3, 3, 2), dtype=np.uint8)))


def test_a_volume_of_no_cells_size_is_questioned(tmp_path: Path) -> None:
    """Voxels of half a millimetre, as in an image of a head; and a scale that would mirror it."""
    path = str(image(tmp_path, nested_balls(6.0).astype(np.uint8), "mm"))
    words = ["mesh", path, "--out", str(tmp_path / "a.zarr")]
    assert "Give scale_to_um" in str(CliRunner().invoke(cli.app, words).exception)
    done = CliRunner().invoke(cli.app, [*words, "--scale-to-um", "-1"])
    assert isinstance(done.exception, ConfigError) and not (tmp_path / "a.zarr").exists()


@pytest.mark.slow
def test_command_meshes_a_volume_alone(tmp_path: Path) -> None:
    path = str(image(tmp_path, nested_balls(4.0).astype(np.uint8)))
    out = tmp_path / "made.zarr"
    done = CliRunner().invoke(cli.app, ["mesh", path, "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert any("label 1 has" in note for note in xr.open_zarr(out).attrs["notes"])
    seen = CliRunner().invoke(cli.app, ["mesh", "--check", path])
    assert seen.exit_code == 0 and "label 2:" in seen.output
    refused = CliRunner().invoke(cli.app, ["mesh", path, path, "--out", str(tmp_path / "b.vtu")])
    assert "which no other surface meets" in str(refused.exception)
