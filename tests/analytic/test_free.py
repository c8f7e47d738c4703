"""Free diffusion."""

import pytest
import torch

from spinmesh.analytic import free
from spinmesh.errors import ConfigError

TENSOR = torch.tensor([[2.0, 0.3, 0.0], [0.3, 1.0, 0.1], [0.0, 0.1, 0.5]], dtype=torch.float64)


def test_isotropic_attenuation_is_exp_of_minus_b_D(pgse):
    b = torch.tensor([0.0, 0.5, 3.0], dtype=torch.float64)
    # b survives the round trip through the gradient amplitude to rounding.
    torch.testing.assert_close(free(pgse(b), 2.0), torch.exp(-2 * b), rtol=1e-13, atol=0)


def test_a_tensor_is_seen_through_the_direction(pgse):
    """Along e the apparent diffusivity is e'De; here e = (1, 1, 0)/sqrt 2 gives 1.8."""
    signal = free(pgse([1.0], (1, 1, 0)), TENSOR)
    assert float(-signal.log()) == pytest.approx(1.8, rel=1e-13)  # rounding


def test_gradient_with_respect_to_the_tensor(pgse):
    acquisition = pgse([0.5, 2.0], (1, 2, -1))
    tensor = TENSOR.clone().requires_grad_()

    def of_symmetric(D):
        return free(acquisition, (D + D.T) / 2)

    assert torch.autograd.gradcheck(of_symmetric, (tensor,))


@pytest.mark.parametrize("D", [0.0, -1.0, torch.diag(torch.tensor([1.0, 1.0, -0.1]))])
def test_a_diffusivity_that_is_not_positive_is_refused(pgse, D):
    with pytest.raises(ConfigError, match="positive"):
        free(pgse([1.0]), D)
