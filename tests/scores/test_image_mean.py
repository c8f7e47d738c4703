"""The mean of an image given a signal: a normal law, exact for normal data."""

import torch

from spinmesh.scores.denoiser import Denoiser, per_row, row_mean, within_range
from spinmesh.scores.features import LEAST_SPREAD, learn_image_mean

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
    expected = law(features, torch.ones(3))
    # 8,192 pairs determine an expectation within LEFT / 90 per term or so.
    torch.testing.assert_close(expected[:2], told(features[:2]), rtol=0, atol=4e-3)
    assert abs(float(deviation(law)[1]) / LEFT - 1) < 0.03  # 1 / sqrt(2 x 8,192) is 0.008
    # Features beyond four deviations are held there, so that no product runs away.
    torch.testing.assert_close(expected[2], told(torch.tensor([[4.0, 0.0]]))[0], rtol=0, atol=0.02)
    # Nobody is told: the moments of all images.
    apart = law(features, torch.zeros(3))
    assert torch.equal(apart, apart[:1].expand(3))
    every = row_mean(supply(8192, seeded(1))[0])
    assert abs(float(apart[0] - every.mean())) < 0.01
    assert abs(float(deviation(law)[0] / every.std()) - 1) < 0.03


def deviation(law):
    """Of the rest, without features and with them."""
    return (law.atoms.square().mean(1) + law.widths**2).sqrt()


def test_the_denoised_mean_is_exact():
    """E[m | x, features] by its property: the error is uncorrelated with all that is known."""
    law = learn_image_mean(supply, 2000, seeded(0))
    clean, context = supply(20_000, seeded(2))
    for level in (20.0, 1.0, 0.2):
        sigma = torch.full((len(clean),), level)
        x = clean + level * torch.randn(clean.shape, generator=seeded(3))
        # Whatever the network says of it.
        found = Denoiser(lambda x, s, *context: 1 + 0 * x, 0.1, 0.7, law)(x, sigma, *context)
        error = row_mean(found - clean)
        # Of two normal laws the precisions add up.
        best = (LEFT**-2 + (SIDE / level) ** 2) ** -0.5
        assert abs(float((error / best).square().mean()) - 1) < 0.05
        for known in (row_mean(x), *context[0].T):
            # 20,000 pairs: 0.007.
            assert abs(float(torch.corrcoef(torch.stack([error, known]))[0, 1])) < 0.03
        # Texture has the Wiener filter of white data, as without the law of the mean.
        plain = Denoiser(lambda x, s, *context: 0 * x, 0.1, 0.7)(x, sigma, *context)
        flat = [y - row_mean(y)[:, None, None] for y in (found, plain)]
        torch.testing.assert_close(*flat, rtol=1e-4, atol=1e-5)


def test_a_mean_with_two_modes_keeps_them():
    """Far from normal: between the modes the denoised mean goes to the nearer one."""

    def two(n, generator):
        side = 2.0 * torch.randint(2, (n,), generator=generator) - 1
        mean = 0.5 * side + 0.02 * torch.randn(n, generator=generator)
        return mean[:, None, None].expand(n, 4, 4), (torch.zeros(n, 0), torch.zeros(n))

    law = learn_image_mean(two, 4000, seeded(0))
    seen = torch.tensor([-0.3, 0.3])
    blank = (torch.zeros(2, 0), torch.zeros(2))
    sharp = law.denoised(seen, torch.full((2,), 0.25), *blank)
    # The kernel's width, 0.086 here, blurs a mode and gives the noise that much of a say.
    assert sharp[0] < -0.4 and sharp[1] > 0.4
    # In noise far above the modes' distance nothing but their average is left.
    assert float(law.denoised(seen, torch.full((2,), 50.0), *blank).abs().max()) < 0.02


def test_features_that_tell_nothing_are_not_believed():
    """All but collinear ones, where other images may lie far outside what has been seen."""

    def deaf(n, generator):
        one = torch.randn(n, 1, generator=generator)
        features = one + 1e-4 * torch.randn(n, 9, generator=generator)
        mean = 0.1 * torch.randn(n, generator=generator)
        return mean[:, None, None].expand(n, 4, 4), (features, torch.ones(n))

    law = learn_image_mean(deaf, 1200, seeded(0))
    strange = 3 * torch.randn(500, 9, generator=seeded(1))
    # A tenth of what is not known; least squares gives 0.1 x sqrt(9 / 8192) / 1e-4, some 30.
    assert float(law(strange, torch.ones(500)).std()) < 0.01


def test_few_images_are_not_fitted_by_many_terms():
    """Two features: six terms from 60 images on, three from 30, else one."""
    lengths = {n: len(learn_image_mean(supply, n, seeded(0)).weight) for n in (60, 59, 30, 29, 1)}
    assert lengths == {60: 6, 59: 3, 30: 3, 29: 1, 1: 1}


def test_images_of_one_mean_are_not_certain_beyond_measure():
    flat = learn_image_mean(
        lambda n, g: (torch.ones(n, 8, 8), (torch.zeros(n, 0), 0)), 9, seeded(0)
    )
    assert float(flat.atoms.abs().max()) == 0 and float(flat.widths.min()) > 0.3 * LEAST_SPREAD


def test_images_held_to_the_range_of_grey_levels_keep_their_mean():
    """The nearest such images: no other one of the same mean and range is nearer."""
    x = 1.5 * torch.randn(6, 8, 8, generator=seeded(0), dtype=torch.float64) - 0.3
    held = within_range(x)
    assert float(held.abs().max()) <= 1
    torch.testing.assert_close(row_mean(held), row_mean(x), rtol=0, atol=1e-6)
    others = within_range(held + 0.3 * torch.randn(50, 6, 8, 8, generator=seeded(1))[0])
    others = within_range(others + per_row(row_mean(held) - row_mean(others), others))
    torch.testing.assert_close(row_mean(others), row_mean(held), rtol=0, atol=1e-6)
    # A projection on a convex set: (x - held).(other - held) <= 0 for every other member.
    assert float(((x - held) * (others - held)).flatten(1).sum(1).max()) < 1e-4
    # What lies within the range stays, to the bisection's 1e-7.
    torch.testing.assert_close(within_range(held), held, rtol=0, atol=1e-6)
    # A mean outside the range goes to its end.
    assert float(within_range(torch.full((1, 2, 2), 7.0)).min()) > 0.999
