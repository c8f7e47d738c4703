"""The posterior of a voxel's tissue for one protocol: its training, its limits, its calibration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spinmesh.estimators import coverage, ranks
from spinmesh.estimators.flow import Flow, train_flow
from spinmesh.learning import train_on
from spinmesh.machine import device_named, devices_named
from spinmesh.maps.kernels import Kernels
from spinmesh.maps.voxels import (
    QUANTITIES,
    Voxels,
    bounds_of,
    draw_voxels,
    features,
    signals,
    simulate_examples,
    simulate_measured,
)
from spinmesh.noise import rician_mean, rician_std
from spinmesh.progress import progress
from spinmesh.sequence import Acquisition
from spinmesh.settings.maps import PosteriorTraining
from spinmesh.stored import quantity, store

# What a voxel's flags say, each one bit.
FLAGS = {"unlike_training": 1, "misfit": 2, "noise_out_of_range": 4, "tissue_undetermined": 8}
UNANSWERED = 7
# Part of the voxels of the prior that each of the two limits flags.
FALSE_ALARMS = 1e-3
# Voxels of the prior from which the limits are taken.
JUDGED = 20_000
# Posterior over prior standard deviation above which a quantity is the prior's.
DETERMINED = 0.9
# All but the free water, which a voxel without tissue tells well.
TISSUE = [name != "free_water_fraction" for name in QUANTITIES]
# Quantiles of the answer; draws of each voxel, and voxels whose draws are made together.
QUANTILES = (0.1, 0.5, 0.9)
DRAWS, TOGETHER = 64, 1000
# Draws of each voxel whose signals are predicted.
PREDICTED = 8
LEVELS = (0.5, 0.8, 0.9)
# Added to the seed, so that limits, calibration and phantom are of tissues that no training drew.
FOR_LIMITS, HELD_OUT, KNOWN = 1, 2, 3
SNR_BANDS = ((10.0, 20.0), (20.0, 40.0), (40.0, 100.0))


@dataclass(frozen=True, eq=False)
class Answers:
    """The posterior of many voxels: NaN where it is not answered; `flags` are sums of `FLAGS`.

    `shrinkage` is the posterior's standard deviation over the prior's.
    """

    low: Float[Tensor, "voxel quantity"]
    median: Float[Tensor, "voxel quantity"]
    high: Float[Tensor, "voxel quantity"]
    shrinkage: Float[Tensor, "voxel quantity"]
    flags: Int[Tensor, " voxel"]


@store("spinmesh/map_model", version=1, stage="maps")
@dataclass(frozen=True, eq=False)
class MapModel:
    """A flow, the signals it learnt from, and limits beyond which it does not answer.

    `distance_limit` is on the Mahalanobis distance from the training features, `chi2_limit` on the
    misfit per measurement of the predicted signal.
    """

    kernels: Kernels
    flow: Flow
    prior_spread: Float[Tensor, " quantity"] = quantity("as named")
    precision: Float[Tensor, "feature feature"] = quantity("as named")
    distance_limit: float = torch.inf
    chi2_limit: float = torch.inf

    def answers(
        self,
        acquisition: Acquisition,
        attenuation: Float[Tensor, "voxel measurement"],
        sigma: Float[Tensor, " voxel"],
        device: str = "cpu",
        label: str = "maps",
    ) -> Answers:
        """Of measured attenuations and their noise, a thousand voxels at a time.

        The acquisition has the shells of the model's: see `protocol.matched`. The same input gives
        the same answer, whatever voxels are asked for beside it.
        """
        parts = []
        chunks = list(torch.arange(len(sigma)).split(TOGETHER))
        for some in progress(chunks, label):
            parts.append(self._answers(acquisition, attenuation[some], sigma[some], device))
        return Answers(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def _answers(
        self, acquisition: Acquisition, attenuation: Tensor, sigma: Tensor, device: str
    ) -> tuple[Tensor, ...]:
        table = features(acquisition, attenuation, 1 / sigma)
        draws = self.flow.samples(table, DRAWS, device)
        quantiles = draws.quantile(torch.tensor(QUANTILES, dtype=draws.dtype), 1)
        shrinkage = draws.std(1) / self.prior_spread
        low, high = self.kernels.tissue.snr
        flagged = [
            self.distance(table) > self.distance_limit,
            self.chi2(acquisition, attenuation, sigma, _few(draws)) > self.chi2_limit,
            (1 / sigma < low) | (1 / sigma > high),
            (shrinkage[:, TISSUE] > DETERMINED).all(1),
        ]
        flags = torch.stack(flagged, 1).long() @ torch.tensor(tuple(FLAGS.values()))
        silent = ((flags & UNANSWERED) > 0)[:, None]
        numbers = (torch.where(silent, torch.nan, x) for x in (*quantiles, shrinkage))
        return (*numbers, flags)

    def distance(self, table: Float[Tensor, "voxel feature"]) -> Float[Tensor, " voxel"]:
        """Mahalanobis distance from the training features."""
        away = table - self.flow.centre[: table.shape[1]]
        return ((away @ self.precision) * away).sum(1).clamp_min(0).sqrt()

    def chi2(
        self,
        acquisition: Acquisition,
        attenuation: Float[Tensor, "voxel measurement"],
        sigma: Float[Tensor, " voxel"],
        draws: Float[Tensor, "voxel draw quantity"],
    ) -> Float[Tensor, " voxel"]:
        """Squared residuals per measurement of the signal that draws of the posterior predict.

        Along the fibre axis of the signal itself; the variance is that of the noise and that of
        the draws' signals. About 1 for tissue of the prior.
        """
        count, each, _ = draws.shape
        flat, ones = draws.flatten(0, 1), torch.ones(count * each, dtype=torch.float64)
        g_ratio = sum(self.kernels.tissue.g_ratio) / 2 * ones
        voxels = Voxels(torch.arange(count * each), flat, g_ratio, ones)
        axis = fibre_axes(acquisition, attenuation).repeat_interleave(each, 0)
        expected = signals(acquisition, voxels.kernels(self.kernels), axis)
        weighted = ~acquisition.unweighted
        scaled = expected.unflatten(0, (count, each))[..., weighted] / sigma[:, None, None]
        mean, noise = rician_mean(scaled, 1.0), rician_std(scaled, 1.0).square().mean(1)
        residual = attenuation[:, weighted] / sigma[:, None] - mean.mean(1)
        return (residual.square() / (noise + mean.var(1))).mean(1)


def _few(draws: Float[Tensor, "voxel draw quantity"]) -> Float[Tensor, "voxel few quantity"]:
    """Those whose signals are predicted, of all members."""
    return draws[:, :: DRAWS // PREDICTED]


def fibre_axes(
    acquisition: Acquisition, attenuation: Float[Tensor, "voxel measurement"]
) -> Float[Tensor, "voxel 3"]:
    """Directions of least signal: of sum (S - mean of its shell) n n', the lowest eigenvector."""
    moment = attenuation.new_zeros(len(attenuation), 3, 3)
    b, Delta = acquisition.b_value.round(decimals=3), acquisition.durations("Delta")
    shells = torch.stack([b, Delta], 1)
    for shell in torch.unique(shells[~acquisition.unweighted], dim=0):
        rows = (shells == shell).all(1)
        signal = attenuation[:, rows]
        n = acquisition.direction[rows]
        moment += torch.einsum("vm,ma,mb->vab", signal - signal.mean(1, keepdim=True), n, n)
    return torch.linalg.eigh(moment).eigenvectors[..., 0]


def train_posterior(
    kernels: Kernels, training: PosteriorTraining, seed: int, checkpoint: Path | None = None
) -> MapModel:
    """Draw tissues, simulate their voxels, train the flow, and set the limits of its answers.

    The result depends on the arguments alone. A killed training goes on from `checkpoint`.
    """
    devices = devices_named(training.device, training.gpus)
    examples = simulate_examples(kernels, training.substrates, training.voxels, seed)
    bounds = bounds_of(kernels.tissue)
    flow = train_on(devices, train_flow, examples, bounds, training.flow, seed, checkpoint)
    assert examples.table is not None and examples.target is not None
    precision = torch.linalg.inv(torch.cov(examples.table.T))
    model = MapModel(kernels, flow, examples.target.std(0), precision)
    judged = draw_voxels(kernels.tissue, min(JUDGED, training.substrates), 1, seed + FOR_LIMITS)
    attenuation = simulate_measured(kernels, judged, seed + FOR_LIMITS)
    table = features(kernels.acquisition, attenuation, judged.snr)
    draws = [_few(flow.samples(some, DRAWS, devices[0])) for some in table.split(TOGETHER)]
    misfit = model.chi2(kernels.acquisition, attenuation, 1 / judged.snr, torch.cat(draws))
    limits = [float(x.quantile(1 - FALSE_ALARMS)) for x in (model.distance(table), misfit)]
    return replace(model, distance_limit=limits[0], chi2_limit=limits[1])


@store("spinmesh/map_calibration", version=1, stage="maps")
@dataclass(frozen=True, eq=False)
class MapCalibration:
    """What the posterior says of held-out substrates, one voxel each, beside what they hold.

    `rank` is the part of the draws below the truth.
    """

    names: tuple[str, ...]
    truth: Float[Tensor, "voxel quantity"] = quantity("as named")
    rank: Float[Tensor, "voxel quantity"] = quantity()
    mean: Float[Tensor, "voxel quantity"] = quantity("as named")
    shrinkage: Float[Tensor, "voxel quantity"] = quantity()
    snr: Float[Tensor, " voxel"] = quantity()
    flags: Int[Tensor, " voxel"] = quantity()
    prior_spread: Float[Tensor, " quantity"] = quantity("as named")

    def rows(self) -> list[dict[str, Any]]:
        """For each quantity and band of SNR: coverage, errors beside the prior's, shrinkage."""
        table = []
        for (low, high), (number, name) in (
            (band, pair) for band in SNR_BANDS for pair in enumerate(self.names)
        ):
            inside = (self.snr >= low) & (self.snr < high)
            error = self.mean[inside, number] - self.truth[inside, number]
            held = coverage(self.rank[inside, number, None], LEVELS)[:, 0]
            numbers = {
                f"coverage_{level:.0%}": float(x) for level, x in zip(LEVELS, held, strict=True)
            }
            table.append(
                {"quantity": name, "snr": f"{low:g}-{high:g}", "voxels": int(inside.sum())}
                | numbers
                | {
                    "rmse": float(error.square().mean().sqrt()),
                    "prior_sd": float(self.prior_spread[number]),
                    "median_shrinkage": float(self.shrinkage[inside, number].median()),
                }
            )
        return table


def calibrate(
    model: MapModel, substrates: int, seed: int, device: str = "cpu", draws: int = 300
) -> MapCalibration:
    """Ranks and errors on substrates that a training of this seed did not draw, one voxel each."""
    kernels, device = model.kernels, device_named(device)
    voxels = draw_voxels(kernels.tissue, substrates, 1, seed + HELD_OUT)
    attenuation = simulate_measured(kernels, voxels, seed + HELD_OUT)
    table = features(kernels.acquisition, attenuation, voxels.snr)
    rank, mean, spread = [], [], []
    for some in progress(
        list(torch.arange(substrates).split(TOGETHER * DRAWS // draws)), "calibrating"
    ):
        samples = model.flow.samples(table[some], draws, device, seed=1)
        rank.append(ranks(samples, voxels.quantities[some]))
        mean.append(samples.mean(1))
        spread.append(samples.std(1) / model.prior_spread)
    flags = model.answers(kernels.acquisition, attenuation, 1 / voxels.snr, device).flags
    return MapCalibration(
        tuple(QUANTITIES),
        voxels.quantities,
        torch.cat(rank),
        torch.cat(mean),
        torch.cat(spread),
        voxels.snr,
        flags,
        model.prior_spread,
    )
