"""Training is reproducible to the bit, resumes to the bit, and learns; stores round-trip."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from spinmesh.errors import ConfigError, ReductionError, StoreError
from spinmesh.io.store import load, save
from spinmesh.synthesis import (
    ImageSet,
    SampleSpec,
    ScoreModel,
    ScoreSpec,
    Synthesis,
    compare,
    draw_images,
    synthesise,
    train_score,
    training,
)

QUICK = ScoreSpec(iterations=12, batch=8, width=8)


@pytest.fixture(scope="module")
def model(image_set):
    spec = replace(QUICK, iterations=200, batch=16, width=16, learning_rate=5e-3)
    return train_score(image_set, spec, seed=2)


def same(a, b):
    states = all(torch.equal(a.state[name], b.state[name]) for name in a.state)
    return states and torch.equal(a.loss_history, b.loss_history)


def test_a_killed_run_goes_on_to_the_same_weights(image_set, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_INTERVAL", 5)
    file = tmp_path / "training.checkpoint"
    whole = train_score(image_set, QUICK, seed=3)
    original, done = training._Run.step, []

    def killed(run, iteration):
        if iteration == 8:
            raise KeyboardInterrupt
        original(run, iteration)

    monkeypatch.setattr(training._Run, "step", killed)
    with pytest.raises(KeyboardInterrupt):
        train_score(image_set, QUICK, seed=3, checkpoint=file)

    def counted(run, iteration):
        done.append(iteration)
        original(run, iteration)

    monkeypatch.setattr(training._Run, "step", counted)
    resumed = train_score(image_set, QUICK, seed=3, checkpoint=file)
    assert done == list(range(5, 12))
    assert same(whole, resumed)
    assert [p.name for p in tmp_path.iterdir()] == ["training.checkpoint"]
    # A checkpoint of another seed is not continued.
    done.clear()
    train_score(image_set, QUICK, seed=4, checkpoint=file)
    assert done == list(range(12))


def test_a_damaged_checkpoint_is_refused(image_set, tmp_path):
    file = tmp_path / "training.checkpoint"
    file.write_bytes(b"not a checkpoint")
    with pytest.raises(StoreError, match="Delete it"):
        train_score(image_set, QUICK, seed=3, checkpoint=file)


def test_threads_do_not_disturb_each_other(image_set):
    alone = [train_score(image_set, QUICK, seed=s) for s in (0, 1)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda s: train_score(image_set, QUICK, seed=s), (0, 1)))
    assert all(same(a, b) for a, b in zip(alone, together, strict=True))
    assert not same(*alone)


@pytest.mark.parametrize("sde", ["ve", "vp", "sub-vp"])
def test_the_loss_of_an_untrained_network_is_one_at_every_noise_level(image_set, sde):
    """Wiener filtering white data leaves sd^2 sigma^2/(sd^2+sigma^2), which the weight makes 1."""
    run = training._Run(image_set, replace(QUICK, sde=sde, batch=2000), seed=1)
    x0, condition, known, noise, _ = run.draw()
    for level in (0.05, 0.5, 5.0):
        sigma = torch.full((2000,), level, dtype=torch.float64)
        loss = run.loss(x0, condition, known, noise, sigma)
        # The images are random: 2000 draws of 36 of them, a few correlated axons each.
        torch.testing.assert_close(loss, torch.ones(()), rtol=0.05, atol=0)


def test_the_score_is_minus_the_mean_weight(image_set, model):
    """score(x, t) and denoise(x, sigma) say the same thing (Tweedie), for VE."""
    x = image_set.images[:4].double() + 0.5 * torch.randn(4, 16, 16, dtype=torch.float64)
    t = torch.tensor(0.6, dtype=torch.float64)
    sigma = model.sde.std(t)
    tweedie = x + sigma**2 * model.score(x, t)
    torch.testing.assert_close(tweedie, model.denoise(x, float(sigma)), rtol=1e-5, atol=1e-5)


def test_training_beats_the_wiener_filter_of_white_data(model):
    """The loss starts at 1, that of the best linear filter of white data, and falls well below."""
    history = model.loss_history
    assert history[:5].mean() > 0.8
    assert history[-50:].mean() < 0.8


def test_divergence_is_an_error(image_set):
    broken = replace(image_set, condition=image_set.condition.clone())
    broken.condition[0] = float("nan")
    with pytest.raises(ReductionError, match="learning_rate"):
        train_score(broken, QUICK, seed=1)
    flat = replace(image_set, images=torch.ones_like(image_set.images))
    with pytest.raises(ConfigError, match="equal"):
        train_score(flat, QUICK, seed=1)


def test_samples_beat_white_noise_and_copies_are_found_out(image_set, model):
    result = synthesise(model, image_set, SampleSpec(count=24, steps=12), seed=1)
    # 200 iterations do not make axons, but contrast and correlations are there.
    for name in ("spectrum_log_error", "pixel_w1"):
        assert result.metrics[name] < 0.6 * result.control[name], name
        assert result.floor[name] < 0.6 * result.control[name], name
    # Three held-out axons against nine: their sizes differ almost as much as noise from images.
    assert result.floor["sliced_w2"] < result.control["sliced_w2"]
    # Copies lie at distance zero, up to float32 FFTs of 256 pixels.
    assert result.control["memorisation"] < 0.02 < 0.6 < result.metrics["memorisation"]


def test_moved_copies_count_as_copies(image_set):
    train, test = image_set.select("train").images, image_set.select("test").images
    moved = train[:10].roll((3, -5), (1, 2))
    assert compare(moved, train, test, 0)["memorisation"] < 0.02


def test_a_set_is_at_distance_zero_from_itself(image_set):
    test = image_set.select("test").images
    metrics = compare(test, image_set.select("train").images, test, 0)
    for name in ("spectrum_log_error", "pixel_w1", "volume_fraction_w1", "sliced_w2"):
        assert metrics[name] == 0


def test_guidance_zero_ignores_the_signal(image_set, model):
    spec = SampleSpec(count=2, steps=3, guidance=0.0)
    first = draw_images(model, spec, (16, 16), 1, image_set.condition[:2])
    assert torch.equal(first, draw_images(model, spec, (16, 16), 1))
    other = draw_images(model, replace(spec, guidance=1.5), (16, 16), 1, image_set.condition[:2])
    assert not torch.equal(first, other)


def test_both_samplers_agree_on_the_mean(image_set, model):
    spec = SampleSpec(count=48, steps=40)
    means = [
        draw_images(model, replace(spec, sampler=name), (16, 16), 1).mean()
        for name in ("heun", "euler_maruyama")
    ]
    # 48 images whose means scatter by about 0.15, twice.
    torch.testing.assert_close(means[0], means[1], rtol=0, atol=0.12)


def test_every_noun_survives_its_store(image_set, model, tmp_path):
    synthesis = synthesise(model, image_set, SampleSpec(count=4, steps=2), seed=1)
    for value, noun in ((image_set, ImageSet), (model, ScoreModel), (synthesis, Synthesis)):
        save(value, tmp_path / "store.zarr")
        back = load(noun, tmp_path / "store.zarr")
        for name, field in vars(value).items():
            if name in noun.__dataclass_fields__:
                assert equal(field, getattr(back, name)), name
    assert equal(model.denoise(image_set.images, 0.3), _reloaded(model, tmp_path, image_set))


def _reloaded(model, folder, image_set):
    save(model, folder / "model.zarr")
    return load(ScoreModel, folder / "model.zarr").denoise(image_set.images, 0.3)


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b) and a.dtype == b.dtype
    if isinstance(a, dict):
        return set(a) == set(b) and all(equal(a[key], b[key]) for key in a)
    return a == b
