"""A score for a drift of your own: give the drift, and Malliavin weights do the rest.

python examples/6_own_drift.py [folder for the figure]
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from spinmesh import scores


def main(folder: str | Path = ".") -> float:
    """Regress the weight of a new equation; return the mean square error of its score.

    Relative to the score's own mean square. The exact score is known here because the data are
    one point and the law at the horizon is the limit law of the drift.
    """
    # Ten lines: your drift, its chain with weights, and a regression of the weight on X.
    sde = scores.OwnDrift(lambda x: torch.sin(2 * x) - x, sigma=0.8, horizon=8.0)
    x0 = torch.full((40_000,), 0.4, dtype=torch.float64)
    x, weight = scores.simulate_weight(sde, x0, 160, 8.0, torch.Generator().manual_seed(1))
    edges = torch.linspace(-1.6, 1.6, 33, dtype=torch.float64)
    cell = torch.bucketize(x, edges)
    score = torch.stack([-weight.delta[cell == k].mean() for k in range(1, 33)])
    ito = torch.stack([-weight.ito[cell == k].mean() for k in range(1, 33)])
    centre = 0.5 * (edges[1:] + edges[:-1])
    exact = sde.base_score(centre, torch.tensor(8.0))

    plt.plot(centre, exact, "k-", label="exact score of the limit law")
    plt.plot(centre, score, "o", ms=4, label="minus the mean weight")
    plt.plot(centre, ito, "x", ms=4, label="its Ito part alone: biased")
    plt.xlabel("x")
    plt.legend()
    plt.savefig(Path(folder) / "6_own_drift.png")
    return float(((score - exact) ** 2).mean() / (exact**2).mean())


if __name__ == "__main__":
    print(f"relative mean square error of the score: {main(*sys.argv[1:]):.4f}")
