"""A convolutional network with self-attention that looks at all features of a sound over time.

After AFEN (arXiv 2405.05467), whose abstract alone could be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spinmesh.learning import Batch

Pictures = Float[Tensor, "example channel row column"]
HEADS = 4
# Columns by which a branch of the network is shorter than the image.
SHORTER = 8
# Augmentation: deviation of loudness and tilt, longest mask (a fraction), largest part of another.
TILT, MASK, MIXED = 0.5, 0.2, 0.5


class AttentionNetwork(nn.Module):
    """A branch of convolutions for each kind of feature, joined column by column.

    `rows` says how many rows of the image are of each kind. Self-attention then lets every column
    weigh all others, and the classes follow from mean and maximum over the columns.
    """

    def __init__(self, channels: int, rows: Sequence[int], width: int, classes: int) -> None:
        super().__init__()
        self.rows = list(rows)
        self.branches = nn.ModuleList(_branch(channels, count, width) for count in rows)
        self.join = nn.Linear(width * len(rows), 2 * width)
        self.before, self.after = nn.LayerNorm(2 * width), nn.LayerNorm(2 * width)
        self.attention = nn.MultiheadAttention(2 * width, HEADS, batch_first=True)
        self.exit = nn.Linear(4 * width, classes)

    def forward(self, image: Pictures) -> Float[Tensor, "example class"]:
        """Log probabilities of the classes, but for a constant."""
        kinds = image.split(self.rows, 2)
        parts = [branch(kind) for branch, kind in zip(self.branches, kinds, strict=True)]
        columns = self.join(torch.cat(parts, 1).transpose(1, 2))
        normal = self.before(columns)
        columns = columns + self.attention(normal, normal, normal, need_weights=False)[0]
        columns = self.after(columns)
        return self.exit(torch.cat([columns.mean(1), columns.amax(1)], 1))


def _branch(channels: int, rows: int, width: int) -> nn.Module:
    """Three convolutions and a last one over all rows: `width` numbers for each eighth column."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise([channels, width // 2, width, width]):
        # Kernels are three rows tall and skip every other row while there are four or more.
        tall, down, edge = (3, 2, 1) if rows > 3 else (1, 1, 0)
        layers += [nn.Conv2d(inputs, outputs, (tall, 5), (down, 2), (edge, 2)),
                   nn.GroupNorm(4, outputs), nn.SiLU()]  # fmt: skip
        rows = (rows - 1) // down + 1
    return nn.Sequential(*layers, nn.Conv2d(width, width, (rows, 1)), nn.Flatten(2))


def seeded_network(
    channels: int, rows: Sequence[int], width: int, classes: int, generator: torch.Generator
) -> AttentionNetwork:
    """Initialised from `generator` alone; torch's global one is neither read nor moved."""
    with torch.device("meta"):
        network = AttentionNetwork(channels, rows, width, classes)
    network.to_empty(device=generator.device)
    for name, parameter in network.named_parameters():
        if parameter.ndim == 1:
            nn.init.constant_(parameter, float(name.endswith("weight")))
        else:
            nn.init.kaiming_uniform_(parameter, a=5**0.5, generator=generator)
    return network


def augmented(image: Pictures, target: Tensor, generator: torch.Generator, bands: int) -> Batch:
    """The sounds begin elsewhere, through another stethoscope, partly hidden, mixed in pairs.

    Images have mean 0 and deviation 1 in every row, of which the first `bands` are mel bands; they
    are moved in a circle, made louder and tilted. Columns and rows are hidden (Park et al. 2019).
    """
    count, _, rows, columns = image.shape

    def uniform(*, most: float = 1.0) -> Tensor:
        draw = torch.rand(count, generator=generator, device=generator.device)
        return most * draw[:, None, None, None]

    def normal() -> Tensor:
        draw = torch.randn(count, generator=generator, device=generator.device)
        return draw[:, None, None, None]

    column = torch.arange(columns, device=image.device)
    begin = (column + (columns * uniform()).long()) % columns
    image = image.gather(3, begin.expand_as(image))
    shape = torch.zeros((2, rows, 1), device=image.device)
    shape[0, :bands], shape[1, :bands, 0] = 1.0, torch.linspace(-1, 1, bands)
    image = image + TILT * (normal() * shape[0] + normal() * shape[1])
    row = torch.arange(rows, device=image.device)[:, None]
    for place in (column / columns, row / rows):
        start, length = uniform(), uniform(most=MASK)
        image = image.masked_fill((place >= start) & (place < start + length), 0.0)
    part = MIXED * uniform() ** 2
    target = target + part[:, :, 0, 0] * (target.roll(1, 0) - target)
    return image + part * (image.roll(1, 0) - image), target
