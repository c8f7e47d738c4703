"""The comparison of models: metrics that tell laws apart, and rulers that no sample depends on."""

import pytest
import torch

from spinmesh.errors import ConfigError
from spinmesh.io import load, save
from spinmesh.settings import Evaluation
from spinmesh.synthesis import (
    DoubleWell,
    Drawn,
    MeanWeight,
    PointDraws,
    PointSpec,
    draw_points,
    forward_chain,
    score_models,
    score_points,
    summarise_models,
    summarise_points,
    two_point,
)
from spinmesh.synthesis.comparison import FLOOR, NEAREST, NOISE, asked, baselines, reference
from spinmesh.synthesis.evaluation import mmd
from spinmesh.synthesis.point_sets import SETS
from spinmesh.synthesis.scalings import pilot_scalings
from spinmesh.synthesis.targets import evenly


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
    given, ruler = asked(image_set), reference(image_set)
    assert len(given) + len(ruler) == len(image_set.select("test"))
    distance = torch.cdist(given.images.flatten(1), ruler.images.flatten(1))
    assert distance.min() > 1


def test_a_perfect_model_scores_like_the_floor_and_copies_and_noise_are_found_out(image_set):
    """The images of the given signals are draws of the posterior itself."""
    perfect = Drawn("perfect", 1, asked(image_set).images, 2.0, 3.0)
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
    spec = PointSpec(points=100, draws=50, iterations=2, batch=16, width=8, evaluations=6)
    both = draw_points("checkerboard", ["vp", "double-well"], [1, 2], spec)
    alone = draw_points("checkerboard", ["double-well"], [2], spec)
    assert both.drawn.shape == (2, 2, 50, 2)
    assert torch.equal(both.drawn[1, 1], alone.drawn[0, 0])
    assert not torch.equal(both.drawn[0, 1], alone.drawn[0, 0])
    with pytest.raises(ConfigError, match="'spiral' is unknown"):
        draw_points("spiral", ["vp"], [1], spec)


def test_noise_levels_of_a_batch_are_spread_evenly():
    u = evenly(50, seeded(1))
    assert torch.equal((50 * u).long().sort().values, torch.arange(50))
    assert not torch.equal(u, u.sort().values)
    many = torch.stack([evenly(4, seeded(k)) for k in range(1000)])
    # Each of them is uniform: mean 1/2, with a deviation of 0.29 / sqrt(1000) = 0.009.
    assert (many.mean(0) - 0.5).abs().max() < 0.04


def test_a_regression_is_held_beyond_its_pilots():
    """Far out the score grows like that of the limit law, whatever the network would say."""
    well = DoubleWell()
    x0 = torch.sign(torch.randn(64, 1, generator=seeded(1)))
    pairs = list(forward_chain(well, x0, well.grid(16), seeded(2)))
    found = pilot_scalings(well, [(x, w.delta) for x, w in pairs], well.grid(16)[1:])
    weight = MeanWeight(lambda u, *_: 5 * u, well, found)
    x = torch.tensor([[1.0], [20.0], [30.0]], dtype=torch.float64)
    t = torch.full((3,), 0.5, dtype=torch.float64)
    rest = weight.score(x, t) - well.base_score(x, t)
    # What rounding leaves of scores of a hundred thousand.
    torch.testing.assert_close(rest[1], rest[2], rtol=0, atol=1e-8)
    assert abs(float(rest[0] - rest[1])) > 1


def test_draws_come_back_from_their_stores(tmp_path):
    drawn = Drawn("edm", 4, torch.rand(3, 8, 8, generator=seeded(1)), 12.5, 0.5)
    save(drawn, tmp_path / "drawn.zarr")
    back = load(Drawn, tmp_path / "drawn.zarr")
    assert torch.equal(back.samples, drawn.samples)
    assert (back.model, back.seed, back.train_seconds, back.draw_seconds) == ("edm", 4, 12.5, 0.5)
    clouds = torch.rand(2, 3, 7, 2, generator=seeded(2))
    seconds = torch.rand(2, 3, dtype=torch.float64, generator=seeded(3))
    points = PointDraws("checkerboard", ("a", "b", "c"), (1, 2), clouds[:, 0], clouds, seconds)
    save(points, tmp_path / "points.zarr")
    again = load(PointDraws, tmp_path / "points.zarr")
    assert (again.name, again.models, again.seeds) == ("checkerboard", ("a", "b", "c"), (1, 2))
    for name in ("train", "drawn", "seconds"):
        assert torch.equal(getattr(again, name), getattr(points, name))


def test_a_contestant_needs_a_network():
    with pytest.raises(ValueError, match="no model `edn` is trained; there are edm"):
        Evaluation.model_validate({"models": {"edm": {}, "other": {"weights_of": "edn"}}})
