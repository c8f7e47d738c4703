"""Images given a signal: what the network is told, and whether the posterior can be trusted."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from spinmesh.bundles import ImageSet, Protocol, bundle_acquisition
from spinmesh.errors import ConfigError, SequenceError, StoreError
from spinmesh.images import (
    Calibration,
    ConditionalSpec,
    Draws,
    draw_posterior,
    evaluate_conditional,
)
from spinmesh.images.conditional import ABC, MODEL, PRIOR, TRUE_IMAGES, crps, nearest_signals
from spinmesh.images.posterior import central_interval
from spinmesh.io import load, save
from spinmesh.learning import Runtime
from spinmesh.synthesis import SampleSpec, ScoreModel, ScoreSpec, train_score
from spinmesh.synthesis.features import learn_features
from spinmesh.synthesis.model import Symmetry, image_supply

FEW = ConditionalSpec(signals=3, samples=4, simulated=2, steps=4)


def test_features_find_what_the_tissue_changes_and_leave_the_noise():
    """One direction of change among six measurements, one of them noise alone."""
    acquisition = bundle_acquisition((1.0, 5.0), 10.0, (20.0,))
    protocol = Protocol(acquisition, 50.0, 2.0, 0.8)
    tissue = torch.linspace(-1, 1, 500)[:, None]
    attenuation = 0.5 + 0.1 * tissue * torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0, 0.0])
    attenuation[:, 5] = 1e-6
    features = learn_features(attenuation.log(), protocol, 0)
    assert features.count == 1
    told = features(protocol.observed(attenuation.log(), torch.Generator().manual_seed(4)))[:, 0]
    # Standardised: 500 draws know a deviation to 3 %.
    torch.testing.assert_close(told.std().item(), 1.0, rtol=0.1, atol=0)
    # Four measurements of deviation 0.058 with noise 0.02: 1 - 1/(1 + 4 * 8.3) of the variance.
    correlation = np.corrcoef(told.numpy(), tissue[:, 0].numpy())[0, 1]
    np.testing.assert_allclose(abs(correlation), (1 - 1 / 34.3) ** 0.5, atol=0.01)


def test_training_draws_new_noise_each_time_and_turns_signals_with_images(bundle_set):
    train = bundle_set.select("train")
    features = learn_features(train.condition, train.protocol, 0)
    supply = image_supply(train.images[:1], train.condition[:1], features, 0.0)
    generator = torch.Generator().manual_seed(1)
    told = torch.cat([supply(50, generator)[1][0] for _ in range(20)])
    assert len(told.unique(dim=0)) == 1000
    moves = Symmetry.of(train.protocol, train.condition.shape[1])
    # x, y and z at one b: mirrored they stay, transposed x and y change places.
    assert moves.mirrored.tolist() == [0, 1, 2] and moves.transposed.tolist() == [1, 0, 2]
    columns = train.images[0].sum(0).sort().values
    turned = []
    for _ in range(20):
        images, order = moves.moved(train.images[:1], generator)
        # Sums over y survive any shift and mirror, up to rounding, but not the transposition.
        same = torch.allclose(images[0].sum(0).sort().values, columns, atol=1e-4)
        assert order.tolist() == ([0, 1, 2] if same else [1, 0, 2])
        turned.append(not same)
    assert 0 < sum(turned) < 20


def test_central_intervals_hold_their_share_of_further_draws():
    draws = torch.randn(4000, 10, generator=torch.Generator().manual_seed(2)).double()
    for level in (0.5, 0.8):
        low, high = central_interval(draws[:, :9], level)
        inside = ((low <= draws[:, 9]) & (draws[:, 9] <= high)).double().mean()
        # Binomial: 0.8 % at most; the plain quantiles of nine draws would miss by 5 to 8 %.
        torch.testing.assert_close(inside.item(), level, rtol=0, atol=0.024)


def test_the_crps_is_that_of_a_normal_law():
    """E|X - y| - E|X - X'|/2 = 2/sqrt(2 pi) - 1/sqrt(pi) for y at the mean, however few draws."""
    draws = torch.randn(20_000, 3, 1, generator=torch.Generator().manual_seed(3)).double()
    found = crps(draws, torch.zeros(20_000, 1).double()).mean()
    # Spread of one score 0.5: 0.35 % of 20,000, three of which are allowed.
    expected = 2 / math.sqrt(2 * math.pi) - 1 / math.sqrt(math.pi)
    torch.testing.assert_close(found.item(), expected, rtol=0, atol=0.011)


def test_the_nearest_signals_are_nearest_in_attenuation():
    known = torch.tensor([[0.1, 0.9], [0.5, 0.5], [0.52, 0.5], [0.9, 0.1]]).log()
    found = nearest_signals(torch.tensor([[0.51, 0.5]]).log(), known, 2)
    assert set(found[0].tolist()) == {1, 2}


def made_up(spread: float, shift: float = 0.0) -> Calibration:
    """Posterior of unit spread in truth, said to be `spread` wide and off by `shift`."""
    generator = torch.Generator().manual_seed(5)
    centre = torch.randn(3000, 3, generator=generator).double()
    truth = centre + torch.randn(3000, 3, generator=generator).double()
    noise = torch.randn(3000, 64, 3, generator=generator).double()
    samples = centre[:, None] + shift + spread * noise
    ones = torch.ones(3000, dtype=torch.float64)
    sets = {MODEL: samples, ABC: centre[:, None] + 2 * noise, PRIOR: 1.4 * noise}
    fits = {TRUE_IMAGES: ones[:, None], MODEL: 2 * ones[:, None].expand(-1, 2)}
    return Calibration(truth, truth, sets, fits, (0.1, 0.1), torch.zeros(1, 1, 8, 8), 20.0)


def test_coverage_and_rank_tell_a_right_posterior_from_a_wrong_one():
    right, narrow, off = made_up(1.0), made_up(0.5), made_up(1.0, 1.0)
    # Binomial over 3000: 0.7 %.
    torch.testing.assert_close(
        right.coverage(MODEL, 0.8), torch.full((3,), 0.8).double(), rtol=0, atol=0.022
    )
    # Of a normal law within half of 1.28 deviations: erf(0.64 / sqrt 2).
    share = math.erf(1.2816 * 0.5 / math.sqrt(2))
    torch.testing.assert_close(
        narrow.coverage(MODEL, 0.8), torch.full((3,), share).double(), rtol=0, atol=0.04
    )
    assert (right.rank(MODEL).mean(0) - 0.5).abs().max() < 0.02
    assert (off.rank(MODEL).mean(0) < 0.3).all()
    assert (right.crps(MODEL) < right.crps(ABC)).all()
    table = right.rows()
    assert [row["median_over_true_images"] for row in table[-2:]] == [1.0, 2.0]
    assert {row["quantity"] for row in table[:12]} == {
        "volume_fraction",
        "effective_radius",
        "surface_to_volume",
    }


def test_draws_tell_what_they_hold_and_survive_their_store(bundle_set, bundle_model, tmp_path):
    measured = bundle_set.select("test").observed(3)[0].double().exp()
    spec = SampleSpec("dpm_solver_2m", 4, 5)
    drawn = draw_posterior(bundle_model, spec, 7, measured, 2)
    assert drawn.images.abs().max() <= 1 and drawn.simulated.shape == (2, 3)
    save(drawn, tmp_path / "drawn.zarr")
    back = load(Draws, tmp_path / "drawn.zarr")
    assert torch.equal(back.images, drawn.images)
    # JSON cannot hold NaN, so equal summaries are compared as text.
    assert str(back.summary()) == str(drawn.summary())
    low, high = drawn.summary()["statistics"]["effective_radius"]["interval_50"]
    assert low <= float(drawn.statistics[:, 1].median()) <= high
    prior = draw_posterior(bundle_model, spec, 7)
    assert prior.misfit is None and "resimulated" not in prior.summary()
    assert not torch.equal(prior.images, drawn.images)


def test_the_evaluation_is_repeatable_and_keeps_in_its_store(bundle_set, bundle_model, tmp_path):
    found = evaluate_conditional(bundle_model, bundle_set, FEW, seed=2)
    test = bundle_set.select("test")
    assert torch.equal(found.truth[:, 0], test.volume_fraction[:3].double())
    # Exact in the sum of grey levels; 16 pixels of 0.75 um are coarse for the others.
    torch.testing.assert_close(found.seen[:, 0], found.truth[:, 0], rtol=0.02, atol=0)
    assert found.samples[ABC].shape == (3, 4, 3)
    # The true images fit their own noisy signals: three sums of three squares about 1.
    assert found.misfit[TRUE_IMAGES].max() < 5
    save(found, tmp_path / "calibration.zarr")
    back = load(Calibration, tmp_path / "calibration.zarr")
    assert str(back.rows()) == str(found.rows())
    assert torch.equal(back.gallery, found.gallery)


def test_signals_of_another_protocol_are_refused_by_their_first_difference(bundle_model):
    other = bundle_acquisition((4.0,), 10.0, (20.0,))
    with pytest.raises(SequenceError, match="b-tensor of measurement 0 differs"):
        bundle_model.protocol.refuse_other(other)
    bundle_model.protocol.refuse_other(bundle_acquisition((5.0,), 10.0, (20.0,)))
    assert bundle_model.protocol.doubt(1 / 50) is None
    assert "too narrow" in bundle_model.protocol.doubt(1 / 20)
    assert "too wide" in bundle_model.protocol.doubt(0.0)


def test_models_and_images_that_do_not_belong_together_are_refused(
    image_set, bundle_set, bundle_model
):
    acquisition = bundle_set.protocol.acquisition
    other = Protocol(acquisition, 20.0, 2.0, 1.5)
    with pytest.raises(ConfigError, match=r"at SNR 50, the images have .* at 20"):
        evaluate_conditional(bundle_model, replace(bundle_set, protocol=other), FEW, 0)
    with pytest.raises(ConfigError, match="12 um"):
        evaluate_conditional(bundle_model, replace(bundle_set, field_of_view=10.0), FEW, 0)
    with pytest.raises(ConfigError, match="4 held-out and 8 training"):
        evaluate_conditional(bundle_model, bundle_set, replace(FEW, signals=5), 0)
    with pytest.raises(ConfigError, match="source: bundles"):
        evaluate_conditional(bundle_model, image_set, FEW, 0)
    with pytest.raises(ConfigError, match="a signal of 2 features"):
        bundle_model.denoise(torch.zeros(1, 16, 16), 1.0, torch.zeros(1, 2))
    with pytest.raises(ConfigError, match="no more simulated"):
        ConditionalSpec(samples=4, simulated=5)


def test_images_out_of_range_are_refused(bundle_set):
    with pytest.raises(ConfigError, match=r"12 images leave \[-1, 1\]"):
        replace(bundle_set, images=255 * (bundle_set.images.abs() + 0.1))


def test_a_checkpoint_of_another_noise_is_refused(bundle_set, tmp_path):
    spec = ScoreSpec(width=8, iterations=1, batch=1)
    runtime = Runtime(checkpoint=tmp_path / "checkpoint", save_every=1)
    train_score(bundle_set, spec, 1, runtime)
    protocol = replace(bundle_set.protocol, snr=20.0)
    with pytest.raises(StoreError, match="another run"):
        train_score(replace(bundle_set, protocol=protocol), spec, 1, runtime)


def test_the_protocol_survives_the_stores(bundle_set, bundle_model, tmp_path):
    for noun, value in ((ImageSet, bundle_set), (ScoreModel, bundle_model)):
        save(value, tmp_path / noun.__name__)
        back = load(noun, tmp_path / noun.__name__)
        back.protocol.refuse_other(bundle_set.protocol.acquisition)
        assert (back.protocol.snr, back.protocol.mesh_size) == (50.0, 1.5)
