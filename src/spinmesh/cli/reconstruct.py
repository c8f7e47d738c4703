"""`spinmesh reconstruct`: from a measured signal to a mesh, its uncertainty and its credibility."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spinmesh.errors import ConfigError

if TYPE_CHECKING:
    from spinmesh.inversion import Target
    from spinmesh.sequence import Acquisition

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


def reconstruct(
    signal: Annotated[Path, typer.Argument(help="SIGNAL.csv, .nii or .nii.gz.")],
    model: Annotated[Path, typer.Option(help="Store of a shape model.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    scheme: Annotated[str | None, typer.Option(help="Camino STEJSKALTANNER scheme.")] = None,
    bvals: Annotated[str | None, typer.Option(help="FSL b-values, s/mm^2.")] = None,
    bvecs: Annotated[str | None, typer.Option(help="FSL directions.")] = None,
    delta: Annotated[
        str | None, typer.Option("--delta", help="Pulse duration, ms, or file.")
    ] = None,
    Delta: Annotated[
        str | None, typer.Option("--Delta", help="Onset to onset, ms, or file.")
    ] = None,
    snr: Annotated[
        float | None,
        typer.Option(help="Of one voxel's unweighted signal; estimated from repeats if left out."),
    ] = None,
    voxel: Annotated[str | None, typer.Option(help="I,J,K of the voxel, from 0.")] = None,
    roi: Annotated[Path | None, typer.Option(help="Mask whose mean signal is taken.")] = None,
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
    seed: Annotated[int, typer.Option(help="Every random number follows from it.")] = 1,
    force: Annotated[bool, typer.Option("--force", help="Write into a folder with files.")] = False,
) -> None:
    """Find the mesh whose simulated signal explains a measured one.

    Stopped and started again with the same options, it goes on where it was.
    """
    # Everything a user can get wrong is looked at before the first second of compute.
    _refuse_full(out, force)
    quantities = _quantities(free)
    from spinmesh.bloch_torrey import Signals
    from spinmesh.cli.results import write_results
    from spinmesh.config import load_tissue
    from spinmesh.inversion import Free, ReconstructionSpec, ShapeModel, refuse_other_protocol
    from spinmesh.inversion import reconstruct as find_shape
    from spinmesh.io import load
    from spinmesh.tissue import Tissue

    spec = ReconstructionSpec(
        pose=_pose(pose),
        free=tuple(Free(name) for name in quantities),
        iterations=iterations,
        starts=starts,
        samples=samples,
    )
    acquisition = _acquisition(scheme, bvals, bvecs, delta, Delta)
    target = _target(signal, acquisition, snr, voxel, roi)
    shapes = load(ShapeModel, model)
    filling = Tissue.uniform(diffusivity, labels=shapes.basis.template.labels)
    if tissue is not None:
        filling = load_tissue(tissue).tissue()
    known = None
    if training_signals is not None:
        known = load(Signals, training_signals)
        refuse_other_protocol(known, target.acquisition)
    found = find_shape(target, shapes, filling, spec, seed, known, out / CHECKPOINT)
    for line in write_results(found, shapes, out, seed, str(signal)):
        typer.echo(line, err=line.startswith("WARNING"))


def _refuse_full(out: Path, force: bool) -> None:
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out}: is a file. Give a folder.")
    if out.is_dir() and {file.name for file in out.iterdir()} - {CHECKPOINT} and not force:
        raise ConfigError(
            f"--out {out}: the folder is not empty. Give another one, or --force to replace the "
            "results in it."
        )


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


def _acquisition(
    scheme: str | None, bvals: str | None, bvecs: str | None, delta: str | None, Delta: str | None
) -> Acquisition:
    from spinmesh.cli import _number_or_file
    from spinmesh.io.acquisitions import read_acquisition

    return read_acquisition(
        bvals=bvals,
        bvecs=bvecs,
        delta_ms=_number_or_file(delta),
        Delta_ms=_number_or_file(Delta),
        scheme=scheme,
    )


def _target(
    signal: Path, acquisition: Acquisition, snr: float | None, voxel: str | None, roi: Path | None
) -> Target:
    from spinmesh.io.targets import read_target

    if signal.name.endswith((".nii", ".nii.gz")):
        return read_target(acquisition, snr, nifti=signal, voxel=_voxel(voxel), roi=roi)
    if signal.suffix == ".csv":
        return read_target(acquisition, snr, csv=signal, voxel=_voxel(voxel), roi=roi)
    raise ConfigError(f"{signal}: unknown kind of file. Give a .csv, .nii or .nii.gz.")


def _voxel(voxel: str | None) -> tuple[int, int, int] | None:
    if voxel is None:
        return None
    try:
        i, j, k = (int(word) for word in voxel.split(","))
    except ValueError:
        raise ConfigError(f"--voxel {voxel}: give three indices from 0, as 40,52,30.") from None
    return i, j, k
