"""Maps of an image: other protocols refused by name, flags, files in and out."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from spinmesh.cli import app
from spinmesh.errors import ConfigError, SpinmeshError
from spinmesh.grid import Grid
from spinmesh.io import load, save
from spinmesh.io.bids import map_series, series_files, write_bids, write_posterior
from spinmesh.maps import MapModel, PosteriorMaps, Voxels, calibrate
from spinmesh.maps.model import FLAGS
from spinmesh.maps.volume import matched, posterior_maps
from spinmesh.maps.voxels import QUANTITIES, draw_voxels, simulate_measured
from spinmesh.phantom import known_phantom
from spinmesh.report.volumes import plot_calibration, plot_maps
from spinmesh.sequence import Acquisition
from spinmesh.settings.maps import MapPhantom
from tests.maps.conftest import ACQUISITION


def pgse(change: float = 1.0, delta: float = 8.0, later: float = 0.0) -> Acquisition:
    """The demo's protocol with b times `change`, and other times."""
    times = ACQUISITION.durations("Delta") + later
    return Acquisition.pgse(
        change * ACQUISITION.b_value, ACQUISITION.direction, delta, times, TE=70.0
    )


def test_the_protocol_of_training_is_found_in_any_order():
    """A shell's b may be off by 2 %; measurements that the model does not know are left out."""
    order = torch.randperm(len(ACQUISITION), generator=torch.Generator().manual_seed(1))
    extra = Acquisition.pgse([0.5] * 3, np.eye(3), 8.0, 19.0, TE=70.0)
    mixed = Acquisition.joined([pgse(1.015).select(order), extra])
    found, columns = matched(ACQUISITION, mixed)
    assert len(found) == len(ACQUISITION) and columns.max() < len(order)
    torch.testing.assert_close(found.b_value.sort().values, ACQUISITION.b_value.sort().values)
    torch.testing.assert_close(found.direction, mixed.direction[columns], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("acquisition", "message"),
    [
        (
            pgse(1.1),
            "0 measurements of b = 1000 s/mm.2, .* trained with 30. The series has b = 1100",
        ),
        (pgse(delta=9.0), r"delta = 8 ms.*The series has .*delta = 9 ms"),
        (pgse(later=1.0), r"Delta = 19 ms.*The series has .*Delta = 20 ms"),
        (ACQUISITION.select(torch.arange(4, 186)), "2 measurements of unweighted.* with 6"),
        (ACQUISITION.select(torch.arange(20, 186)), "unweighted"),
    ],
    ids=["b", "delta", "Delta", "few unweighted", "none unweighted"],
)
def test_another_protocol_is_refused_by_name(acquisition, message):
    with pytest.raises(ConfigError, match=message):
        matched(ACQUISITION, acquisition)


def test_voxels_outside_the_training_are_flagged_and_not_answered(model):
    """Other noise; signals that rise with b; twice the noise that is said: the misfit."""
    voxels = draw_voxels(model.kernels.tissue, 60, 1, 9)
    attenuation = simulate_measured(model.kernels, voxels, 9)
    plain = model.answers(ACQUISITION, attenuation, 1 / voxels.snr)
    # A thousandth each, for two limits, of 60.
    assert (plain.flags & 7 > 0).sum() <= 2
    answered = plain.flags & 7 == 0
    assert (plain.low <= plain.median)[answered].all()
    quiet = model.answers(ACQUISITION, attenuation, 1 / voxels.snr / 20)
    assert (quiet.flags & FLAGS["noise_out_of_range"] > 0)[voxels.snr > 5.1].all()
    rising = torch.where(ACQUISITION.unweighted, 1.0, 1.2 - attenuation).abs()
    strange = model.answers(ACQUISITION, rising, 1 / voxels.snr)
    assert (strange.flags & FLAGS["unlike_training"] > 0).double().mean() > 0.9
    assert torch.isnan(strange.median[strange.flags & 7 > 0]).all()
    truth = voxels.quantities[:, None].expand(-1, 2, -1)
    crossed = model.chi2(ACQUISITION, rising, 1 / voxels.snr, truth)
    true = model.chi2(ACQUISITION, attenuation, 1 / voxels.snr, truth)
    assert true.median() < 1.5 < 10 < crossed.median()


def test_where_the_data_say_nothing_the_voxel_is_flagged(model):
    """A model whose prior is said to be a hundredth as wide determines nothing."""
    narrow = replace(model, prior_spread=model.prior_spread / 100)
    voxels = draw_voxels(model.kernels.tissue, 5, 1, 9)
    attenuation = simulate_measured(model.kernels, voxels, 9)
    flags = narrow.answers(ACQUISITION, attenuation, 1 / voxels.snr).flags
    assert (flags & FLAGS["tissue_undetermined"] > 0).all()


def test_voxels_without_signal_stay_empty(model):
    attenuation = simulate_measured(model.kernels, draw_voxels(model.kernels.tissue, 3, 1, 1), 1)
    sigma = torch.tensor([0.02, torch.nan, 0.02]).double()
    grid, voxel = Grid((3, 1, 1), torch.eye(4).double()), torch.eye(3).long() * torch.arange(3)
    maps = posterior_maps(model, ACQUISITION, grid, voxel, attenuation, sigma)
    assert torch.isnan(maps.answers.median[1]).all() and maps.answers.flags[1] == 0


def test_no_number_of_the_held_out_tissues_was_learnt_from(model):
    """Not one column of them, though seed and drawing are the training's."""
    learnt = draw_voxels(model.kernels.tissue, 40, 1, 5).quantities
    judged = calibrate(model, 40, 5).truth
    known = known_phantom(model.kernels, MapPhantom(), 5)[1].quantities
    for others in (judged, known):
        assert not bool(torch.isin(others, learnt).any())


def test_calibration_has_a_row_for_every_quantity_and_band(model, tmp_path):
    found = calibrate(model, 40, 5)
    rows = found.rows()
    assert len(rows) == 3 * len(QUANTITIES) and sum(row["voxels"] for row in rows[::7]) == 40
    assert all(0 <= row["coverage_50%"] <= row["coverage_90%"] <= 1 for row in rows)
    figure = plot_calibration(found, tmp_path / "c.png")
    assert len(figure.axes) == 3 and (tmp_path / "c.png").stat().st_size > 10_000


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """A BIDS folder of a known phantom, its truth, and the model's store."""
    folder = tmp_path_factory.mktemp("known")
    phantom, truth = known_phantom(model.kernels, MapPhantom(shape=(5, 5), snr=30.0), 1)
    write_bids(phantom, folder / "bids", "01")
    save(truth, folder / "truth.zarr")
    save(model, folder / "model.zarr")
    return folder


@pytest.mark.slow
def test_a_bids_folder_becomes_a_derivative(folder):
    """From the command line, timings from the sidecar: maps in place, with units, and flags."""
    out, model = folder / "derivative", str(folder / "model.zarr")
    done = CliRunner().invoke(
        app, ["maps", str(folder / "bids"), "--model", model, "--out", str(out)]
    )
    assert done.exit_code == 0, done.output
    assert f"{out}: 25 voxels; flagged: unlike training" in done.output
    assert json.loads((out / "dataset_description.json").read_text())["DatasetType"] == "derivative"
    stem = out / "sub-01/dwi/sub-01_model-spinmesh_param-radius_desc-median_dwimap"
    assert json.loads(stem.with_suffix(".json").read_text())["Units"] == "um"
    source = nib.load(folder / "bids/sub-01/dwi/sub-01_dwi.nii.gz")
    radius = nib.load(stem.with_suffix(".nii.gz"))
    assert radius.shape == (5, 5, 1) and np.array_equal(radius.affine, source.affine)
    assert len(list(out.rglob("*.nii.gz"))) == 4 * len(QUANTITIES) + 1
    maps, _ = map_series(load(MapModel, model), folder / "bids")
    image = np.zeros((5, 5, 1), dtype=np.float32)
    image[tuple(maps.voxel.T.numpy())] = maps.answers.median[:, 0]
    assert np.array_equal(radius.get_fdata(dtype=np.float32), image, equal_nan=True)
    figure = plot_maps(maps, load(Voxels, folder / "truth.zarr"), folder / "maps.png")
    assert len(figure.axes) >= 3 * len(QUANTITIES)
    save(maps, folder / "maps.zarr")
    again = load(PosteriorMaps, folder / "maps.zarr")
    torch.testing.assert_close(again.answers.low, maps.answers.low, equal_nan=True)


def test_files_beside_an_image_are_found_and_missing_ones_asked_for(folder, tmp_path, model):
    series = folder / "bids/sub-01/dwi/sub-01_dwi.nii.gz"
    assert set(series_files(series)) == {"image", "bvals", "bvecs", "sidecar"}
    for end in (".nii.gz", ".bval", ".bvec"):
        (tmp_path / f"scan{end}").write_bytes(series.with_name(f"sub-01_dwi{end}").read_bytes())
    with pytest.raises(SpinmeshError, match=r"delta_ms, Delta_ms missing"):
        map_series(model, tmp_path / "scan.nii.gz")
    files = {"delta_ms": 8.0, "Delta_ms": "config/demo/maps.Delta", "TE_ms": 70.0}
    maps, image = map_series(model, tmp_path / "scan.nii.gz", snr=30.0, **files)
    write_posterior(maps, tmp_path / "out", image)
    assert (tmp_path / "out/sub-scan/dwi").is_dir()
    with pytest.raises(ConfigError, match="0 diffusion series"):
        series_files(tmp_path / "out")
    (tmp_path / "a_dwi.nii").touch()
    (tmp_path / "b_dwi.nii").touch()
    with pytest.raises(ConfigError, match=r"2 diffusion series \(a_dwi.nii, b_dwi.nii\)"):
        series_files(tmp_path)
