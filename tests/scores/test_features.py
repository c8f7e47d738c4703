"""What the network is told of a signal, and how it is told it in training."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from spinmesh.bundles import Protocol
from spinmesh.errors import StoreError
from spinmesh.scores import train_score
from spinmesh.scores.features import learn_features
from spinmesh.scores.model import image_supply, moved
from spinmesh.settings import BundleSettings
from spinmesh.settings.synthesise import ScoreTraining


def test_features_find_what_the_tissue_changes_and_leave_the_noise():
    """One direction of change among six measurements, one of them noise alone."""
    protocol = Protocol.of(BundleSettings(b_s_per_mm2=(1000.0, 5000.0), Delta_ms=(20.0,)))
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
    orders, labels = train.protocol.symmetries(), torch.arange(3.0)[None]
    # x, y and z at one b: mirrored they stay, transposed x and y change places.
    assert orders[0].tolist() == [0, 1, 2] and orders[1].tolist() == [1, 0, 2]
    columns = train.images[0].sum(0).sort().values
    turned = []
    for _ in range(20):
        images, order = moved(train.images[:1], labels, orders, generator)
        # Sums over y survive any shift and mirror, up to rounding, but not the transposition.
        same = torch.allclose(images[0].sum(0).sort().values, columns, atol=1e-4)
        assert order[0].tolist() == ([0, 1, 2] if same else [1, 0, 2])
        turned.append(not same)
    assert 0 < sum(turned) < 20


def test_a_checkpoint_of_another_noise_is_refused(bundle_set, tmp_path, monkeypatch):
    spec = ScoreTraining(width=8, iterations=1, batch=1)
    monkeypatch.setattr("spinmesh.learning.Checkpoint.SAVE_EVERY", 1)
    monkeypatch.setattr("spinmesh.learning.Checkpoint.remove", lambda checkpoint: None)
    train_score(bundle_set, spec, 1, tmp_path / "checkpoint")
    protocol = replace(bundle_set.protocol, snr=20.0)
    with pytest.raises(StoreError, match="another run"):
        train_score(replace(bundle_set, protocol=protocol), spec, 1, tmp_path / "checkpoint")
