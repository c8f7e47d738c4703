"""A map model beside exact posteriors, turned voxels, and the clock: docs/methods/maps.md.

`python benchmarks/maps.py results/maps/model.zarr [speed] [rotations] [exact]`; no part named: all.

The exact posteriors are those of the same kernels with all measurements under the Rician law: for
each voxel 24 chains of differential-evolution Metropolis (ter Braak 2006) over ten unknowns, the
g-ratio and the axis too.
"""

from __future__ import annotations

import sys
import time

import torch
from torch import Tensor

from spinmesh.io import load
from spinmesh.maps import QUANTITIES, MapModel, Voxels
from spinmesh.maps.model import fibre_axes
from spinmesh.maps.voxels import (
    axon_fraction,
    draw_voxels,
    features,
    measured,
    random_axes,
    signals,
    simulate_measured,
)
from spinmesh.noise import rician_mean

# Voxels of each part, and their SNR.
TIMED, TURNED, EXACT, SNR = 3000, 150, 50, 40.0
CHAINS, STEPS, DRAWS = 24, 4000, 300
# Of a chain: the part that is thrown away, and every how many-th of the rest is a draw.
BURNT, EVERY = 0.5, 4


def voxels(model: MapModel, count: int, seed: int) -> Voxels:
    """Of the prior, at one SNR."""
    drawn = draw_voxels(model.kernels.tissue, count, 1, seed)
    return Voxels(drawn.group, drawn.quantities, drawn.g_ratio, torch.full_like(drawn.snr, SNR))


def answer(model: MapModel, attenuation: Tensor) -> tuple[Tensor, Tensor]:
    """Medians and standard deviations of the flow's draws."""
    snr = torch.full((len(attenuation),), SNR).double()
    draws = model.flow.samples(features(model.kernels.acquisition, attenuation, snr), DRAWS)
    return draws.median(1).values, draws.std(1)


def speed(model: MapModel) -> None:
    """CPU seconds of all that `spinmesh maps` does with voxels."""
    drawn = draw_voxels(model.kernels.tissue, TIMED, 1, 7)
    attenuation = simulate_measured(model.kernels, drawn, 7)
    begun = time.process_time()
    model.answers(model.kernels.acquisition, attenuation, 1 / drawn.snr)
    spent = time.process_time() - begun
    print(f"{TIMED} voxels: {spent:.1f} CPU s; 100,000: {spent * 1e5 / TIMED:.0f} (target 600)")


def rotations(model: MapModel) -> None:
    """Changes of the medians of turned voxels, without noise, under the protocol's directions."""
    acquisition, generator = model.kernels.acquisition, torch.Generator().manual_seed(1)
    coefficients = voxels(model, TURNED, 8).kernels(model.kernels)
    axes = [random_axes(TURNED, generator) for _ in range(2)]
    clean = [signals(acquisition, coefficients, axis) for axis in axes]
    (first, deviation), (second, _) = (answer(model, rician_mean(s, 1 / SNR)) for s in clean)
    snr = torch.full((TURNED,), SNR).double()
    noisy = [answer(model, measured(acquisition, clean[0], snr, generator))[0] for _ in range(2)]
    for name, change in {
        "turned, in deviations of the prior": (first - second) / model.prior_spread,
        "turned, in deviations of the posterior": (first - second) / deviation,
        "other noise, in deviations of the posterior": (noisy[0] - noisy[1]) / deviation,
    }.items():
        show(f"{name}, RMS", change.square().mean(0).sqrt())


def exact(model: MapModel) -> None:
    """The flow's posteriors beside those of Markov chains."""
    kernels, generator = model.kernels, torch.Generator().manual_seed(3)
    acquisition, truth = kernels.acquisition, voxels(model, EXACT, 123)
    clean = signals(acquisition, truth.kernels(kernels), random_axes(EXACT, generator))
    noisy = measured(acquisition, clean, truth.snr, generator)
    chains = markov_chains(model, noisy, generator)
    half = chains.shape[1] // 2
    deviation, median = chains.std(1), chains.median(1).values
    found, spread = answer(model, noisy)
    apart = (found - median) / deviation
    halves = (chains[:, :half].mean(1) - chains[:, half:].mean(1)) / deviation
    show("halves of the chains apart, exact deviations, middle voxel", middle(halves.abs()))
    show("medians apart, exact deviations, middle voxel", middle(apart.abs()))
    show("the same, RMS", apart.square().mean(0).sqrt())
    show("deviation over the exact one, middle voxel", middle(spread / deviation))
    for name, guess in {"flow's medians": found, "chains' medians": median}.items():
        show(f"RMS error of the {name}", (guess - truth.quantities).square().mean(0).sqrt())


def markov_chains(model: MapModel, noisy: Tensor, generator: torch.Generator) -> Tensor:
    """Draws (voxel, draw, quantity)."""
    acquisition, tissue = model.kernels.acquisition, model.kernels.tissue
    ranges = torch.tensor(
        [
            tissue.radius_um,
            tissue.bead_amplitude,
            tissue.orientation_order,
            tissue.packed_fraction,
            tissue.g_ratio,
            tuple(x**0.5 for x in tissue.free_water_fraction),
            tissue.diffusivity_inside_um2_per_ms,
            tissue.diffusivity_between_um2_per_ms,
        ]
    ).double()
    observed = noisy[:, ~acquisition.unweighted].repeat_interleave(CHAINS, 0) * SNR

    def unpacked(place: Tensor) -> tuple[Tensor, Tensor]:
        x = ranges[:, 0] + (ranges[:, 1] - ranges[:, 0]) * place
        axons = axon_fraction(x[:, 3], x[:, 4])
        columns = (x[:, 0], x[:, 1], x[:, 2], axons, x[:, 5] ** 2, x[:, 6], x[:, 7])
        return torch.stack(columns, 1), x[:, 4]

    def log_likelihood(place: Tensor, axis: Tensor) -> Tensor:
        quantities, g_ratio = unpacked(place)
        body = Voxels(torch.arange(len(place)), quantities, g_ratio, torch.ones_like(g_ratio))
        signal = signals(acquisition, body.kernels(model.kernels), axis)
        signal = signal[:, ~acquisition.unweighted] * SNR
        bessel = torch.special.i0e(observed * signal).log()
        return (bessel - (observed - signal).square() / 2).sum(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    def unit(axis: Tensor) -> Tensor:
        return axis / axis.norm(dim=1, keepdim=True)

    count, width = len(noisy), len(ranges)
    place = uniform(count * CHAINS, width)
    axis = fibre_axes(acquisition, noisy).repeat_interleave(CHAINS, 0)
    axis = unit(axis + 0.1 * normal(len(axis), 3))
    likelihood, draws = log_likelihood(place, axis), []
    for step in range(STEPS):
        # The likelihood sets in slowly, so that chains spread before they settle.
        temper = min(1.0, 5 * (step + 1) / STEPS)
        every = place.unflatten(0, (count, CHAINS))
        order = (uniform(count, CHAINS, CHAINS) + 2 * torch.eye(CHAINS)).argsort(2)
        one, other = (every.gather(1, order[..., k, None].expand(-1, -1, width)) for k in range(2))
        # A whole difference now and then jumps between modes (ter Braak 2006).
        scale = 1.0 if step % 10 == 0 else 2.38 / (2 * width) ** 0.5 * float(uniform(1)) ** 0.5
        trial = (every + scale * (one - other) + 1e-3 * normal(*every.shape)).flatten(0, 1)
        trial = trial.remainder(2.0)
        trial = torch.where(trial > 1, 2 - trial, trial)
        turn = (0.02 if step % 2 else 0.1) * float(uniform(1))
        turned = unit(axis + turn * normal(len(axis), 3))
        there = log_likelihood(trial, turned)
        taken = uniform(len(there)).log() < temper * (there - likelihood)
        place[taken], axis[taken], likelihood[taken] = trial[taken], turned[taken], there[taken]
        if step >= BURNT * STEPS and step % EVERY == 0:
            draws.append(unpacked(place)[0].unflatten(0, (count, CHAINS)))
    return torch.cat(draws, 1)


def middle(values: Tensor) -> Tensor:
    """Median over the voxels."""
    return values.median(0).values


def show(name: str, values: Tensor) -> None:
    """A line with a number for each quantity."""
    pairs = zip(QUANTITIES, values.tolist(), strict=True)
    print(f"{name}: " + ", ".join(f"{quantity} {value:.3g}" for quantity, value in pairs))


def main() -> None:
    """The parts that are named, or all."""
    torch.set_num_threads(1)
    model = load(MapModel, sys.argv[1])
    parts = {"speed": speed, "rotations": rotations, "exact": exact}
    for name in sys.argv[2:] or parts:
        parts[name](model)


if __name__ == "__main__":
    main()
