"""`spinmesh reconstruct`: from a measured signal to a mesh, its uncertainty and its credibility."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from spinmesh.cli import measured
from spinmesh.settings import Reconstruct, load_tissue

# In the folder of the results until the search is done; it goes on from there when started again.
CHECKPOINT = "search.pt"


@measured.taking_acquisition
def reconstruct(
    signal: Annotated[Path, typer.Argument(help="SIGNAL.csv, .nii or .nii.gz.")],
    model: Annotated[Path, typer.Option(help="Store of a shape model.")],
    out: measured.Out,
    files: dict[str, Any],
    snr: Annotated[
        float | None,
        typer.Option(help="Of one voxel's unweighted signal; estimated from repeats if left out."),
    ] = None,
    voxel: measured.Voxel = None,
    roi: measured.Roi = None,
    tissue: Annotated[Path | None, typer.Option(help="tissue.yaml, per compartment.")] = None,
    diffusivity: Annotated[float, typer.Option(help="um^2/ms, without --tissue.")] = 2.0,
    free: Annotated[
        str | None, typer.Option(help="Unknowns besides the shape: diffusivity,t2,...")
    ] = None,
    pose: Annotated[str, typer.Option(help="known or unknown.")] = "known",
    training_signals: Annotated[
        Path | None, typer.Option(help="Store of the training shapes' signals: better starts.")
    ] = None,
    iterations: Annotated[int, typer.Option(help="Gauss-Newton steps at most.")] = 20,
    starts: Annotated[int, typer.Option(help="Shapes the search starts from.")] = 3,
    samples: Annotated[int, typer.Option(min=2, help="Posterior samples.")] = 100,
    seed: measured.Seed = 1,
    force: measured.Force = False,
) -> None:
    """Find the mesh whose simulated signal explains a measured one.

    Stopped and started again with the same options, it goes on where it was.
    """
    # Everything a user can get wrong is looked at before the first second of compute.
    measured.refuse_full(out, force, CHECKPOINT)
    names = [name.strip() for name in (free or "").split(",") if name.strip()]
    values = {"pose": pose, "iterations": iterations, "starts": starts, "samples": samples}
    values["free"] = [{"quantity": name} for name in names]
    settings = Reconstruct.checked(values, "spinmesh reconstruct")
    from spinmesh.bloch_torrey import Signals
    from spinmesh.cli.results import write_results
    from spinmesh.inversion import reconstruct as find_shape
    from spinmesh.inversion import refuse_other_protocol
    from spinmesh.io import load, load_optional
    from spinmesh.shapes import ShapeModel
    from spinmesh.tissue import Tissue

    target = measured.target_of(signal, files, snr, voxel, roi)
    shapes = load(ShapeModel, model)  # type: ignore[type-abstract]
    filling = Tissue.uniform(diffusivity, labels=shapes.basis.template.labels)
    if tissue is not None:
        filling = Tissue.from_settings(load_tissue(tissue))
    signals = load_optional(Signals, training_signals or [])
    if signals is not None:
        refuse_other_protocol(signals, target.acquisition)
    result = find_shape(target, shapes, filling, settings, seed, signals, out / CHECKPOINT)
    words, warnings, summary = write_results(result, shapes, out, seed, signal)
    measured.tell("\n".join(words), file=str(out), **summary)
    for warning in warnings:
        typer.echo(f"WARNING: {warning}", err=True)
