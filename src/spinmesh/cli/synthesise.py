"""`spinmesh synthesise`: images of tissue that could have produced a measured signal, or of any."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spinmesh.cli import measured
from spinmesh.errors import ConfigError

if TYPE_CHECKING:
    from spinmesh.inversion import Target


@measured.taking_acquisition
def synthesise(
    model: Annotated[Path, typer.Option(help="Store of a score model, trained on bundles.")],
    out: measured.Out,
    files: dict[str, Any],
    count: Annotated[int, typer.Option(min=2, help="Images.")] = 64,
    signal: Annotated[
        Path | None, typer.Option(help="SIGNAL.csv, .nii or .nii.gz; none: images of the prior.")
    ] = None,
    snr: Annotated[
        float | None, typer.Option(help="Of the unweighted signal; the model's if left out.")
    ] = None,
    voxel: measured.Voxel = None,
    roi: measured.Roi = None,
    guidance: Annotated[
        float, typer.Option(help="0 ignores the signal, 1: posterior, above: exaggerated.")
    ] = 1.0,
    steps: Annotated[int, typer.Option(min=2, help="Of the sampler.")] = 16,
    simulated: Annotated[int, typer.Option(min=0, help="Images to simulate again.")] = 8,
    seed: measured.Seed = 1,
    force: measured.Force = False,
) -> None:
    """Draw images of the tissue behind a signal: Zarr, PNG and a summary of what they say.

    The signal must be of the model's protocol; unweighted measurements may come on top.
    """
    # Everything a user can get wrong is looked at before the first second of compute.
    measured.refuse_full(out, force)
    from spinmesh.images import draw_posterior, known_protocol, relative_to_zero
    from spinmesh.io import load, save
    from spinmesh.provenance import Provenance
    from spinmesh.report.synthesis import plot_draws
    from spinmesh.scores.model import ScoreModel
    from spinmesh.scores.samplers import quick_sampler
    from spinmesh.settings.synthesise import Sampling

    trained = load(ScoreModel, model)
    sampling = Sampling(
        sampler=quick_sampler(trained.sde), steps=steps, count=count, guidance=guidance
    )
    attenuation, doubt = None, None
    if signal is not None:
        protocol = known_protocol(trained)
        snr = protocol.snr if snr is None else snr
        target = _weighted(measured.target_of(signal, files, snr, voxel, roi))
        protocol.refuse_other(target.acquisition)
        doubt = protocol.doubt(target.sigma)
        attenuation, reference = target.attenuation, target.acquisition.reference
        if reference is not None:
            attenuation = relative_to_zero(trained, sampling, seed, attenuation, reference)
    elif files or any(given is not None for given in (snr, voxel, roi)):
        raise ConfigError("an acquisition, --snr, --voxel and --roi go with --signal. Give it too.")
    drawn = draw_posterior(trained, sampling, seed, attenuation, min(simulated, count))
    save(drawn, out / "images.zarr", Provenance(seed))
    plot_draws(drawn, out / "gallery.png")
    summary = drawn.summary()
    measured.write_summary(out, signal, seed, {"doubt": doubt} | summary)
    measured.tell("\n".join(_lines(summary, out)), file=str(out), **summary)
    if doubt is not None:
        typer.echo(f"WARNING: {doubt}", err=True)


def _weighted(target: Target) -> Target:
    """Without the unweighted measurements, which are 1 by definition and no condition."""
    from spinmesh.inversion import Target

    weighted = ~target.acquisition.unweighted
    if not bool(weighted.any()):
        raise ConfigError("--signal: nothing is diffusion-weighted. Give the whole series.")
    acquisition = target.acquisition.select(weighted.nonzero()[:, 0])
    return Target(acquisition, target.attenuation[weighted], target.sigma)


def _lines(summary: dict[str, Any], out: Path) -> list[str]:
    words = [
        "{} {mean:.3g} [{interval_80[0]:.3g}, {interval_80[1]:.3g}] {unit}".format(
            name.replace("_", " "), **numbers
        ).removesuffix(" 1")
        for name, numbers in summary["statistics"].items()
    ]
    lines = [f"{out}: {summary['images']} images; mean [80 %]: {', '.join(words)}"]
    again = summary.get("resimulated")
    if again is not None and again["chi2_per_measurement"] is not None:
        median = again["chi2_per_measurement"]["median"]
        lines.append(f"simulated again: chi2 per measurement {median:.2f} (median; 1 if it fits)")
    return lines
