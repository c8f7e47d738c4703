"""Training is reproducible to the bit, resumes to the bit, and learns; stores round-trip."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from spinmesh.bundles import ImageSet
from spinmesh.errors import ConfigError, ReductionError, StoreError
from spinmesh.images import Synthesis, compare, draw_and_compare
from spinmesh.io.store import load, save
from spinmesh.scores import (
    ScoreModel,
    draw,
    equation_named,
    train_score,
)
from spinmesh.scores import model as model_module
from spinmesh.scores.denoiser import Scalings
from spinmesh.scores.features import Features, ImageMean, learn_features
from spinmesh.scores.samplers import OF_DENOISERS, OF_SCORES
from spinmesh.scores.targets import Denoising, WeightRegression
from spinmesh.settings.synthesise import Sampling, ScoreTraining

QUICK = ScoreTraining(iterations=12, batch=8, width=8)
WEIGHT = QUICK.replace(sde="double-well", target="malliavin-a")


@pytest.fixture(scope="module")
def model(image_set):
    spec = QUICK.replace(iterations=140, batch=16, width=16, learning_rate=5e-3)
    return train_score(image_set, spec, seed=2)


def same(a, b):
    states = all(torch.equal(a.state[name], b.state[name]) for name in a.state)
    return states and torch.equal(a.loss_history, b.loss_history)


@pytest.mark.parametrize("spec", [QUICK, WEIGHT], ids=lambda s: s.target)
def test_a_killed_run_goes_on_to_the_same_weights(image_set, tmp_path, monkeypatch, spec):
    """Also if it stops amid batches that share one simulated block; and not with another seed."""
    monkeypatch.setattr("spinmesh.learning.Checkpoint.SAVE_EVERY", 5)
    keep = tmp_path / "training.checkpoint"
    whole = train_score(image_set, spec, seed=3)
    kind = Denoising if spec is QUICK else WeightRegression
    original, steps = kind.loss, []

    def stopped(task, network, batch):
        steps.append(task)
        if len(steps) == 9:
            raise KeyboardInterrupt
        return original(task, network, batch)

    monkeypatch.setattr(kind, "loss", stopped)
    with pytest.raises(KeyboardInterrupt):
        train_score(image_set, spec, 3, keep)
    with pytest.raises(StoreError, match="another run"):
        train_score(image_set, spec, 4, keep)
    assert same(whole, train_score(image_set, spec, 3, keep))
    assert len(steps) == 9 + 12 - 5 and not keep.exists()


def test_threads_do_not_disturb_each_other(image_set):
    alone = [train_score(image_set, QUICK, seed=s) for s in (0, 1)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda s: train_score(image_set, QUICK, seed=s), (0, 1)))
    assert all(same(a, b) for a, b in zip(alone, together, strict=True))
    assert not same(*alone)


@pytest.mark.parametrize("sde", ["ve", "vp", "sub-vp"])
def test_the_loss_of_an_untrained_network_is_one_at_every_noise_level(image_set, sde):
    """Wiener filtering white data leaves sd^2 sigma^2/(sd^2+sigma^2), which the weight makes 1."""
    told = learn_features(image_set.condition, None, 0)
    supply = model_module.image_supply(image_set.images, image_set.condition, told, 0.1)
    moments = (float(image_set.images.mean()), float(image_set.images.std()))
    task = Denoising(equation_named(sde), "denoiser", supply, 2000, moments, (0.0, 1.0))
    x0, noise, _, *context = task.draw(torch.Generator().manual_seed(1), 0)[0]
    for level in (0.05, 0.5, 5.0):
        sigma = torch.full((2000,), level, dtype=torch.float64)
        loss = task.loss(lambda x, *_: torch.zeros_like(x), (x0, noise, sigma, *context))
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
    """It starts at what the best linear filter of white data leaves; the mean is known already."""
    pixels = model.loss_history
    # Means of 5 and 50 batches of 16 have errors of some 5 and 2 per cent.
    assert abs(float(pixels[:5].mean()) - 1) < 0.2
    assert pixels[-50:].mean() < 0.85 * pixels[:5].mean()


def test_divergence_is_an_error(image_set):
    with pytest.raises(ReductionError, match="learning_rate"):
        train_score(image_set, QUICK.replace(learning_rate=1e30), seed=1)
    broken = image_set.condition.clone()
    broken[3] = float("nan")
    with pytest.raises(ConfigError, match="signal of image 3 is not finite"):
        replace(image_set, condition=broken)
    flat = replace(image_set, images=torch.ones_like(image_set.images))
    with pytest.raises(ConfigError, match="equal"):
        train_score(flat, QUICK, seed=1)


def test_samples_beat_white_noise_and_copies_are_found_out(image_set, model):
    result = draw_and_compare(
        model, image_set, Sampling(sampler="heun", steps=12, count=24), seed=1
    )
    # 140 iterations do not make axons, but contrast and correlations are there.
    for name in ("spectrum_log_error", "pixel_w1"):
        assert result.metrics[name] < 0.6 * result.control[name], name
        assert result.floor[name] < 0.6 * result.control[name], name
    # Copies lie at distance zero, up to float32 FFTs of 256 pixels.
    assert result.control["memorisation"] < 0.02 < 0.6 < result.metrics["memorisation"]


def test_moved_copies_count_as_copies(image_set):
    train, test = image_set.select("train").images, image_set.select("test").images
    moved = train[:10].roll((3, -5), (1, 2))
    assert compare(moved, train, test)["memorisation"] < 0.02


def test_a_set_is_at_distance_zero_from_itself(image_set):
    test = image_set.select("test").images
    metrics = compare(test, image_set.select("train").images, test)
    for name in ("spectrum_log_error", "pixel_w1", "volume_fraction_w1"):
        assert metrics[name] == 0


def test_guidance_zero_ignores_the_signal(image_set, model):
    spec = Sampling(count=2, steps=3, guidance=0.0)
    first = draw(model, spec, 1, image_set.condition[:2])
    assert torch.equal(first, draw(model, spec, 1))
    other = draw(model, spec.replace(guidance=1.5), 1, image_set.condition[:2])
    assert not torch.equal(first, other)


@pytest.mark.slow
def test_all_samplers_agree_on_the_mean(image_set, model):
    """It is that of the train images; the two flows, from the same noise, agree far better."""
    spec = Sampling(count=128, steps=20)
    means = {
        name: float(draw(model, spec.replace(sampler=name), 1).mean())
        for name in ("auto", *OF_DENOISERS, "fractional", *OF_SCORES)
    }
    # 128 images whose means scatter by 0.12: 0.011, four of them and a half. In volume fraction
    # that is 0.025.
    for mean in means.values():
        assert mean == pytest.approx(float(image_set.select("train").images.mean()), abs=0.05)
    # Both are of second order; measured 2e-5.
    assert means["heun"] == pytest.approx(means["dpm_solver_2m"], abs=1e-3)


def neighbours(images):
    """Correlation of pixels side by side; of n pixels of white noise it is 0 +- n^-1/2."""
    centred = images - images.mean((1, 2), keepdim=True)
    return float((centred * centred.roll(1, 1)).sum() / centred.square().sum())


def test_every_noun_survives_its_store(image_set, model, tmp_path):
    synthesis = draw_and_compare(model, image_set, Sampling(count=4, steps=2), seed=1)
    weighted = train_score(image_set, WEIGHT.replace(iterations=1), seed=1)
    nouns = (ImageSet, ScoreModel, ScoreModel, Synthesis)
    for value, noun in zip((image_set, model, weighted, synthesis), nouns, strict=True):
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
    if isinstance(a, (Scalings, Features, ImageMean)):
        return equal(vars(a), vars(b))
    if isinstance(a, dict):
        return set(a) == set(b) and all(equal(a[key], b[key]) for key in a)
    return a == b


@pytest.mark.parametrize("target", ["malliavin-a", "malliavin-c", "ito"])
@pytest.mark.slow
def test_nonlinear_scores_draw_images_of_the_right_contrast(image_set, target):
    """The pilot regression and the wells give contrast, forty iterations the first neighbours."""
    spec = WEIGHT.replace(target=target, iterations=40, batch=16)
    trained = train_score(image_set, spec, seed=2)
    assert 0.5 < trained.loss_history[0] < 2  # Scaled by the pilot run.
    for sampler in ("auto", "euler_maruyama"):
        how = Sampling(sampler=sampler, count=16, steps=40)
        samples = draw(trained, how, 1, image_set.condition[:16])
        assert samples.abs().max() <= 1
        # Two phases have 0.8 of the largest contrast; so has white noise between the wells, but its
        # neighbours correlate by 0 +- 0.016. Measured 0.09.
        assert 0.4 < samples.std() < 1
        assert neighbours(samples) > 0.05
    with pytest.raises(ConfigError, match="splitting"):
        draw(trained, how.replace(sampler="exponential"), 1)
    with pytest.raises(ConfigError, match="nonlinear"):
        trained.denoise(image_set.images[:1], 0.5)


def test_allen_cahn_trains_with_gains_for_each_mode(image_set):
    spec = QUICK.replace(sde="allen-cahn", target="malliavin-c", iterations=4)
    trained = train_score(image_set, spec, seed=2)
    how = Sampling(sampler="euler_maruyama", count=4, steps=30)
    samples = draw(trained, how, 1)
    # Measured 0.83 and 0.75, of images 0.67 and 0.82; white noise: 0 +- 0.03.
    assert neighbours(samples) > 0.5 and 0.4 < samples.std() < 1


def test_a_linear_chain_gives_the_denoiser_too(image_set):
    """VP trained on weight (A) and on its closed form: one score, two roads."""
    roads = [
        train_score(image_set, QUICK.replace(sde="vp", target=t, iterations=1), seed=1)
        for t in ("malliavin-a", "denoiser")
    ]
    x = image_set.images[:8].double()
    x = x + 2.0 * torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(1))
    clean = [road.denoise(x, 2.0) for road in roads]
    # Untrained: the pilot's linear regression, and the exact Wiener filter. The regression knows
    # 256 paths of 36 images, whose variance is off by some per cent, and so is the gain. Means have
    # laws of their own.
    seen, *texture = (y - y.mean((1, 2), keepdim=True) for y in (x, *clean))
    gains = [float((y * seen).sum() / (seen * seen).sum()) for y in texture]
    assert gains[0] == pytest.approx(gains[1], rel=0.15)
    assert 0.05 < gains[1] < 0.2


def test_targets_that_an_equation_lacks_are_refused():
    """By their words before any job, and of an equation of the user's own when it is trained."""
    for sde, target in (("double-well", "denoiser"), ("allen-cahn", "malliavin-a")):
        with pytest.raises(ConfigError, match=f"target {target} is not for {sde}"):
            ScoreTraining(sde=sde, target=target)
        with pytest.raises(ConfigError, match="is not for"):
            WeightRegression(equation_named(sde), target, lambda n, g: 0, 1, torch.Generator())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("spec", [QUICK, WEIGHT], ids=lambda s: s.target)
def test_a_gpu_trains_too(image_set, spec):
    trained = train_score(image_set, spec.replace(iterations=30), 1, device="cuda")
    assert trained.loss_history[-5:].mean() < trained.loss_history[:5].mean()
    assert all(value.device.type == "cpu" for value in trained.state.values())
