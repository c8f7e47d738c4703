"""The network respects the torus, the seed and the scalings."""

import torch
from torch.nn import functional

from spinmesh.scores.denoiser import Denoiser
from spinmesh.scores.network import Wrap, seeded_unet


def trained_looking(seed=0):
    """A UNet without its zero-initialised layers, so that every path carries signal."""
    generator = torch.Generator().manual_seed(seed)
    network = seeded_unet(16, 3, generator)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
    return network


def batch(n=4, seed=1):
    generator = torch.Generator().manual_seed(seed)
    draw = [torch.randn(*s, generator=generator) for s in ((n, 32, 32), (n,), (n, 3))]
    return *draw, torch.ones(n)


def test_wrap_is_circular_padding_and_its_gradient():
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(Wrap.apply(x), functional.pad(x, (1, 1, 1, 1), "circular"))
    assert torch.autograd.gradcheck(Wrap.apply, x)


def test_moving_the_cell_moves_the_output():
    network, (x, noise, condition, known) = trained_looking(), batch()
    moved = network(x.roll((8, -16), (1, 2)), noise, condition, known)
    still = network(x, noise, condition, known).roll((8, -16), (1, 2))
    # float32 sums over 1024 pixels in another order.
    torch.testing.assert_close(moved, still, rtol=1e-4, atol=1e-4)


def test_the_mean_of_an_image_is_seen_in_spite_of_the_normalisation():
    """With the convolutions' exit closed what is left is a constant that follows the mean."""
    network, (x, noise, condition, known) = trained_looking(), batch()
    with torch.no_grad():
        network.exit.weight.zero_()
        network.exit.bias.zero_()
    first, second = (network(y, noise, condition, known) for y in (x, x + 0.1))
    torch.testing.assert_close(first, first[:, :1, :1].expand_as(first))
    # Rounding is 1e-8 here.
    assert ((first - second).abs() > 1e-6).all()


def test_an_unknown_condition_is_not_read():
    network, (x, noise, condition, known) = trained_looking(), batch()
    dropped = network(x, noise, condition, 0 * known)
    assert torch.equal(dropped, network(x, noise, condition + 5, 0 * known))
    assert not torch.allclose(dropped, network(x, noise, condition, known), atol=1e-3)


def test_the_untrained_denoiser_is_the_best_linear_one():
    """With F = 0 the scalings alone give the Wiener filter of white data, at every sigma."""
    network = seeded_unet(16, 3, torch.Generator().manual_seed(0))
    x, noise, condition, known = batch()
    sigma, mean, std = noise.exp(), 0.2, 0.7
    clean = Denoiser(network, mean, std)(x, sigma, condition, known)
    gain = (std**2 / (std**2 + sigma**2))[:, None, None]
    torch.testing.assert_close(clean, mean + gain * (x - mean), rtol=1e-5, atol=1e-6)


def test_initial_weights_come_from_the_generator_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = seeded_unet(16, 3, torch.Generator().manual_seed(9)).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    second = seeded_unet(16, 3, torch.Generator().manual_seed(9)).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_default_size_is_a_few_hundred_thousand_parameters():
    network = seeded_unet(32, 10, torch.Generator().manual_seed(0))
    assert 3e5 < sum(p.numel() for p in network.parameters()) < 5e5
