"""The files that a reconstruction from the command line leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spinmesh.cli.measured import write_summary
from spinmesh.inversion import (
    DESCRIPTION,
    Credibility,
    Reconstruction,
    credibility,
    describe,
    describe_posterior,
    posterior_shapes,
)
from spinmesh.io import save
from spinmesh.io.meshes import write_mesh
from spinmesh.provenance import Provenance
from spinmesh.report.reconstruction import plot_reconstruction
from spinmesh.shapes import ShapeModel


def write_results(
    result: Reconstruction, model: ShapeModel, folder: Path, seed: int, signal: Path
) -> tuple[list[str], Sequence[str], dict[str, Any]]:
    """Mesh, samples, store, figure and, last, summary.json; returns words, warnings and numbers.

    `reconstruction.vtu` has point data `spread_um`, the posterior spread of every node; `samples`
    is a Substrates store of posterior shapes with their latents and free quantities.
    """
    shapes = posterior_shapes(result, model)
    trust = credibility(result, model)
    posterior = describe_posterior(shapes)
    spread = {"spread_um": result.spread.numpy()}
    write_mesh(result.mesh, folder / "reconstruction.vtu", spread)
    save(shapes, folder / "samples", Provenance(seed))
    save(result, folder / "reconstruction.zarr", Provenance(seed))
    plot_reconstruction(result, folder / "reconstruction.png", model)
    summary = _summary(result, trust, posterior)
    write_summary(folder, signal, seed, summary)
    return _lines(summary, folder), trust.warnings, summary


def _summary(
    result: Reconstruction, trust: Credibility, posterior: Mapping[str, tuple[float, float]]
) -> dict[str, Any]:
    best, draws = describe(result.mesh), result.posterior.samples
    columns = zip(draws.quantities, draws.physics.T, strict=True)
    free = {label: {"mean": float(x.mean()), "sd": float(x.std())} for label, x in columns}
    shape = {
        f"{name}_{unit.replace('^', '')}": {"best": best[name], "mean": mean, "sd": sd}
        for (name, unit), (mean, sd) in zip(DESCRIPTION.items(), posterior.values(), strict=True)
    }
    return {
        "measurements": len(result.fit.chi2),
        "snr": 1 / result.target.sigma if result.target.sigma > 0 else None,
        "warnings": list(trust.warnings),
        "of_the_signal": trust.of_the_signal,
        "fit": {
            "chi2": trust.chi2,
            "chi2_per_measurement": trust.chi2 / len(result.fit.chi2),
            "degrees_of_freedom": trust.degrees,
            "misfit_probability": trust.misfit_probability,
            "squared_distance_from_family_mean": trust.distance,
            "largest_of_training_shapes": trust.family_distance,
            "data_determined": result.fit.determined,
            "latent": len(result.posterior.latent.mean),
            "iterations": int(result.history[-1, 1]),
        },
        "shape": shape,
        "free": free,
        "rotation": result.rotation.tolist(),
    }


def _lines(summary: Mapping[str, Any], folder: Path) -> list[str]:
    fit = summary["fit"]
    words = [
        f"{name.rpartition('_')[0].replace('_', ' ')} {v['mean']:.3g} +- {v['sd']:.2g} "
        f"{name.rpartition('_')[2]}"
        for name, v in summary["shape"].items()
    ]
    if not summary["of_the_signal"]:
        words = ["no number of the shape is printed, for it is not known from the signal"]
    words += [f"{name} {v['mean']:.3g} +- {v['sd']:.2g}" for name, v in summary["free"].items()]
    return [
        f"{folder}: {', '.join(words)}",
        f"chi2 per measurement {fit['chi2_per_measurement']:.2f}, {fit['data_determined']} of "
        f"{fit['latent']} directions known from the data",
    ]
