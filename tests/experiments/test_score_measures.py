"""The comparison of models: metrics that tell laws apart, and rulers that no sample depends on."""

import pytest
import torch

from experiments.scores.figures import plot_gallery, plot_models, plot_points
from experiments.scores.measures import mmd, sliced_w2, two_point
from experiments.scores.models import (
    FLOOR,
    NEAREST,
    NOISE,
    Drawn,
    baselines,
    reference,
    score_models,
    signal_sources,
    summarise_models,
)
from experiments.scores.points import (
    SETS,
    PointDraws,
    draw_points,
    score_points,
    summarise_points,
)
from experiments.scores.settings import Evaluation, PointEvaluation
from spinmesh.errors import ConfigError
from spinmesh.io import load, save


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_two_point_function_counts_pairs():
    """Against all pairs of axon pixels of one image, by their rounded periodic distance."""
    image = torch.where(torch.rand(8, 8, generator=seeded(1)) < 0.4, 1.0, -1.0)
    inside = [divmod(i, 8) for i in torch.nonzero(image.flatten() > 0)[:, 0].tolist()]
    shifts = [((k + 4) % 8 - 4, (m + 4) % 8 - 4) for k in range(8) for m in range(8)]
    expected = []
    for r in range(5):
        ring = [s for s in shifts if round((s[0] ** 2 + s[1] ** 2) ** 0.5) == r]
        pairs = sum(((y + a) % 8, (x + b) % 8) in inside for a, b in ring for y, x in inside)
        expected.append(pairs / len(ring) / 64)
    found = two_point(image[None])
    # Rounding of a float64 FFT of 64 numbers.
    torch.testing.assert_close(found, torch.tensor(expected).double(), rtol=0, atol=1e-7)


def test_mmd_tells_two_laws_apart_and_one_law_not():
    """Thirty smooth images each: another contrast is seen, another draw is not."""
    noise = torch.randn(90, 16, 16, generator=seeded(2))
    smooth = (noise + noise.roll(1, 1) + noise.roll(1, 2)) / 3
    _, same = mmd(smooth[:30], smooth[30:60], 0)
    distance, other = mmd(smooth[:30], 1.3 * smooth[60:], 0)
    # The smallest p is 1/500; of one law p is uniform, and this draw must not be exceptional.
    assert other < 0.01 < same
    assert distance > mmd(smooth[:30], smooth[30:60], 0)[0]


def test_samples_are_asked_for_with_other_signals_than_those_they_are_judged_by(image_set):
    given, ruler = signal_sources(image_set), reference(image_set)
    assert len(given) + len(ruler) == len(image_set.select("test"))
    distance = torch.cdist(given.images.flatten(1), ruler.images.flatten(1))
    assert distance.min() > 1


def test_a_perfect_model_scores_like_the_floor_and_copies_and_noise_are_found_out(image_set):
    """The images of the given signals are draws of the posterior itself."""
    perfect = Drawn("perfect", 1, signal_sources(image_set).images, 2.0, 3.0)
    rows = {row["model"]: row for row in score_models([perfect], image_set)}
    assert list(rows) == [FLOOR, NEAREST, NOISE, "perfect"]
    for metric in ("spectrum_log_error", "two_point_error", "pixel_w1", "mmd"):
        # A dozen images of three axons each: twice the floor is chance, noise is far beyond.
        assert rows["perfect"][metric] < 2 * rows[FLOOR][metric] + 0.05, metric
        assert rows[NOISE][metric] > 1.5 * rows["perfect"][metric], metric
    assert rows[NOISE]["mmd_p"] < 0.01 < rows["perfect"]["mmd_p"]
    assert rows[NEAREST]["memorisation"] < 0.02 < 0.6 < rows["perfect"]["memorisation"]
    summary = summarise_models([rows["perfect"], rows["perfect"] | {"seed": 2}])
    assert summary[0]["seeds"] == 2 and summary[0]["spectrum_log_error_std"] == 0


def test_baselines_follow_their_seed(image_set):
    first, second, again = (baselines(image_set, 6, seed) for seed in (1, 2, 1))
    assert torch.equal(first[0].samples, again[0].samples)
    assert not torch.equal(first[0].samples, second[0].samples)
    assert torch.equal(first[1].samples, second[1].samples), "the nearest signal is no chance"


def test_points_of_the_true_law_score_like_train_points_and_others_worse():
    train, fresh = (SETS["checkerboard"](1000, seeded(s)) for s in (50, 60))
    drawn = torch.stack([fresh, 1.2 * fresh])[None]
    seconds = torch.ones(1, 2, dtype=torch.float64)
    draws = PointDraws("checkerboard", ("law", "wide"), (3,), train[None], drawn, seconds)
    rows = score_points(draws)
    ratio = {row["model"]: row["ratio"] for row in rows}
    # Two draws of 1000 points: each distance varies by a quarter.
    assert 0.4 < ratio["law"] < 2 < ratio["wide"]
    table = summarise_points(rows)
    assert [row["model"] for row in table] == ["law", "wide"]
    assert table[1]["ratio"] == pytest.approx(ratio["wide"])


def test_point_draws_follow_their_seeds_and_unknown_words_are_refused():
    small = {"points": 100, "draws": 50, "iterations": 2, "batch": 16, "width": 8}
    spec = PointEvaluation(models=("vp", "double-well"), seeds=2, evaluations=6, **small)
    both = draw_points("checkerboard", spec, 1)
    alone = draw_points("checkerboard", spec.replace(models=("double-well",), seeds=1), 2)
    assert both.drawn.shape == (2, 2, 50, 2)
    assert torch.equal(both.drawn[1, 1], alone.drawn[0, 0])
    assert not torch.equal(both.drawn[0, 1], alone.drawn[0, 0])
    with pytest.raises(ConfigError, match="eight-gaussians"):
        spec.replace(sets=("spiral",))


def test_the_sliced_distance_of_a_shift_is_its_length_over_the_root_of_the_dimension():
    """W2 of a shift is the shift's part along each direction, whose mean square is |d|^2 / 2."""
    points = torch.randn(2000, 2, generator=seeded(1))
    assert sliced_w2(points, points, 0) == 0
    found = sliced_w2(points, points + torch.tensor([3.0, 0.0]), 0, projections=4000)
    # 4000 directions: cos^2 has deviation 0.35, so 0.35 / sqrt(4000) = 0.006 of its mean square.
    assert found == pytest.approx(3 / 2**0.5, rel=0.02)


def test_draws_come_back_from_their_stores(tmp_path):
    drawn = Drawn("edm", 4, torch.rand(3, 8, 8, generator=seeded(1)), 12.5, 0.5)
    save(drawn, tmp_path / "drawn.zarr")
    back = load(Drawn, tmp_path / "drawn.zarr")
    assert torch.equal(back.samples, drawn.samples)
    assert (back.model, back.trained_from, back.train_seconds, back.draw_seconds) == (
        "edm",
        4,
        12.5,
        0.5,
    )
    clouds = torch.rand(2, 3, 7, 2, generator=seeded(2))
    seconds = torch.rand(2, 3, dtype=torch.float64, generator=seeded(3))
    points = PointDraws("checkerboard", ("a", "b", "c"), (1, 2), clouds[:, 0], clouds, seconds)
    save(points, tmp_path / "points.zarr")
    again = load(PointDraws, tmp_path / "points.zarr")
    assert (again.name, again.models, again.seeds) == ("checkerboard", ("a", "b", "c"), (1, 2))
    for name in ("train", "drawn", "seconds"):
        assert torch.equal(getattr(again, name), getattr(points, name))


def test_a_contestant_needs_a_network():
    with pytest.raises(ConfigError, match="no model `edn` is trained; there are edm"):
        Evaluation(models={"edm": {}, "other": {"weights_of": "edn"}})


def test_the_comparison_shows_every_metric_model_and_set(tmp_path, image_set):
    drawn = [Drawn(name, 1, image_set.images[k : k + 8], 1.0, 1.0) for k, name in enumerate("ab")]
    rows = score_models(drawn, image_set)
    assert len(plot_models(rows, image_set, drawn, tmp_path / "m.png").axes) == 8
    assert (tmp_path / "m.png").stat().st_size > 0
    gallery = plot_gallery(image_set, drawn, tmp_path / "g.png")
    assert [axes.get_title(loc="left") for axes in gallery.axes] == ["Held out", "a", "b"]
    clouds = torch.randn(1, 2, 40, 2, generator=torch.Generator().manual_seed(1))
    sets = [PointDraws("checkerboard", ("edm", "vp"), (1,), clouds[:, 0], clouds, clouds[0, :1, 0])]
    pair = [
        {"set": "checkerboard", "model": m, "sliced_w2": 0.3, "floor": 0.2} for m in ("edm", "vp")
    ]
    points = plot_points(pair, sets, tmp_path / "p.png")
    assert len(points.axes) == 3
    assert "edm, 1.50" in points.axes[1].get_title(loc="left")


def test_a_sampler_that_its_equation_lacks_is_refused():
    models = {
        "edm": {"sde": "allen-cahn"},
        "fractional": {"weights_of": "edm", "sampler": "fractional"},
    }
    with pytest.raises(ConfigError, match="model `fractional`: sampler fractional wants"):
        Evaluation(models=models)
