"""The mean of an image given a signal: a normal law, exact for normal data."""

import torch

from spinmesh.synthesis.image_mean import LEAST_SPREAD, learn_image_mean
from spinmesh.synthesis.scalings import Denoiser, row_mean

SIDE = 16
LEFT = 0.05  # deviation of the mean that features do not tell


def told(features):
    return 0.1 + 0.2 * features[:, 0] - 0.1 * features[:, 1] + 0.06 * features[:, 0] ** 2


def supply(n, generator):
    """Images of normal texture whose mean is a quadratic of two features, and a rest."""
    features = torch.randn(n, 2, generator=generator)
    mean = told(features) + LEFT * torch.randn(n, generator=generator)
    texture = 0.7 * torch.randn(n, SIDE, SIDE, generator=generator)
    texture = texture - texture.mean((1, 2), keepdim=True)
    return texture + mean[:, None, None], (features, torch.ones(n))


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_the_law_of_the_mean_is_found():
    law = learn_image_mean(supply, 2000, seeded(0))
    features = torch.tensor([[0.5, -0.3], [-1.0, 1.0], [9.0, 0.0]])
    expected, spread = law(features, torch.ones(3))
    # 8,192 pairs determine an expectation within LEFT / 90 per term or so.
    torch.testing.assert_close(expected[:2], told(features[:2]), rtol=0, atol=4e-3)
    assert abs(float(spread[0]) / LEFT - 1) < 0.03  # 1 / sqrt(2 x 8,192) is 0.008
    # Features beyond four deviations are held there, so that no product runs away.
    torch.testing.assert_close(expected[2], told(torch.tensor([[4.0, 0.0]]))[0], rtol=0, atol=0.02)
    # Nobody is told: the moments of all images.
    apart, spread = law(features, torch.zeros(3))
    assert torch.equal(apart, apart[:1].expand(3))
    every = row_mean(supply(8192, seeded(1))[0])
    assert abs(float(apart[0] - every.mean())) < 0.01
    assert abs(float(spread[0] / every.std()) - 1) < 0.03


def test_the_untrained_denoiser_has_the_exact_mean():
    """E[m | x, features] by its property: the error is uncorrelated with all that is known."""
    law = learn_image_mean(supply, 2000, seeded(0))
    clean, context = supply(20_000, seeded(2))
    for level in (20.0, 1.0, 0.2):
        sigma = torch.full((len(clean),), level)
        x = clean + level * torch.randn(clean.shape, generator=seeded(3))
        denoiser = Denoiser(lambda x, s, *context: 0 * x, 0.1, 0.7, law)
        found = denoiser(x, sigma, *context)
        error = row_mean(found - clean)
        spread = denoiser.mean_spread(x, sigma, *context)
        assert abs(float((error / spread).square().mean()) - 1) < 0.05
        for known in (row_mean(x), *context[0].T):
            # 20,000 pairs: 0.007.
            assert abs(float(torch.corrcoef(torch.stack([error, known]))[0, 1])) < 0.03
        # Texture has the Wiener filter of white data, as without the law of the mean.
        plain = Denoiser(lambda x, s, *context: 0 * x, 0.1, 0.7)(x, sigma, *context)
        flat = [y - row_mean(y)[:, None, None] for y in (found, plain)]
        torch.testing.assert_close(*flat, rtol=1e-4, atol=1e-5)


def test_few_images_are_not_fitted_by_many_terms():
    """Two features: six terms from 60 images on, three from 30, else one."""
    lengths = {n: len(learn_image_mean(supply, n, seeded(0)).weight) for n in (60, 59, 30, 29, 1)}
    assert lengths == {60: 6, 59: 3, 30: 3, 29: 1, 1: 1}


def test_images_of_one_mean_are_not_certain_beyond_measure():
    flat = learn_image_mean(
        lambda n, g: (torch.ones(n, 8, 8), (torch.zeros(n, 0), 0)), 9, seeded(0)
    )
    assert flat.known_spread == flat.unknown_spread == LEAST_SPREAD
