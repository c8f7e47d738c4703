"""Settings of the published experiment: its shapes, and what is compared."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from spinmesh.settings import Basis, ShapeTraining, SweptDisk
from spinmesh.settings.setting import Setting

if TYPE_CHECKING:
    from torch import Tensor

    from spinmesh.mesh import Substrates

# Keys of the configuration that the main workflow does not know.
OWN_KEYS = ("published", "experiment")

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


class Published(Setting):
    """The shapes of ReMiDi (arXiv 2502.01988): three families with their splits."""

    fraction: float = Field(1 / 15, gt=0, le=1)
    """Of the published counts, turns of one shape not counted; 1 is the full experiment."""
    training: float | None = Field(None, gt=0, le=1)
    """Of the published training shapes alone; null: `fraction`. Their signals are the starts."""
    steps: Literal["published", "between"] = "between"
    """Training shapes on the published odd steps only, or anywhere in their range."""
    further: NonNegativeInt = 0
    """Shapes of each family, without signals, that a variational shape model also learns from."""

    def substrates(self, template: SweptDisk, seed: int) -> Substrates:
        """The table of shapes."""
        from experiments.remidi.shapes import distinct_counts, published_substrates
        from spinmesh.mesh import swept_disk

        counts = distinct_counts(self.fraction, self.training)
        return published_substrates(swept_disk(template), counts, self.steps, seed)

    def further_shapes(self, template: SweptDisk, seed: int) -> Tensor | None:
        """Parameters of the shapes that only the shape model sees, or None."""
        if self.further == 0:
            return None
        from experiments.remidi.shapes import further_parameters
        from spinmesh.mesh import swept_disk

        return further_parameters(swept_disk(template), self.further, self.steps, seed)


class Experiment(Setting):
    """Reconstruction of every held-out shape by every method."""

    refine: PositiveInt = 2
    """Rings and layers of the held-out shapes' meshes, as a multiple of the template's."""
    basis: Basis = Basis(degree=3, blocks=3)
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
    compared_model: ShapeTraining = ShapeTraining()
    """An autoencoder, for comparison; as PCA as well."""
    methods: tuple[Method, ...] = (*BLIND, "gauss_newton", *QUICK, *SLOW)
    """Which are compared; the mean shape is needed for the ratios."""
    ablations: tuple[Ablation, ...] = ABLATIONS
    """Which of the published ablations are made."""

    def arms(self) -> dict[str, dict[str, Any]]:
        """What `Arm` takes, by the name of its files.

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


class Remidi(Setting):
    """What the experiment adds to the configuration of a run."""

    published: Published = Published()
    """Which shapes."""
    experiment: Experiment = Experiment()
    """What is compared."""
