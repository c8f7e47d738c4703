"""Networks whose first weights come from a generator, never from torch's global one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


def perceptron(
    sizes: Sequence[int],
    gains: Sequence[float],
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
) -> nn.Sequential:
    """Linear layers between `sizes` units, with SiLU between the layers.

    The weights of layer k are normal with deviation sqrt(gains[k] / inputs), the biases zero: 2
    keeps the size of what passes (He et al. 2015), 0 lets the network begin as a constant.
    """
    weights = {}
    for layer, ((inputs, outputs), gain) in enumerate(zip(pairwise(sizes), gains, strict=True)):
        weight = torch.randn(
            (outputs, inputs), generator=generator, dtype=dtype, device=generator.device
        )
        weights[f"{2 * layer}.weight"] = weight * (gain / inputs) ** 0.5
        weights[f"{2 * layer}.bias"] = weight.new_zeros(outputs)
    return perceptron_of(weights).requires_grad_()


def perceptron_of(weights: Mapping[str, Tensor]) -> nn.Sequential:
    """The network of a `perceptron` whose `state_dict` was `weights`; they take no gradient."""
    layers: list[nn.Module] = []
    for number in range(len(weights) // 2):
        weight, bias = (weights[f"{2 * number}.{name}"] for name in ("weight", "bias"))
        linear = nn.Linear(weight.shape[1], weight.shape[0], device="meta", dtype=weight.dtype)
        linear.weight = nn.Parameter(weight, requires_grad=False)
        linear.bias = nn.Parameter(bias, requires_grad=False)
        layers += [linear, nn.SiLU()]
    return nn.Sequential(*layers[:-1])
