"""`spinmesh reconstruct`: from a measured signal to a mesh, its uncertainty and its credibility."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from spinmesh.cli import measured
from spinmesh.errors import ConfigError

# What --free may name, and what the inversion calls it.
FREE = {
    "diffusivity": "diffusivity",
    "t2": "t2",
    "kappa": "permeability",
    "permeability": "permeability",
    "fraction": "density",
    "density": "density",
}
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
        str | None, typer.Option(help="Unknowns besides the shape, such as diffusivity,kappa.")
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
    quantities = _quantities(free)
    from spinmesh.bloch_torrey import Signals
    from spinmesh.cli.results import write_results
    from spinmesh.inversion import reconstruct as find_shape
    from spinmesh.inversion import refuse_other_protocol
    from spinmesh.io import load
    from spinmesh.io.acquisitions import read_acquisition
    from spinmesh.settings import Free, Reconstruct, load_tissue
    from spinmesh.shapes import ShapeModel
    from spinmesh.tissue import Tissue

    settings = Reconstruct(
        pose=_pose(pose),
        free=tuple(Free(quantity=name) for name in quantities),
        iterations=iterations,
        starts=starts,
        samples=samples,
    )
    acquisition = read_acquisition(**measured.along_image(files, signal))
    target = measured.target_of(signal, acquisition, snr, voxel, roi)
    shapes = load(ShapeModel, model)  # type: ignore[type-abstract]
    filling = Tissue.uniform(diffusivity, labels=shapes.basis.template.labels)
    if tissue is not None:
        filling = Tissue.from_settings(load_tissue(tissue))
    signals = None
    if training_signals is not None:
        signals = load(Signals, training_signals)
        refuse_other_protocol(signals, target.acquisition)
    result = find_shape(target, shapes, filling, settings, seed, signals, out / CHECKPOINT)
    for line in write_results(result, shapes, out, seed, str(signal)):
        typer.echo(line, err=line.startswith("WARNING"))


def _quantities(free: str | None) -> list[Any]:
    """The inversion's names of what --free lists."""
    names = [name.strip() for name in (free or "").split(",") if name.strip()]
    unknown = [name for name in names if name not in FREE]
    if unknown:
        raise ConfigError(f"--free {','.join(unknown)}: no such unknown. Known: {', '.join(FREE)}.")
    return [FREE[name] for name in names]


def _pose(pose: str) -> Any:
    if pose not in ("known", "unknown"):
        raise ConfigError(f"--pose {pose}: give known or unknown.")
    return pose
