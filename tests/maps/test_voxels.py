"""A voxel's signal and features: limits of the orientation law, rotations, noise."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from spinmesh.maps import voxels as module
from spinmesh.maps.voxels import QUANTITIES, draw_voxels, features, measured, signals, watson
from tests.maps.conftest import ACQUISITION


def test_the_orientation_law_has_its_limits():
    """Order 0: only degree 0 is left. Nearly parallel: w_l -> 1 - l (l + 1) (1 - p2) / 6."""
    weights = watson(torch.tensor([0.0, 0.6, 0.97], dtype=torch.float64))
    torch.testing.assert_close(weights[0, 1:], torch.zeros(6).double(), rtol=0, atol=1e-12)
    assert weights[1, 1].item() == pytest.approx(0.6, abs=1e-4)
    # The next term of the series is (l (l + 1) / 6 0.03)^2 / 2 of degree 4.
    assert weights[2, 2].item() == pytest.approx(1 - 20 / 6 * 0.03, abs=6e-3)


def test_fractions_are_of_water_and_invert(kernels):
    drawn = draw_voxels(kernels.tissue, 200, 3, 5)
    low, high = torch.tensor(module.bounds_of(kernels.tissue)).double().T
    assert ((drawn.quantities >= low) & (drawn.quantities <= high)).all()
    same = drawn.quantities.reshape(200, 3, len(QUANTITIES))
    kept = [name for i, name in enumerate(QUANTITIES) if (same[:, :1, i] == same[:, :, i]).all()]
    assert kept == ["radius", "bead_amplitude", "axon_fraction", "diffusivity_inside",
                    "diffusivity_between"]  # fmt: skip
    packed = torch.tensor([0.2, 0.6]).double()
    g = torch.tensor([0.7, 0.9]).double()
    back = module.packed_fraction(module.axon_fraction(packed, g), g)
    torch.testing.assert_close(back, packed)


def test_a_voxel_of_free_water_is_free(kernels):
    """exp(-3 b) whatever else it is said to hold."""
    drawn = draw_voxels(kernels.tissue, 2, 1, 0)
    drawn.quantities[:, 4] = 1.0
    found = signals(ACQUISITION, drawn.kernels(kernels), torch.eye(3).double()[:2])
    expected = torch.exp(-3.0 * ACQUISITION.b_value).expand(2, -1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_a_voxel_is_the_mean_over_the_axes_of_its_axons(kernels):
    """Of 4,000 axes drawn from Watson's law by rejection, without water between or free water."""
    drawn = draw_voxels(kernels.tissue, 1, 1, 0)
    drawn.quantities[:, 2:5] = torch.tensor([0.6, 1.0, 0.0]).double()
    concentration = 4.4437  # whose order is 0.6, by quadrature
    x = torch.linspace(-1, 1, 20001).double()
    law = torch.exp(concentration * (x**2 - 1))
    assert float(((3 * x**2 - 1) / 2 * law).sum() / law.sum()) == pytest.approx(0.6, abs=2e-3)
    axes = module.random_axes(40_000, torch.Generator().manual_seed(1))
    chance = torch.exp(concentration * (axes[:, 2] ** 2 - 1))
    axes = axes[torch.rand(40_000, generator=torch.Generator().manual_seed(2)) < chance][:4000]
    radius, beads, inside = drawn.quantities[:, [0, 1, 5]].T
    alone = kernels.axons(radius, beads, inside).expand(len(axes), -1, -1)
    expected = signals(ACQUISITION, alone, axes).mean(0)
    found = signals(ACQUISITION, drawn.kernels(kernels), torch.eye(3).double()[2:])
    # Deviations of 0.3 over the root of 4,000, three of them, and the clipping of undershoots.
    torch.testing.assert_close(found[0], expected, rtol=0, atol=0.015)


def test_features_do_not_change_with_the_voxel_and_its_directions(kernels):
    """Turned together exactly; a turned voxel under the same directions by what 30 of them miss.

    Measured 1.2 % of the largest feature with the made-up kernels, whose axons are thin.
    """
    drawn = draw_voxels(kernels.tissue, 40, 1, 3)
    coefficients = drawn.kernels(kernels)
    turn = torch.from_numpy(Rotation.random(rng=np.random.default_rng(1)).as_matrix())
    axis = module.random_axes(40, torch.Generator().manual_seed(2))
    plain = features(ACQUISITION, signals(ACQUISITION, coefficients, axis), drawn.snr)
    turned = ACQUISITION.rotated(turn)
    together = features(turned, signals(turned, coefficients, axis @ turn.T), drawn.snr)
    torch.testing.assert_close(together, plain, rtol=0, atol=1e-9)
    alone = features(ACQUISITION, signals(ACQUISITION, coefficients, axis @ turn.T), drawn.snr)
    change = (alone - plain)[:, :-1].abs().max() / plain[:, :-1].abs().max()
    assert 1e-9 < change < 0.03


def test_noise_is_rician_and_relative_to_the_noisy_unweighted_signal(kernels):
    generator = torch.Generator().manual_seed(4)
    clean = torch.zeros(4000, len(ACQUISITION)).double()
    clean[:, ACQUISITION.unweighted] = 1.0
    noisy = measured(ACQUISITION, clean, torch.full((4000,), 20.0).double(), generator)
    weighted = ~ACQUISITION.unweighted
    # Rayleigh's mean, sigma sqrt(pi / 2), over S0, whose own mean is 1 + sigma^2 / 2.
    expected = 0.05 * (np.pi / 2) ** 0.5
    assert noisy[:, weighted].mean().item() == pytest.approx(expected, rel=3e-3)
    torch.testing.assert_close(
        noisy[:, ACQUISITION.unweighted].mean(1), torch.ones(4000).double(), rtol=0, atol=1e-12
    )
