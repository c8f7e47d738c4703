"""The published experiment as a section of the configuration."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

from pydantic import PositiveFloat, PositiveInt

from spinmesh.settings.physics import BasisSection
from spinmesh.settings.reconstruct import ShapeModelSection
from spinmesh.settings.setting import Setting

# Methods that read no signal: what any reconstruction has to beat, and what a decoder can do.
Blind = Literal["template", "mean_shape", "decoder", "decoder_autoencoder", "decoder_pca"]
# Methods that are quick enough for every held-out shape beside Gauss-Newton.
Quick = Literal["nearest", "network"]
# The rest is shown on a few shapes of each family.
Slow = Literal["gauss_newton_autoencoder", "gauss_newton_pca", "from_truth", "adamw"]
Method = Blind | Quick | Slow | Literal["gauss_newton"]
Ablation = Literal["bend_twist", "beads", "fans", "directions", "times"]
BLIND: tuple[Blind, ...] = get_args(Blind)
QUICK: tuple[Quick, ...] = get_args(Quick)
SLOW: tuple[Slow, ...] = get_args(Slow)
ABLATIONS: tuple[Ablation, ...] = get_args(Ablation)


class Experiment(Setting):
    """Reconstruction of every held-out shape by every method; needs `mesh.published`."""

    refine: PositiveInt = 2
    """Rings and layers of the held-out shapes' meshes, as a multiple of the template's."""
    basis: BasisSection = BasisSection(degree=3, blocks=3)
    """For the held-out shapes: another one than the reconstructions use."""
    snr: tuple[PositiveFloat, ...] = (math.inf, 50.0)
    """Noise levels of the table, for every held-out shape."""
    more_snr: tuple[PositiveFloat, ...] = (100.0, 20.0)
    """Further noise levels of the figure, for a few shapes of each family."""
    few: PositiveInt = 6
    """How many are a few: of each family, for slow methods and further noise levels."""
    descents: PositiveInt = 500
    """AdamW iterations of the published inversion."""
    chunks: PositiveInt = 10
    """Into how many jobs a method that searches is divided."""
    compared_model: ShapeModelSection = ShapeModelSection()
    """An autoencoder, for comparison; as PCA as well."""
    methods: tuple[Method, ...] = (*BLIND, "gauss_newton", *QUICK, *SLOW)
    """Which are compared; the mean shape is needed for the ratios."""
    ablations: tuple[Ablation, ...] = ABLATIONS
    """Which of the published ablations are made."""

    def arms(self) -> dict[str, dict[str, Any]]:
        """What `spinmesh.inversion.Arm` takes, by the name of its files.

        Every held-out shape at the SNRs of the table; a few at those of the figure, and by the slow
        methods, which run at the first SNR.
        """
        found: list[tuple[str, float, int | None]] = [(method, math.inf, None) for method in BLIND]
        for snr in self.snr:
            found += [(method, snr, None) for method in ("gauss_newton", *QUICK)]
        found += [("gauss_newton", snr, self.few) for snr in self.more_snr]
        found += [(method, self.snr[0], self.few) for method in SLOW]
        return {
            f"{method}-snr{snr:g}": {"method": method, "snr": snr, "per_family": count}
            for method, snr, count in found
            if method in self.methods
        }

    def jobs(self) -> list[str]:
        """Every arm's chunks, as in the names of their stores: only searches are divided.

        An arm of a few shapes has no more chunks than shapes of a family: a job takes a third of a
        minute to start, as long as one search.
        """
        found: list[str] = []
        for name, arm in self.arms().items():
            chunks = 1 if arm["method"] in (*BLIND, *QUICK) else self.chunks
            if arm["per_family"] is not None:
                chunks = min(chunks, arm["per_family"])
            found += [f"{name}/{chunk}-of-{chunks}" for chunk in range(chunks)]
        return found
