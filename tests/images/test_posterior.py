"""Images given a signal: what they say of it, and what they refuse."""

from dataclasses import replace

import pytest
import torch

from spinmesh.bundles import ImageSet, Protocol, resimulate
from spinmesh.errors import ConfigError, SequenceError
from spinmesh.images import Draws, draw_posterior, relative_to_zero
from spinmesh.images.posterior import central_interval
from spinmesh.inversion import Target
from spinmesh.io import load, save
from spinmesh.scores import ScoreModel
from spinmesh.sequence import Acquisition, with_reference
from spinmesh.settings import BundleSettings
from spinmesh.settings.synthesise import Sampling


def test_central_intervals_hold_their_share_of_further_draws():
    draws = torch.randn(4000, 10, generator=torch.Generator().manual_seed(2)).double()
    for level in (0.5, 0.8):
        low, high = central_interval(draws[:, :9], level)
        inside = ((low <= draws[:, 9]) & (draws[:, 9] <= high)).double().mean()
        # Binomial: 0.8 % at most; the plain quantiles of nine draws would miss by 5 to 8 %.
        torch.testing.assert_close(inside.item(), level, rtol=0, atol=0.024)


def test_draws_tell_what_they_hold_and_survive_their_store(bundle_set, bundle_model, tmp_path):
    measured = bundle_set.select("test").observed(3)[0].double().exp()
    spec = Sampling(sampler="dpm_solver_2m", steps=4, count=5)
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


def test_signals_of_another_protocol_are_refused_by_their_first_difference(bundle_model):
    def acquisition(b):
        return Protocol.of(BundleSettings(b_s_per_mm2=(b,), Delta_ms=(20.0,))).acquisition

    with pytest.raises(SequenceError, match="b-tensor of measurement 0 differs"):
        bundle_model.protocol.refuse_other(acquisition(4000.0))
    bundle_model.protocol.refuse_other(acquisition(5000.0))
    assert bundle_model.protocol.doubt(1 / 50) is None
    assert "too narrow" in bundle_model.protocol.doubt(1 / 20)
    assert "too wide" in bundle_model.protocol.doubt(0.0)


def test_a_signal_whose_s0_has_a_small_b_is_taken_relative_to_zero(bundle_set, bundle_model):
    """b = 50 s/mm^2 takes off 6 %, of which the images that are drawn know nearly all.

    These specks are no packing; water between axons differs by a fifth from theirs.
    """
    protocol = bundle_model.protocol
    low = Acquisition.pgse([0.05], [[0.0, 0.0, 1.0]], 10.0, 20.0)
    series = with_reference(Acquisition.joined([low, protocol.acquisition]))
    packing = bundle_set.select("test").images[:1]
    truth, _ = resimulate(
        packing, bundle_set.field_of_view, replace(protocol, acquisition=series), 1
    )
    target = Target(series, truth[0] / truth[0, 0]).select(torch.tensor([1, 2, 3]))
    bias = float((target.attenuation / truth[0, 1:] - 1).abs().max())
    spec = Sampling(sampler="dpm_solver_2m", steps=4, count=5)
    reference = target.acquisition.reference
    again = relative_to_zero(bundle_model, spec, 3, target.attenuation, reference)
    assert bias > 0.05
    torch.testing.assert_close(again, truth[0, 1:], rtol=bias / 4, atol=0)


def test_images_out_of_range_are_refused(bundle_set):
    with pytest.raises(ConfigError, match=r"12 images leave \[-1, 1\]"):
        replace(bundle_set, images=255 * (bundle_set.images.abs() + 0.1))


def test_the_protocol_survives_the_stores(bundle_set, bundle_model, tmp_path):
    for noun, value in ((ImageSet, bundle_set), (ScoreModel, bundle_model)):
        save(value, tmp_path / noun.__name__)
        back = load(noun, tmp_path / noun.__name__)
        back.protocol.refuse_other(bundle_set.protocol.acquisition)
        assert (back.protocol.snr, back.protocol.mesh_size) == (50.0, 1.5)
