"""Each figure reaches the disk whole, shows something, and has the panels it promises."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread

from spinmesh.bloch_torrey import Signals
from spinmesh.inversion import Gaussian
from spinmesh.report.meshes import plot_meshes
from spinmesh.report.reconstruction import aligned, plot_reconstruction, radius_spread
from spinmesh.report.signals import plot_signals, shown
from spinmesh.report.style import picture
from spinmesh.report.synthesis import plot_synthesis
from spinmesh.shapes import profile, shape_errors


def assert_picture(path: Path, figure: Figure, axes: int) -> None:
    """A PNG alone in its folder, with ink in each quarter, and so many axes on the figure."""
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    grey = imread(path)[:, :, :3].mean(2)
    height, width = grey.shape
    for rows in (slice(0, height // 2), slice(height // 2, None)):
        for columns in (slice(0, width // 2), slice(width // 2, None)):
            # A line of text in an empty quarter would have a variance of about 1e-3.
            assert grey[rows, columns].var() > 2e-3
    assert len(figure.axes) == axes


def test_meshes_show_every_family_and_the_target(tmp_path, substrates, target_mesh) -> None:
    """Five shapes, then the tets' quality."""
    figure = plot_meshes(substrates, target_mesh, tmp_path / "mesh.png")
    assert_picture(tmp_path / "mesh.png", figure, axes=1 + 1)
    assert len(figure.axes[0].collections) == 5
    words = [text.get_text() for text in figure.axes[0].texts]
    assert {"straight", "bend + twist", "beading", "combined", "target"} <= set(words)


def test_signals_have_a_row_per_timing_and_a_column_per_shape(
    tmp_path, signals, substrates, target
) -> None:
    """Two timings times (straight, beading, target), and the colour bar."""
    titles = shown(substrates)
    assert [title.split()[0] for title in titles.values()] == ["straight", "beading"]
    columns = (column[list(titles)] for column in (signals.signal, signals.unweighted))
    rows = Signals(signals.acquisition, *columns)
    figure = plot_signals(rows, titles.values(), target, tmp_path / "signals.png")
    assert_picture(tmp_path / "signals.png", figure, axes=2 * 3 + 1)
    dots = figure.axes[2].collections
    drawn = np.concatenate([c.get_offsets()[:, 1] for c in dots if len(c.get_offsets()) > 1])
    np.testing.assert_array_equal(drawn, target.attenuation[:4])


def test_reconstruction_shows_truth_convergence_radius_and_signals(
    tmp_path, reconstruction, model, target_mesh
) -> None:
    """Two views, a colour bar, and three panels; the title states the errors."""
    figure = plot_reconstruction(reconstruction, tmp_path / "r.png", model, target_mesh)
    assert_picture(tmp_path / "r.png", figure, axes=2 + 1 + 3)
    title = figure.get_suptitle()
    error = shape_errors(reconstruction.mesh, target_mesh.mesh(0))["radius"]
    assert f"radius error {error:.3f} µm (mean training shape: " in title
    assert "blind to translation and point reflection" in figure.subfigs[0].get_supxlabel()


def test_reconstruction_without_a_truth_shows_what_is_known(
    tmp_path, reconstruction, model
) -> None:
    """A measured voxel has no truth: colours are the posterior's spread, errors are not there."""
    figure = plot_reconstruction(reconstruction, tmp_path / "r.png", model)
    assert_picture(tmp_path / "r.png", figure, axes=2 + 1 + 3)
    assert "posterior spread" in figure.axes[2].get_xlabel()
    assert "error" not in figure.get_suptitle()


def test_posterior_band_widens_with_the_covariance(reconstruction, substrates, model) -> None:
    """The band is linear in the posterior's standard deviation where that is small."""
    mesh = substrates.template.with_points(model.decode(model.latents[5]))
    spreads = []
    for scale in (0.01, 0.02):
        covariance = scale**2 * torch.eye(2, dtype=torch.float64)
        latent = Gaussian(model.latents[5], covariance)
        posterior = replace(reconstruction.posterior, latent=latent)
        given = replace(reconstruction, mesh=mesh, posterior=posterior)
        spreads.append(radius_spread(given, model, profile(mesh)).norm())
    # A few per cent of curvature, and the profile jumps a little as its samples change order.
    assert float(spreads[1] / spreads[0]) == pytest.approx(2, rel=0.06)


def test_alignment_undoes_translation_and_point_reflection(substrates) -> None:
    """x -> c - x leaves |S| as it is, so it must not count as an error."""
    mesh = substrates.mesh(6)
    moved = mesh.with_points(torch.tensor([1.0, 2.0, 3.0]) - mesh.points)
    sign, shift = aligned(mesh, moved)
    assert sign == -1
    np.testing.assert_allclose(shift, [1, 2, 3], atol=1e-12)  # rounding


def test_synthesis_shows_three_grids_spectra_loss_and_table(
    tmp_path, images, score_model, synthesis
) -> None:
    figure = plot_synthesis(images, score_model, synthesis, tmp_path / "s.png")
    assert_picture(tmp_path / "s.png", figure, axes=6)
    table = [cell.get_text().get_text() for cell in figure.axes[-1].tables[0].get_celld().values()]
    for value in ("0.123", "0.057", "1.891"):
        assert table.count(value) == 4, "one per metric"


def test_a_drawing_that_fails_leaves_nothing_behind(tmp_path) -> None:
    (tmp_path / "f.png").write_text("old")
    with pytest.raises(ZeroDivisionError), picture(tmp_path / "f.png", 1.0, 1.0):
        raise ZeroDivisionError
    assert [p.name for p in tmp_path.iterdir()] == ["f.png"]
    assert (tmp_path / "f.png").read_text() == "old"
