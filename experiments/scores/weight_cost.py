"""The cost of the Malliavin weight (A) as a fraction of a training step on 32 x 32 images.

    python -m experiments.scores.weight_cost

CPU time of the double well's chain over that of the whole step. The target of issue 5: 0.10.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
from collections.abc import Callable

import torch
from torch import Tensor

from spinmesh.scores import DoubleWell
from spinmesh.scores.network import seeded_unet
from spinmesh.scores.targets import WeightRegression


def weight_cost() -> float:
    """Batch 32, width 32."""
    generator = torch.Generator().manual_seed(0)
    images = torch.sign(torch.randn(64, 32, 32, generator=generator))
    context = (torch.zeros(32, 4), torch.ones(32))

    def supply(n: int, generator: torch.Generator) -> tuple[Tensor, tuple[Tensor, ...]]:
        rows = torch.randint(64, (n,), generator=generator)
        return images[rows], tuple(c[:1].expand(n, *c.shape[1:]) for c in context)

    task = WeightRegression(DoubleWell(), "malliavin-a", supply, 32, generator)
    network = seeded_unet(32, 4, generator)

    def spent(work: Callable[[], object], times: int) -> float:
        work()
        start = time.process_time()
        for _ in range(times):
            work()
        return (time.process_time() - start) / times

    batches = task.draw(generator, 0)
    drawing = spent(lambda: task.draw(generator, 0), 4) / len(batches)
    return drawing / (drawing + spent(lambda: task.loss(network, batches[0]).backward(), 8))


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(f"cost of weight (A) in a training step of images: {weight_cost():.3f} (target 0.10)")
